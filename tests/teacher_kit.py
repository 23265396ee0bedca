"""Tiny random image-text models of three families, saved as their makers save them, and teachers that do arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

WORDS = (
    "Task: lift the red cube. Now: grasp the red cube.",
    "Task: put the green ball into the tray. Now: reach for the blue peg.",
)
QWEN_CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for c in m['content'] %}{% if c['type'] == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ c['text'] }}{% endif %}{% endfor %}"
    "<|im_end|>\n{% endfor %}"
)
SMOL_CHAT = (
    "<|im_start|>{% for m in messages %}{{ m['role'] | capitalize }}:{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<image>{% else %} {{ c['text'] }}{% endif %}{% endfor %}"
    "<end_of_utterance>\n{% endfor %}"
)


class CountingTeacher:
    """Features that say what was seen: mean red, green and blue; length and first letters of the words."""

    name, layer, width, digest = "counting", -3, 4, "0123456789abcdef"

    def __init__(self) -> None:
        self.pictures = 0
        self.prompts: list[str] = []

    def see(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        self.pictures += len(pictures)
        return np.stack([[*p.mean((0, 1)), 1.0] for p in pictures]).astype(np.float32)

    def read(self, prompts: Sequence[str]) -> np.ndarray:
        self.prompts += prompts
        return np.array([[len(p), sum(map(ord, p)) % 997, 0, -1] for p in prompts], np.float32)


def save_tiny(family: str, folder: Path) -> Path:
    """Model, tokenizer and processor of a family with random weights."""
    torch.manual_seed(0)
    {"qwen2.5-vl": _qwen, "smolvlm": _smolvlm, "paligemma": _paligemma}[family](folder)
    return folder


def _tokenizer(special: Sequence[str], **settings: Any) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=alphabet, special_tokens=list(special), show_progress=False
    )
    tokenizer.train_from_iterator(WORDS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, additional_special_tokens=list(special), **settings)


TEXT = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 512,
    "max_position_embeddings": 512,
}


def _qwen(folder: Path) -> None:
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2VLImageProcessorPil

    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"]
    special += ["<|image_pad|>", "<|video_pad|>"]
    tokenizer = _tokenizer(special, pad_token="<|endoftext|>", eos_token="<|im_end|>", padding_side="left")
    tokenizer.chat_template = QWEN_CHAT
    token = dict(zip(special, tokenizer.convert_tokens_to_ids(special), strict=True))
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]}
    vision = {"depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "out_hidden_size": 32}
    config = Qwen2_5_VLConfig(
        text_config={**TEXT, "rope_parameters": rope},
        vision_config={**vision, "fullatt_block_indexes": [1], "window_size": 56},
        image_token_id=token["<|image_pad|>"],
        video_token_id=token["<|video_pad|>"],
        vision_start_token_id=token["<|vision_start|>"],
        vision_end_token_id=token["<|vision_end|>"],
    )
    Qwen2_5_VLForConditionalGeneration(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    Qwen2VLImageProcessorPil(min_pixels=56 * 56, max_pixels=56 * 56).save_pretrained(folder)


def _smolvlm(folder: Path) -> None:
    from transformers import SmolVLMConfig, SmolVLMForConditionalGeneration, SmolVLMImageProcessorPil

    special = ["<|im_start|>", "<end_of_utterance>", "<image>", "<fake_token_around_image>", "<global-img>"]
    tokenizer = _tokenizer(special, pad_token="<|im_start|>", eos_token="<end_of_utterance>", padding_side="left")
    tokenizer.chat_template = SMOL_CHAT
    vision = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = SmolVLMConfig(
        text_config={"model_type": "llama", **TEXT, "pad_token_id": 0},
        vision_config={**vision, "image_size": 64, "patch_size": 16},
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
        pad_token_id=0,
    )
    SmolVLMForConditionalGeneration(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    edge = {"longest_edge": 64}
    SmolVLMImageProcessorPil(size=edge, max_image_size=edge, do_image_splitting=False).save_pretrained(folder)
    (folder / "processor_config.json").write_text('{"image_seq_len": 4, "processor_class": "SmolVLMProcessor"}')


def _paligemma(folder: Path) -> None:
    from transformers import (
        PaliGemmaConfig,
        PaliGemmaForConditionalGeneration,
        PaliGemmaProcessor,
        SiglipImageProcessorPil,
    )

    tokenizer = _tokenizer(["<pad>", "<eos>", "<bos>"], pad_token="<pad>", bos_token="<bos>", eos_token="<eos>")
    images = SiglipImageProcessorPil(size={"height": 28, "width": 28})
    images.image_seq_length = 4
    processor = PaliGemmaProcessor(images, tokenizer)  # adds a thousand tokens for places
    config = PaliGemmaConfig(
        text_config={"model_type": "gemma", **TEXT, "head_dim": 8, "vocab_size": 2048},
        vision_config={
            "model_type": "siglip_vision_model",
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 28,
            "patch_size": 14,
            "projection_dim": 32,
            "vision_use_head": False,
        },
        projection_dim=32,
        image_token_id=processor.image_token_id,
    )
    PaliGemmaForConditionalGeneration(config).save_pretrained(folder)
    processor.save_pretrained(folder)


COLOURS = {"red": (220, 40, 40), "green": (40, 180, 60), "blue": (40, 70, 220), "yellow": (235, 215, 50)}


def tiny_vlm(seed: int = 0) -> Any:
    """Small eyes and host, untrained, with words of a random language model of two layers."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from xtok.semantics.embedded.language import Language
    from xtok.semantics.embedded.model import EmbeddedVLM

    torch.manual_seed(seed)
    tokenizer = _tokenizer(["<unk>", "<s>", "</s>"], bos_token="<s>", eos_token="</s>")
    language = Language(LlamaForCausalLM(LlamaConfig(**{**TEXT, "num_hidden_layers": 2})), tokenizer)
    spoken = [2, *sorted({token for text in SAID for token in tokenizer(text).input_ids})]
    return EmbeddedVLM.new(tiny_network(), spoken, language).eval()


SAID = tuple(f" {word}" for word in (*COLOURS, "left", "right", "cube", "yes", "no", "nothing", "red cube"))


def tiny_network() -> Any:
    from xtok.semantics.embedded.eyes import EyesConfig
    from xtok.semantics.embedded.network import NetworkConfig

    eyes = EyesConfig(widths=(8, 16, 16, 16), blocks=(1, 1, 1), cells=16, things=4)
    words = {"kinds": ("cube", "gripper"), "colours": tuple(sorted(COLOURS)), "language_width": 32}
    return NetworkConfig(
        eyes, **words, width=32, heads=4, reader_layers=1, layers=2, queries=3, point_width=16, words=200
    )


def two_squares(rng: np.random.Generator, side: int = 128) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """A picture of two coloured squares, their label map (1, 2), and their colours; the first one is anywhere."""
    picture = np.full((side, side, 3), 120, np.uint8) + rng.integers(0, 12, (side, side, 3), dtype=np.uint8)
    labels = np.zeros((side, side), np.uint8)
    names = rng.choice(list(COLOURS), 2, replace=False).tolist()
    lefts = rng.permutation([8, side // 2 + 8]) + rng.integers(-6, 20, 2)
    for number, (name, left) in enumerate(zip(names, lefts, strict=True), start=1):
        top = int(rng.integers(8, side - 28))
        labels[top : top + 20, left : left + 20] = number
        picture[labels == number] = COLOURS[name]
    return picture, labels, names


def asked_of_squares(labels: np.ndarray, names: list[str]) -> list[dict[str, Any]]:
    """Where is each, and which side is one on. things: what is pointed at, numbers from 0."""
    rows: list[dict[str, Any]] = [
        {
            "kind": "point",
            "question": f"where is the {name} cube?",
            "answer": f"{name} cube",
            "choices": [],
            "things": [i],
        }
        for i, name in enumerate(names)
    ]
    middles = [np.nonzero(labels == number)[1].mean() for number in (1, 2)]
    text = f"is the {names[0]} cube left or right of the {names[1]} cube?"
    side = "left" if middles[0] < middles[1] else "right"
    return [*rows, {"kind": "side", "question": text, "answer": side, "choices": ["left", "right"], "things": None}]


def facts_of(names: list[str]) -> str:
    import json

    return json.dumps([{"kind": "cube", "colour": name, "held": i == 0} for i, name in enumerate(names)])


def write_questions(folder: Path, scenes: int, seed: int = 0, side: int = 96) -> Path:
    """A set as `xtok sim questions` writes them, of two coloured squares."""
    import json

    import pyarrow
    import pyarrow.parquet
    from PIL import Image

    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True)
    rows = []
    for scene in range(scenes):
        picture, labels, names = two_squares(rng, side)
        image = f"images/{scene}.png"
        where = {"task": "Stack", "arm": ("Panda", "Kinova3")[scene % 2], "level": ("easy", "hard")[scene // 2 % 2]}
        for row in asked_of_squares(labels, names):
            runs = point = None
            if (things := row.pop("things")) is not None:
                mask = labels == things[0] + 1
                flat = np.concatenate([[False], mask.ravel(), [not mask.ravel()[-1]]])
                runs = np.diff(np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1])])).tolist()
                point = [int(value.mean()) for value in np.nonzero(mask)[::-1]]
            rows.append({**row, **where, "image": image, "facts": facts_of(names), "mask": runs, "point": point})
        Image.fromarray(picture).save(folder / image)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), folder / "questions.parquet")
    blind = {"questions": 1, "chance": 0.5, "image_blind": 0.4, "text_blind": 0.3}
    manifest = {"all": blind, "kinds": {"point": blind, "side": blind}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def write_scenes(folder: Path, scenes: int, seed: int = 0) -> Path:
    """Scenes as `xtok teacher scenes` writes them, of two coloured squares; every third one is a hand's view."""
    import io
    import json

    import pyarrow
    import pyarrow.parquet
    from PIL import Image

    def png(array: np.ndarray) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(array).save(buffer, "PNG")
        return buffer.getvalue()

    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    rows = []
    for scene in range(scenes):
        picture, labels, names = two_squares(rng)
        labels[:6, :6] = 3
        where = {"task": "Stack", "arm": "Panda", "level": "easy", "split": "train", "seed": scene, "step": 0}
        said = {"instruction": f"lift the {names[0]} cube", "subtask": f"grasp the {names[0]} cube"}
        rows.append(
            {
                "picture": png(picture),
                "labels": png(labels),
                "things": ["one", "two", "gripper"],
                "facts": facts_of(names),
                "questions": json.dumps(asked_of_squares(labels, names)),
                "view": ("scene", "front", "wrist")[scene % 3],
                **where,
                **said,
            }
        )
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), folder / "Stack-Panda-easy-0.parquet")
    return folder
