"""Tokenizers that an older xtok wrote (format 1, one model for both codecs), as they are read today.

There the Gaussian codec had a decoder and an encoder of corrections beside it. In all that shipped they added nothing
but the semantic dimensions, so they are dropped; weights where they add something are refused. Codes stay what they
were, so digests of before are kept (`Codec.formerly`) and what was written under them is accepted.

`Tokenizer.from_pretrained(OLD).save_pretrained(NEW)` writes the new format.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

from torch import Tensor

from xtok.actions.statistics import Statistics, StatisticsJson
from xtok.codec.base import FormerlyJson
from xtok.codec.hashes import hashed, hashed_shared

FORMAT = 1
_FIELDS = {
    "intent_space": "coarse_space",
    "intent_dim": "coarse_dim",
    "own_books": "per_robot",
    "intent_noise": "coarse_noise",
    "intent_extra": "semantic_dims",
    "intent_extra_scale": "semantic_scale",
    "book_decay": "codebook_decay",
}
_SHARED = ("layout", "hidden", "heads", "encoder_layers", "dropout", "levels", "codebook_size", "code_dim", "beam")
_GAUSSIAN = (*_SHARED, "book_decay", "intent_space", "intent_dim", "own_books", "prior_rank", "intent_noise")


class _Optional(TypedDict, total=False):
    measured: list[str]
    formerly: FormerlyJson


class ConfigJson(_Optional):
    """A tokenizer's config.json. codec: looked at by `CodecConfig.from_dict`, in format 1 by `converted`. robots: that
    have a prior. measured: those of them that were measured, not trained. digest: None once it was looked at."""

    format: int
    codec: dict[str, Any]
    layout_digest: str
    robots: dict[str, StatisticsJson]
    ranges: dict[str, StatisticsJson]
    digest: str | None


def converted(config: ConfigJson, tensors: dict[str, Tensor], folder: Path) -> tuple[ConfigJson, dict[str, Tensor]]:
    """Configuration and tensors of format 1 as those of format 2, without a digest: it is looked at here.

    Raises:
        ValueError: altered weights, or networks that correct the Gaussian codec.
    """
    old, statistics = config["codec"], {**config["ranges"], **config["robots"]}
    found = {name: Statistics.from_dict(part) for name, part in statistics.items()}
    if hashed(old, tensors, found) != config["digest"]:
        raise ValueError(
            f"{folder}: weights and config.json do not belong together, or one was altered; fetch both again"
        )
    formerly: FormerlyJson = {"digests": [config["digest"]], "foundations": [hashed_shared(old, tensors)]}
    if old["front"] == "none":
        kind, kept = "perceiver", (*_SHARED, "book_decay", "decoder_layers")
        codec = {_FIELDS.get(name, name): old[name] for name in kept}
        tensors = {
            name.replace("books.shared.", "quantizer.", 1): tensor
            for name, tensor in tensors.items()
            if not name.startswith(("robot.", "generic."))
        }
        config = {**config, "robots": {}, "ranges": statistics}
        config.pop("measured", None)
    else:
        kind = "gaussian"
        codec = {_FIELDS.get(name, name): old[name] for name in _GAUSSIAN}
        codec |= {"semantic_dims": old.get("intent_extra", 0), "semantic_scale": old.get("intent_extra_scale", 0.3)}
        tensors = _without_corrections(tensors, codec["semantic_dims"], folder)
    return {**config, "codec": {"kind": kind, **codec}, "digest": None, "formerly": formerly}, tensors


def _without_corrections(tensors: Mapping[str, Tensor], semantic_dims: int, folder: Path) -> dict[str, Tensor]:
    out: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name in ("decoder.out.weight", "decoder.out.bias", "encoder.out.weight", "encoder.out.bias"):
            dead = len(tensor) - semantic_dims if name.startswith("encoder.") else len(tensor)
            if tensor[:dead].any():
                raise ValueError(
                    f"{folder}: {name} corrects the motion codec, which is no part of it any more; train it anew, or "
                    "read it with the xtok that wrote it"
                )
            tensor = tensor[dead:].clone()
        if name.startswith("encoder.") and semantic_dims:
            out[f"semantic_{name}"] = tensor
        elif not name.startswith(("encoder.", "decoder.")):
            renamed = name.replace("intent.", "coarse.", 1) if name.startswith("intent.") else name
            renamed = renamed.replace("detail.", "residual.", 1) if renamed.startswith("detail.") else renamed
            out[renamed.replace(".own.", ".per_robot.", 1)] = tensor
    return out
