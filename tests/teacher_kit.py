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
    return NetworkConfig(eyes, 32, width=32, heads=4, reader_layers=1, layers=2, queries=3, point_width=16, words=200)


def write_questions(folder: Path, scenes: int, seed: int = 0, side: int = 96) -> Path:
    """A set as `xtok sim questions` writes them, of two coloured squares: where is each, and which side is it on."""
    import json

    import pyarrow
    import pyarrow.parquet
    from PIL import Image

    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True)
    rows = []
    for scene in range(scenes):
        picture = np.full((side, side, 3), 120, np.uint8) + rng.integers(0, 12, (side, side, 3), dtype=np.uint8)
        names = rng.choice(list(COLOURS), 2, replace=False).tolist()
        lefts = rng.permutation([8, 56]) + rng.integers(-6, 20, 2)
        image = f"images/{scene}.png"
        facts = [{"kind": "cube", "colour": name, "held": False} for name in names]
        common = {"image": image, "facts": json.dumps(facts)}
        for name, left in zip(names, lefts, strict=True):
            top = int(rng.integers(8, side - 28))
            mask = np.zeros((side, side), dtype=bool)
            mask[top : top + 20, left : left + 20] = True
            picture[mask] = COLOURS[name]
            flat = np.concatenate([[False], mask.ravel(), [not mask.ravel()[-1]]])
            runs = np.diff(np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1])])).tolist()
            words = {"kind": "point", "question": f"where is the {name} cube?", "answer": f"{name} cube"}
            point = [int(left) + 10, top + 10]
            rows.append({**common, **words, "choices": [], "mask": runs, "point": point})
        a, b = names
        side_of = "left" if lefts[0] < lefts[1] else "right"
        words = {"kind": "side", "question": f"is the {a} cube left or right of the {b} cube?", "answer": side_of}
        rows.append({**common, **words, "choices": ["left", "right"], "mask": None, "point": None})
        Image.fromarray(picture).save(folder / image)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), folder / "questions.parquet")
    return folder


def write_scenes(questions: Path, folder: Path) -> Path:
    """The same pictures and questions as `xtok teacher scenes` writes them."""
    import json
    import shutil

    import pyarrow.parquet

    rows = pyarrow.parquet.read_table(questions / "questions.parquet").to_pylist()
    for image in dict.fromkeys(row["image"] for row in rows):
        scene = folder / f"Task-Arm-easy-train-{Path(image).stem:>06}"
        scene.mkdir(parents=True)
        shutil.copyfile(questions / image, scene / "picture.png")
        mine = [row for row in rows if row["image"] == image]
        keys = ("kind", "question", "answer", "choices", "point", "mask")
        asked = [{key: row[key] for key in keys} for row in mine]
        about = {"view": "scene", "step": 0, "facts": json.loads(mine[0]["facts"]), "questions": asked}
        (scene / "about.json").write_text(json.dumps(about))
    return folder
