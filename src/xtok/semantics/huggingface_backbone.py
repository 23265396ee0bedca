"""Any image-text model of transformers as a backbone of a policy: SmolVLM2, Qwen2.5-VL, Qwen3-VL, PaliGemma, ...

It meets `xtok.semantics.backbone.Backbone`. Images come first, then the words, then the state as whole numbers, in the
model's own chat form. What is trained: everything, all but the eyes, small matrices beside its own (LoRA), or nothing.
None of the real weights has been run here; tests have tiny random models of the same families.

# B rows, P places, S of what is appended, H width
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor, nn

from xtok.semantics.backbone import Answer, Observation, Prefix, Read
from xtok.semantics.huggingface import import_transformers, load_processor

Trained = Literal["full", "frozen_vision", "lora", "none"]
STATE_BINS = 256  # a state in words: whole numbers of [-1, 1], as in pi0.5
LORA_LAYERS = r".*(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
VISION = ("vision_tower", "vision_model", "visual")  # names of the eyes, by family
_LOCATION = re.compile(r"<loc(\d{4})>\s*<loc(\d{4})>")  # PaliGemma: y, x of 1024
_PAIR = re.compile(r"\(?\[?\s*(\d+(?:\.\d+)?)\s*,\s*(\d+(?:\.\d+)?)\s*\]?\)?")


class HuggingFaceBackbone:
    """name: hub id or folder. trained: what of it can be. lora_rank: of those matrices. dtype: torch's name, or "auto".

    Raises:
        ValueError: no such model, or no image-text model.
        ImportError: transformers is missing, or peft for LoRA.
    """

    def __init__(self, name: str, trained: Trained = "full", lora_rank: int = 16, dtype: str = "auto") -> None:
        transformers = import_transformers()
        try:
            self.processor = load_processor(name)
            model = transformers.AutoModelForImageTextToText.from_pretrained(name, dtype=dtype, use_safetensors=True)
        except (OSError, ValueError) as error:
            raise ValueError(
                f"no image-text model {name!r}: {error}\nGive embedded, a folder, or a hub id of a model that "
                "AutoModelForImageTextToText opens"
            ) from error
        self.name, self.trained = name, trained
        self.module: nn.Module = model
        config = model.config.get_text_config()
        self.width, self.layers = int(config.hidden_size), int(config.num_hidden_layers)
        self.heads = int(config.num_key_value_heads)
        self.head_width = int(getattr(config, "head_dim", None) or self.width // config.num_attention_heads)
        self._choose(trained, lora_rank)
        self._whole = model.model  # eyes, projector and decoder, without the vocabulary's logits
        self._decoder = self._whole.language_model if hasattr(self._whole, "language_model") else self._whole.text_model
        self._template = getattr(self.processor, "chat_template", None) or getattr(
            self.processor.tokenizer, "chat_template", None
        )

    def _choose(self, trained: Trained, lora_rank: int) -> None:
        model = self.module
        if trained not in ("full", "frozen_vision", "lora", "none"):
            raise ValueError(f"trained is {trained!r}; expected 'full', 'frozen_vision', 'lora' or 'none'")
        model.requires_grad_(trained in ("full", "frozen_vision"))
        if trained == "frozen_vision":
            eyes = [part for name, part in model.named_modules() if name.rsplit(".", 1)[-1] in VISION]
            if not eyes:
                raise ValueError(f"{self.name} has no part called {' or '.join(VISION)}; train it 'full' or by 'lora'")
            for part in eyes:
                part.requires_grad_(False)
        if trained == "lora":
            try:
                from peft import LoraConfig, inject_adapter_in_model
            except ImportError as error:
                raise ImportError("LoRA needs peft: pip install 'xtok[lora]' (docs/features.md)") from error
            targets = rf"^(?!.*({'|'.join(VISION)})\.).*{LORA_LAYERS}$"
            inject_adapter_in_model(LoraConfig(r=lora_rank, lora_alpha=2 * lora_rank, target_modules=targets), model)

    @property
    def device(self) -> torch.device:
        return next(self.module.parameters()).device

    # -- the protocol -----------------------------------------------------------------------------------------------

    def prepare(self, observations: Sequence[Observation]) -> Any:
        """Tensors of the model's processor, padded.

        Raises:
            ValueError: an observation without a picture.
        """
        if any(not each.pictures for each in observations):
            raise ValueError("an observation has no picture; this backbone reads at least one")
        images = [[Image.fromarray(picture) for picture in each.pictures.values()] for each in observations]
        texts = [self._text(each) for each in observations]
        inputs = self.processor(images=images, text=texts, padding=True, return_tensors="pt")
        return {key: value for key, value in inputs.items() if isinstance(value, Tensor)}

    def read(self, inputs: Any) -> Read:
        given = {
            key: value.to(self.device, self.module.dtype) if value.is_floating_point() else value.to(self.device)
            for key, value in inputs.items()
        }
        self._whole.rope_deltas = None  # Qwen keeps them from one call to the next
        output = self._whole(**given, output_hidden_states=True, use_cache=True)
        keep_BP = given["attention_mask"].bool()
        kv = tuple((layer.keys, layer.values) for layer in output.past_key_values.layers)
        start = keep_BP.sum(1)  # positions count what is kept
        if (delta := getattr(self._whole, "rope_deltas", None)) is not None:
            start = start + delta.view(-1).to(start.device)
        elif self._counts_padding():
            start = torch.full_like(start, keep_BP.shape[1] + 1)
        return Read(Prefix(tuple(output.hidden_states), kv, keep_BP, start))

    def extend(
        self, read: Read, embeddings_BSH: Float[Tensor, "B S H"], keep_BS: Bool[Tensor, "B S"]
    ) -> tuple[Float[Tensor, "B S H"], Read]:
        from transformers import DynamicCache

        prefix = read.prefix
        cache = DynamicCache()
        for number, (keys, values) in enumerate(prefix.keys_values):
            cache.update(keys, values, number)
        keep = torch.cat([prefix.keep_BP, keep_BS.to(self.device)], 1)
        position_BS = prefix.next_position[:, None] + keep_BS.long().to(self.device).cumsum(1) - 1
        output = self._decoder(
            inputs_embeds=embeddings_BSH.to(self.module.dtype),  # type: ignore[arg-type]
            attention_mask=keep.long(),
            position_ids=position_BS,
            past_key_values=cache,
            output_hidden_states=True,
            use_cache=True,
        )
        kv = tuple((layer.keys, layer.values) for layer in output.past_key_values.layers)
        states = zip(prefix.states, output.hidden_states, strict=True)
        joined = tuple(torch.cat([before, new], 1) for before, new in states)
        longer = Prefix(joined, kv, keep, prefix.next_position + keep_BS.sum(1).to(self.device))
        return output.last_hidden_state, replace(read, prefix=longer)

    @torch.no_grad()
    def answer(self, observations: Sequence[Observation], tokens_max: int = 24) -> list[Answer]:
        """Greedy words. A place is what `point_in` finds in them."""
        read = self.read(self.prepare(observations))
        embed, head = self.module.get_input_embeddings(), self.module.get_output_embeddings()  # type: ignore[operator]
        ends = self.processor.tokenizer.eos_token_id
        B = len(observations)
        last = read.prefix.keep_BP.long().cumsum(1).argmax(1)  # padding may be on either side
        state_BH = read.prefix.states[-1][torch.arange(B), last]
        said: list[list[int]] = [[] for _ in range(B)]
        log_sure, over = torch.zeros(B, device=self.device), torch.zeros(B, dtype=torch.bool, device=self.device)
        one = torch.ones(B, 1, dtype=torch.bool)
        for _ in range(tokens_max):
            sure, token = head(state_BH).float().log_softmax(-1).max(-1)
            log_sure += torch.where(over, 0.0, sure)
            for row, number, done in zip(said, token.tolist(), over.tolist(), strict=True):
                if not done and number != ends:
                    row.append(number)
            over = over | (token == ends)
            if over.all():
                break
            states, read = self.extend(read, embed(token)[:, None], one)
            state_BH = states[:, -1]
        found = []
        for each, ids, sure_ in zip(observations, said, log_sure.exp().tolist(), strict=True):
            text = self.processor.tokenizer.decode(ids, skip_special_tokens=False).strip()
            height, width = next(iter(each.pictures.values())).shape[:2]
            place = point_in(text, width, height)
            found.append(Answer(text, sure_, place, sure_ if place is not None else 0.0))
        return found

    # -- words --------------------------------------------------------------------------------------------------------

    def _text(self, observation: Observation) -> str:
        words = observation.words
        if observation.state is not None:
            words = f"{words} State: {state_in_words(observation.state)}."
        count = len(observation.pictures)
        if self._template is None:  # PaliGemma: its processor wants one mark a picture
            return "<image>" * count + words
        content = [*({"type": "image"} for _ in range(count)), {"type": "text", "text": words}]
        return self.processor.tokenizer.apply_chat_template(
            [{"role": "user", "content": content}],
            tokenize=False,
            add_generation_prompt=True,
            chat_template=self._template,
        )

    def _counts_padding(self) -> bool:
        """PaliGemma's positions begin at 1 and count padding."""
        return self.module.config.model_type == "paligemma"  # type: ignore[union-attr]


def state_in_words(state: Float[np.ndarray, " D"]) -> str:
    """Each channel as one of 256 whole numbers, -1 and less 0, 1 and more 255."""
    bins = np.clip((np.asarray(state) + 1) / 2 * STATE_BINS, 0, STATE_BINS - 1).astype(int)
    return " ".join(str(value) for value in bins.tolist())


def point_in(text: str, width: int, height: int) -> tuple[float, float] | None:
    """The first place that a text names, x and y in pixels: PaliGemma's <locYYYY><locXXXX>, or a pair of numbers."""
    if match := _LOCATION.search(text):
        y, x = (int(part) / 1024 for part in match.groups())
        return x * width, y * height
    if match := _PAIR.search(text):
        return float(match[1]), float(match[2])
    return None


def load_backbone(name: str = "embedded", trained: Trained = "full", lora_rank: int = 16, dtype: str = "auto") -> Any:
    """A `Backbone` by name: "embedded", a folder of `xtok teacher train`, or any Hugging Face image-text model by id or
    folder. trained: see `HuggingFaceBackbone`; of the embedded one "frozen_vision" freezes the eyes, "none" everything.

    Raises:
        ValueError: nothing of that name, or LoRA of the embedded model, which is small enough to be trained whole.
        ImportError: an extra is missing.
    """
    from pathlib import Path

    from xtok.semantics.embedded import EmbeddedVLM, is_weights, shipped

    if name != "embedded" and not is_weights(Path(name)):
        return HuggingFaceBackbone(name, trained, lora_rank, dtype)
    if trained == "lora":
        raise ValueError("the embedded model has no LoRA; train it 'full' or with 'frozen_vision'")
    model = EmbeddedVLM.load(shipped() if name == "embedded" else Path(name))
    model.network.requires_grad_(trained != "none")
    if trained == "frozen_vision":
        model.network.eyes.requires_grad_(False)
    return model
