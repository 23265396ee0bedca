"""Any image-text model of transformers as a frozen teacher: the paper's pooling (docs/method.md#teacher) of one hidden
layer.

A picture is read in the model's own chat form without words, a prompt without picture. torchvision is not needed.

# N pictures, P prompts, L tokens, W width
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

from xtok.data.digests import digest_of, folder_digest


class HuggingFaceTeacher:
    """`name`: hub id or folder. dtype: torch's name, or "auto" for the one it was saved in.

    Raises:
        ValueError: no such model, no image-text model, or it has no such layer.
        ImportError: transformers is missing.
    """

    def __init__(self, name: str, layer: int, dtype: str = "auto") -> None:
        transformers = import_transformers()
        self.name, self.layer = name, layer
        try:
            self.processor = load_processor(name)
            model = transformers.AutoModelForImageTextToText.from_pretrained(name, dtype=dtype, use_safetensors=True)
        except (OSError, ValueError) as error:
            raise ValueError(
                f"no image-text teacher {name!r}: {error}\nGive embedded, a preset, a folder, or a hub id of a model "
                "that AutoModelForImageTextToText opens"
            ) from error
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = model.base_model.to(self.device).eval().requires_grad_(False)  # without the vocabulary's logits
        config = model.config.get_text_config()
        states = config.num_hidden_layers + 1
        if not -states <= layer < states:
            raise ValueError(f"{name} has {states} hidden states; layer {layer} is none of them")
        self.width = int(config.hidden_size)
        self.image_token: int = self._image_token(model.config)
        self._picture_text = self._chat([{"type": "image"}])
        weights = getattr(model.config, "_commit_hash", None) or folder_digest(Path(name))
        self.digest = digest_of(weights=weights, layer=layer, picture=self._picture_text, text=self._chat_text("{}"))

    @torch.inference_mode()
    def see(self, pictures: Sequence[np.ndarray]) -> Float[np.ndarray, "N W"]:
        images = [[Image.fromarray(picture)] for picture in pictures]
        inputs = self.processor(
            images=images, text=[self._picture_text] * len(images), padding=True, return_tensors="pt"
        )
        is_image_NL = inputs["input_ids"] == self.image_token
        if not is_image_NL.any(dim=1).all():
            raise ValueError(f"the processor of {self.name} made no image tokens (id {self.image_token})")
        return self._pooled(inputs, is_image_NL)

    @torch.inference_mode()
    def read(self, prompts: Sequence[str]) -> Float[np.ndarray, "P W"]:
        features_PW = np.zeros((len(prompts), self.width), np.float32)
        texts = [self._chat_text(prompt) for prompt in prompts]
        encoded = self.processor.tokenizer(
            texts, return_offsets_mapping=True, add_special_tokens=self._template is None
        )
        lengths = [len(ids) for ids in encoded["input_ids"]]
        for length in set(lengths):  # without padding, which not all families ignore
            rows = [row for row, each in enumerate(lengths) if each == length]
            starts = [texts[row].rindex(prompts[row]) for row in rows]
            first_P1 = torch.tensor(starts)[:, None]
            last_P1 = first_P1 + torch.tensor([len(prompts[row]) for row in rows])[:, None]
            begin_PL, end_PL = torch.tensor([encoded["offset_mapping"][row] for row in rows]).unbind(-1)
            is_prompt_PL = (end_PL > first_P1) & (begin_PL < last_P1) & (end_PL > begin_PL)  # specials span nothing
            ids_PL = torch.tensor([encoded["input_ids"][row] for row in rows])
            inputs = {"input_ids": ids_PL, "attention_mask": torch.ones_like(ids_PL)}
            features_PW[rows] = self._pooled(inputs, is_prompt_PL)
        return features_PW

    def _pooled(self, inputs: Any, mask_NL: Bool[Tensor, "N L"]) -> Float[np.ndarray, "N W"]:
        """Mean of the layer over the masked tokens."""
        inputs = {key: value.to(self.device) for key, value in inputs.items() if isinstance(value, Tensor)}
        for key, value in inputs.items():
            if value.is_floating_point():
                inputs[key] = value.to(self.model.dtype)
        output = self.model(**inputs, output_hidden_states=True, use_cache=False)
        state_NLW = output.hidden_states[self.layer].float()
        weight_NL1 = mask_NL.to(self.device).float()[..., None]
        return ((state_NLW * weight_NL1).sum(1) / weight_NL1.sum(1)).cpu().numpy()

    @property
    def _template(self) -> Any:
        return getattr(self.processor, "chat_template", None) or getattr(
            self.processor.tokenizer, "chat_template", None
        )

    def _chat(self, content: list[dict[str, str]]) -> str:
        if self._template is None:  # PaliGemma has no chat form; its processor puts the image first by itself
            return "".join(part.get("text", "") for part in content)
        message = [{"role": "user", "content": content}]
        tokenizer = self.processor.tokenizer  # SmolVLM's processor asks its video part
        return tokenizer.apply_chat_template(message, tokenize=False, chat_template=self._template)

    def _chat_text(self, prompt: str) -> str:
        return self._chat([{"type": "text", "text": prompt}])

    def _image_token(self, config: Any) -> int:
        for owner, key in (
            (config, "image_token_id"),
            (config, "image_token_index"),
            (self.processor, "image_token_id"),
        ):
            if (token := getattr(owner, key, None)) is not None:
                return int(token)
        raise ValueError(f"{self.name} does not say which token stands for a picture (image_token_id in config.json)")


def load_processor(name: str) -> Any:
    """The model's processor; where torchvision is missing, without the part for video, which alone needs it."""
    transformers = import_transformers()
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING
    from transformers.utils import is_torchvision_available

    whole: Any = PROCESSOR_MAPPING.get(type(transformers.AutoConfig.from_pretrained(name)), None)
    if is_torchvision_available() or whole is None or "video_processor" not in whole.get_attributes():
        return transformers.AutoProcessor.from_pretrained(name)

    settings_of_whole = set(inspect.signature(whole.__init__).parameters) - {"self", "video_processor", "kwargs"}

    class WithoutVideo(whole):
        def __init__(self, image_processor: Any = None, tokenizer: Any = None, **settings: Any) -> None:
            super().__init__(image_processor, tokenizer, video_processor=None, **settings)

        @classmethod
        def get_attributes(cls) -> list[str]:
            return ["image_processor", "tokenizer"]

        @staticmethod
        def validate_init_kwargs(processor_config: Any, valid_kwargs: Any) -> Any:
            return whole.validate_init_kwargs(processor_config, settings_of_whole)  # else image_seq_len is lost

    WithoutVideo.__name__ = whole.__name__  # by which transformers looks up its defaults
    return WithoutVideo.from_pretrained(name)


def import_transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise ImportError("teachers need transformers: pip install 'xtok[teacher]' (docs/features.md)") from error
    return transformers
