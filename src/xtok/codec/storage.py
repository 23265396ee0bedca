"""A tokenizer on disk: model.safetensors and config.json, one hash over both. Never a pickle.

config.json holds the codec's configuration, every robot's statistics, and the hash that ties them to the weights.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from xtok.actions.layout import LAYOUTS, get_layout
from xtok.actions.statistics import Statistics
from xtok.actions.steady import exact
from xtok.actions.tangent import tangent_kinds
from xtok.codec.config import CodecConfig
from xtok.codec.model import Codec
from xtok.codec.precision import check_exact, fill
from xtok.codec.prior import SLOTWISE, GenericPrior, MotionPrior
from xtok.codec.quantizer import is_training_state
from xtok.codec.slotwise import GenericSlotPredictor, SlotPredictor
from xtok.whole import file_whole, write_whole

WEIGHTS, CONFIG = "model.safetensors", "config.json"
FORMAT = 1
BYTES_MAX = 4 << 30
PRIOR_TENSORS = {"mean_SK", "factor_SKR", "noise_MK", "activity_A"}
DEFAULT = "arms26"

Predictor = TypeVar("Predictor", SlotPredictor, GenericSlotPredictor)


def shipped(layout: str) -> Path:
    """Folder of the weights that come with the package."""
    return Path(str(files("xtok") / "weights" / layout))


def resolve(path_or_id: str | Path | None, extra: Sequence[str] = ()) -> Path:
    """A folder: shipped weights by layout name, a local path, or a hub id (downloaded by huggingface_hub).

    extra: files to download besides the tokenizer's own, where the hub has them.

    Raises:
        FileNotFoundError: nothing of that name here or on the hub.
    """
    name = str(path_or_id or DEFAULT)
    if name in LAYOUTS and not Path(name).is_dir():
        folder = shipped(name)
        if not (folder / WEIGHTS).exists():
            raise FileNotFoundError(f"this installation has no shipped weights for layout {name!r} ({folder})")
        return folder
    if Path(name).is_dir():
        return Path(name)
    if not isinstance(path_or_id, str) or name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise FileNotFoundError(
            f"no tokenizer folder {name!r}; give a folder written by save_pretrained, {sorted(LAYOUTS)}, or a hub id"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=[WEIGHTS, CONFIG, *extra]))
    except (LocalEntryNotFoundError, RepositoryNotFoundError, HfHubHTTPError, OSError) as error:
        raise FileNotFoundError(f"no folder {name!r} here, and the hub did not give one: {error}") from error


def save(codec: Codec, folder: Path) -> None:
    """Write both files; each appears whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = tensors_of(codec)
    config: dict[str, Any] = {
        "format": FORMAT,
        "codec": codec.config.to_dict(),
        "layout_digest": codec.layout.digest,
        "robots": {name: prior.statistics.to_dict() for name, prior in sorted(codec.robots.items())},
        "ranges": {name: statistics.to_dict() for name, statistics in sorted(codec.ranges.items())},
        "digest": digest(codec, tensors),
    }
    if codec.measured:  # else the file is as it was before there were any
        config["measured"] = sorted(codec.measured)
    with file_whole(folder / WEIGHTS) as draft:
        save_file({name: _half_if_exact(tensor) for name, tensor in tensors.items()}, draft)
    write_whole(folder / CONFIG, json.dumps(config, indent=1) + "\n")


@exact
def load(folder: Path) -> Codec:
    """Read what `save` wrote, the same under any default dtype, device or mode of torch.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is damaged or altered, has other shapes than its configuration says, or is of another format.
    """
    for name in (WEIGHTS, CONFIG):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} has no {name}; a tokenizer folder holds {WEIGHTS} and {CONFIG}")
    config, tensors = _read_config(folder / CONFIG), _read_tensors(folder / WEIGHTS)
    try:
        codec = _build(config, tensors, folder)
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError) as error:  # fields of another type or shape
        raise ValueError(f"{folder / WEIGHTS} does not fit its {CONFIG} ({error}); fetch both again") from error
    if digest(codec, tensors_of(codec)) != config["digest"]:
        raise ValueError(f"{folder}: weights and {CONFIG} do not belong together, or one was altered; fetch both again")
    return codec.eval()


def _build(config: dict[str, Any], tensors: dict[str, Tensor], folder: Path) -> Codec:
    """The codec that a configuration and its tensors (which are used up) describe."""
    with torch.device("meta"):  # shapes only: whatever the configuration claims costs no memory
        codec = _empty(config, tensors)
    expected = {k: v.shape for k, v in codec.state_dict().items() if not is_training_state(k)}
    given = {k: v.shape for k, v in tensors.items() if not k.startswith(("robot.", "generic."))}
    if wrong := sorted(k for k in expected.keys() | given.keys() if expected.get(k) != given.get(k)):
        raise ValueError(f"{folder / WEIGHTS} does not fit its {CONFIG}: see {wrong[0]} ({len(wrong)} such tensors)")
    if config["layout_digest"] != codec.layout.digest:
        raise ValueError(f"{folder}: layout {codec.layout.name!r} has changed since these weights were saved")
    codec.ranges = {name: Statistics.from_dict(part) for name, part in config["ranges"].items()}
    for name, part in config["robots"].items():
        fields = _pop(tensors, f"robot.{name}.", folder)
        slotwise = _slotwise(fields, SlotPredictor, f"{folder / WEIGHTS}: the slot predictor of {name!r}")
        if wrong := sorted((fields.keys() - {"emphasis_K"}) ^ PRIOR_TENSORS):
            raise ValueError(f"{folder / WEIGHTS}: the prior of {name!r} differs in {wrong}; fetch the tokenizer again")
        codec.robots[name] = MotionPrior(codec.layout, Statistics.from_dict(part), **fields, slotwise=slotwise)
    codec.measured = dict.fromkeys(config.get("measured", ()))
    if unknown := codec.measured.keys() - codec.robots.keys():
        raise ValueError(f"{folder / CONFIG} says that {sorted(unknown)} were measured, but has no such robots")
    if any(name.startswith("generic.") for name in tensors):
        codec.generic = _generic(codec.config.layout, _pop(tensors, "generic.", folder))
    fill(codec, tensors)
    for books in codec.all_books:
        for quantizer in (books.shared, *map(books.of, books.own)):
            quantizer.restart_from_books()
    return codec


def _empty(config: dict[str, Any], tensors: dict[str, Tensor]) -> Codec:
    """A codec with networks and books of the right shapes, and nothing in them."""
    codec = Codec(CodecConfig.from_dict(config["codec"]))
    for books, prefix in zip(codec.all_books, ("intent", "detail"), strict=False):
        for name in config["robots"]:
            if f"{prefix}.own.{name}.books_QVC" in tensors:
                books.add(name)
    return codec


def tensors_of(codec: Codec) -> dict[str, Tensor]:
    """Everything that is released: weights, books, priors; no training state, no heads."""
    codec = getattr(codec, "_orig_mod", codec)  # torch.compile wraps it, and names every tensor anew
    out = {k: v.detach().cpu().contiguous() for k, v in codec.state_dict().items() if not is_training_state(k)}
    for name, prior in codec.robots.items():
        out |= {f"robot.{name}.{k}": v.contiguous() for k, v in prior.tensors().items()}
    if codec.generic is not None:
        out |= {f"generic.{k}": v.contiguous() for k, v in codec.generic.tensors().items()}
    return out


def digest(codec: Codec, tensors: dict[str, Tensor] | None = None) -> str:
    """Sixteen hex digits over all that decides what codes mean.

    Raises:
        ValueError: weights or books that something rounded or emptied.
    """
    check_exact(codec)
    found = hashlib.sha256(json.dumps(codec.config.to_dict(), sort_keys=True).encode())
    for name, tensor in sorted((tensors_of(codec) if tensors is None else tensors).items()):
        found.update(f"{name}{tuple(tensor.shape)}".encode())
        found.update(tensor.numpy().tobytes())
    for name, statistics in sorted(codec.statistics.items()):
        found.update(f"{name}{statistics.digest}".encode())
    return found.hexdigest()[:16]


def foundation(codec: Codec) -> str:
    """Sixteen hex digits over what robots share: networks, shared codebooks, generic prior, configuration."""
    found = hashlib.sha256(json.dumps(codec.config.to_dict(), sort_keys=True).encode())
    for name, tensor in sorted(tensors_of(codec).items()):
        if ".own." not in name and not name.startswith("robot."):
            found.update(f"{name}{tuple(tensor.shape)}".encode())
            found.update(tensor.numpy().tobytes())
    return found.hexdigest()[:16]


def _half_if_exact(tensor: Tensor) -> Tensor:
    """In half the bytes where that loses nothing (see xtok.pretrain.precision.round_to_half)."""
    half = tensor.half()
    return half if torch.equal(half.float(), tensor) else tensor


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON ({error}); fetch the tokenizer again") from error
    expected = {"format", "codec", "layout_digest", "robots", "ranges", "digest"}
    if not isinstance(config, dict) or config.keys() - {"measured"} != expected:
        raise ValueError(f"{path} is not a tokenizer's configuration: expected the fields {sorted(expected)}")
    if config["format"] != FORMAT:
        raise ValueError(f"{path} has format {config['format']}, this xtok reads {FORMAT}: update xtok")
    return config


def _read_tensors(path: Path) -> dict[str, Tensor]:
    if path.stat().st_size > BYTES_MAX:
        raise ValueError(f"{path} has {path.stat().st_size} bytes; a tokenizer has at most {BYTES_MAX}")
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged ({error}); fetch the tokenizer again") from error
    for name, tensor in tensors.items():
        if tensor.dtype not in (torch.float32, torch.float16):
            raise ValueError(
                f"{path}: {name} is {tensor.dtype}; weights and books are kept in float32, or in float16 where that is "
                "exact (others flip codes)"
            )
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{path}: {name} has values that are not finite; fetch the tokenizer again")
    return {name: tensor.float() for name, tensor in tensors.items()}


def _pop(tensors: dict[str, Tensor], prefix: str, folder: Path) -> dict[str, Tensor]:
    found = {name: tensors.pop(name) for name in list(tensors) if name.startswith(prefix)}
    if not found:
        raise ValueError(f"{folder / WEIGHTS} lacks the tensors {prefix}* that its {CONFIG} names; fetch both again")
    return {name.removeprefix(prefix): tensor for name, tensor in found.items()}


def _slotwise(fields: dict[str, Tensor], kind: type[Predictor], what: str) -> Predictor | None:
    """Take a slot predictor out of the fields of a prior; None where it has none."""
    fields_of = dataclasses.fields(kind)
    needed = {field.name for field in fields_of if field.default is dataclasses.MISSING}
    optional = {field.name for field in fields_of} - needed
    found = {name.removeprefix(SLOTWISE): fields.pop(name) for name in list(fields) if name.startswith(SLOTWISE)}
    if found and (wrong := (found.keys() - optional) ^ needed):
        raise ValueError(f"{what} differs in {sorted(wrong)}; fetch the tokenizer again")
    return kind(**found) if found else None


def _generic(layout: str, tensors: dict[str, Tensor]) -> GenericPrior:
    slotwise = _slotwise(tensors, GenericSlotPredictor, "the generic slot predictor")
    kinds = sorted(set(tangent_kinds(get_layout(layout))))
    wrong = sorted(
        tensors.keys() ^ {"activity_A", *(f"{part}.{kind}" for part in ("temporal", "noise") for kind in kinds)}
    )
    if wrong:
        raise ValueError(
            f"the generic prior differs in {wrong} from one for the kinds {kinds}; fetch the tokenizer again"
        )
    temporal, noise = ({kind: tensors[f"{part}.{kind}"] for kind in kinds} for part in ("temporal", "noise"))
    return GenericPrior(get_layout(layout), temporal, noise, tensors["activity_A"], slotwise)
