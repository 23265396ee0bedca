"""A teacher by name: the embedded one, a preset, or any Hugging Face image-text model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from xtok.semantics.teacher import Teacher

EMBEDDED = "embedded"
LAYER = -3  # docs/method.md#teacher


@dataclass(frozen=True)
class Preset:
    """A model of the hub and the precision to run it in."""

    model: str
    dtype: str = "bfloat16"


# The first is the paper's teacher (docs/method.md#teacher). None of these has been run here: there is neither a hub nor
# a GPU; the code path is tested on random weights of tiny configurations of the same families.
PRESETS = {
    "qwen2.5-vl": Preset("Qwen/Qwen2.5-VL-7B-Instruct"),
    "qwen3-vl": Preset("Qwen/Qwen3-VL-8B-Instruct"),
    "smolvlm": Preset("HuggingFaceTB/SmolVLM2-2.2B-Instruct"),
    "paligemma": Preset("google/paligemma2-3b-pt-224"),
}


def load_teacher(name: str = EMBEDDED, layer: int | None = None) -> Teacher:
    """The teacher `name`: "embedded", a key of PRESETS, a folder written by `xtok teacher train`, or any Hugging Face
    image-text model by id or local folder. layer: index into the hidden states (default: -3).

    Raises:
        ValueError: nothing of that name, or a layer that the model lacks.
        ImportError: the extra is missing.
    """
    layer = LAYER if layer is None else layer
    from xtok.semantics.embedded import EmbeddedTeacher, is_weights, shipped

    if name == EMBEDDED or is_weights(Path(name)):
        return EmbeddedTeacher(shipped() if name == EMBEDDED else Path(name), layer, name)
    from xtok.semantics.huggingface import HuggingFaceTeacher

    preset = PRESETS.get(name, Preset(name, "auto"))
    return HuggingFaceTeacher(preset.model, layer, preset.dtype)
