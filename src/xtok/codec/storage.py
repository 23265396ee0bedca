"""A tokenizer on disk: model.safetensors and config.json, one hash over both. Never a pickle.

config.json holds the codec's configuration, every robot's statistics, and the hash that ties them to the weights.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from xtok.actions.layout import LAYOUTS
from xtok.actions.statistics import Statistics
from xtok.actions.steady import exact
from xtok.atomic import atomic_file, atomic_write
from xtok.codec import convert
from xtok.codec.base import Codec, Formerly
from xtok.codec.config import CodecConfig, GaussianConfig, PerceiverConfig
from xtok.codec.gaussian.files import PREFIXES, add_codebooks, prior_tensors, take_priors
from xtok.codec.gaussian.model import GaussianCodec
from xtok.codec.hashes import hashed, hashed_shared
from xtok.codec.perceiver import PerceiverCodec
from xtok.codec.precision import check_exact, fill
from xtok.codec.quantizer import is_training_state

WEIGHTS, CONFIG = "model.safetensors", "config.json"
FORMAT = 2
BYTES_MAX = 4 << 30
DEFAULT = "arms26"


# Of each layout the one that it is coded with unless told; the published model; motion words.
SHIPPED = (*LAYOUTS, "arms26-srq", "arms26-words", "joints-words")


def shipped(name: str) -> Path:
    """Folder of the weights that come with the package."""
    return Path(str(files("xtok") / "weights" / name))


def resolve(path_or_id: str | Path | None, extra: Sequence[str] = ()) -> Path:
    """A folder: shipped weights by name, a local path, or a hub id (downloaded by huggingface_hub).

    extra: files to download besides the tokenizer's own, where the hub has them.

    Raises:
        FileNotFoundError: nothing of that name here or on the hub.
    """
    name = str(path_or_id or DEFAULT)
    if name in SHIPPED and not Path(name).is_dir():
        folder = shipped(name)
        if not (folder / WEIGHTS).exists():
            raise FileNotFoundError(f"this installation has no shipped weights {name!r} ({folder})")
        return folder
    if Path(name).is_dir():
        return Path(name)
    if not isinstance(path_or_id, str) or name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise FileNotFoundError(
            f"no tokenizer folder {name!r}; give a folder written by save_pretrained, {sorted(SHIPPED)}, or a hub id"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=[WEIGHTS, CONFIG, *extra]))
    except (LocalEntryNotFoundError, RepositoryNotFoundError, HfHubHTTPError, OSError) as error:
        raise FileNotFoundError(f"no folder {name!r} here, and the hub did not give one: {error}") from error


def make_codec(config: CodecConfig) -> Codec:
    """An untrained codec of the configuration's kind."""
    if isinstance(config, GaussianConfig):
        return GaussianCodec(config)
    assert isinstance(config, PerceiverConfig), config
    return PerceiverCodec(config)


def unwrapped(codec: Codec) -> Codec:
    """The codec itself where torch.compile wrapped it, which names every tensor anew."""
    return getattr(codec, "_orig_mod", codec)


def save(codec: Codec, folder: Path) -> None:
    """Write both files; each appears whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    codec = unwrapped(codec)
    tensors = tensors_of(codec)
    robots = codec.robots if isinstance(codec, GaussianCodec) else {}
    config: convert.ConfigJson = {
        "format": FORMAT,
        "codec": codec.config.to_dict(),
        "layout_digest": codec.layout.digest,
        "robots": {name: prior.statistics.to_dict() for name, prior in sorted(robots.items())},
        "ranges": {name: statistics.to_dict() for name, statistics in sorted(codec.ranges.items())},
        "digest": digest(codec, tensors),
    }
    if isinstance(codec, GaussianCodec) and codec.measured:
        config["measured"] = sorted(codec.measured)
    if codec.formerly != Formerly():
        config["formerly"] = codec.formerly.to_dict()
    with atomic_file(folder / WEIGHTS) as draft:
        save_file({name: half_if_exact(tensor) for name, tensor in tensors.items()}, draft)
    atomic_write(folder / CONFIG, json.dumps(config, indent=1) + "\n")


def check_files(folder: Path) -> None:
    """Raises FileNotFoundError where a tokenizer's folder lacks one of its files."""
    for name in (WEIGHTS, CONFIG):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} has no {name}; a tokenizer folder holds {WEIGHTS} and {CONFIG}")


@exact
def load(folder: Path) -> Codec:
    """Read what `save` wrote, the same under any default dtype, device or mode of torch.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is damaged or altered, has other shapes than its configuration says, or is of another format.
    """
    check_files(folder)
    config, tensors = _read_config(folder / CONFIG), read_tensors(folder / WEIGHTS)
    try:
        if config["format"] == convert.FORMAT:
            config, tensors = convert.converted(config, tensors, folder)
        codec = _build(config, tensors, folder)
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError) as error:  # fields of another type or shape
        raise ValueError(f"{folder / WEIGHTS} does not fit its {CONFIG} ({error}); fetch both again") from error
    if config["digest"] not in (None, digest(codec, tensors_of(codec))):  # None: converted, which looked at its own
        raise ValueError(f"{folder}: weights and {CONFIG} do not belong together, or one was altered; fetch both again")
    return codec.eval()


def _build(config: convert.ConfigJson, tensors: dict[str, Tensor], folder: Path) -> Codec:
    """The codec that a configuration and its tensors (which are used up) describe."""
    with torch.device("meta"):  # shapes only: whatever the configuration claims costs no memory
        codec = make_codec(CodecConfig.from_dict(config["codec"]))
        if isinstance(codec, GaussianCodec):
            add_codebooks(codec, tensors, config["robots"])
    prefixes = PREFIXES if isinstance(codec, GaussianCodec) else ()
    expected = {k: v.shape for k, v in codec.state_dict().items() if not is_training_state(k)}
    given = {k: v.shape for k, v in tensors.items() if not k.startswith(prefixes)}
    if wrong := sorted(k for k in expected.keys() | given.keys() if expected.get(k) != given.get(k)):
        raise ValueError(f"{folder / WEIGHTS} does not fit its {CONFIG}: see {wrong[0]} ({len(wrong)} such tensors)")
    if config["layout_digest"] != codec.layout.digest:
        raise ValueError(f"{folder}: layout {codec.layout.name!r} has changed since these weights were saved")
    codec.ranges = {name: Statistics.from_dict(part) for name, part in config["ranges"].items()}
    if (formerly := config.get("formerly")) is not None:
        codec.formerly = Formerly.from_dict(formerly)
    if isinstance(codec, GaussianCodec):
        take_priors(codec, config["robots"], config.get("measured", []), tensors, str(folder / WEIGHTS))
    elif config["robots"] or "measured" in config:
        raise ValueError(f"{folder / CONFIG}: a codec of kind 'perceiver' has ranges of robots and nothing else")
    fill(codec, tensors)
    for quantizer in codec.quantizers:
        quantizer.restart_from_books()
    return codec


def tensors_of(codec: Codec) -> dict[str, Tensor]:
    """Everything that is released: networks, codebooks, priors; no training state, no heads."""
    codec = unwrapped(codec)
    out = {k: v.detach().cpu().contiguous() for k, v in codec.state_dict().items() if not is_training_state(k)}
    return out | prior_tensors(codec) if isinstance(codec, GaussianCodec) else out


def digest(codec: Codec, tensors: dict[str, Tensor] | None = None) -> str:
    """Sixteen hex digits over all that decides what codes mean.

    Raises:
        ValueError: weights or books that something rounded or emptied.
    """
    check_exact(codec)
    return hashed(codec.config.to_dict(), tensors_of(codec) if tensors is None else tensors, codec.statistics)


def foundation(codec: Codec) -> str:
    """Sixteen hex digits over what robots share: networks, shared codebooks, generic prior, configuration."""
    return hashed_shared(codec.config.to_dict(), tensors_of(codec))


def half_if_exact(tensor: Tensor) -> Tensor:
    """In half the bytes where that loses nothing (see xtok.pretrain.precision.round_to_half)."""
    half = tensor.half()
    return half if torch.equal(half.float(), tensor) else tensor


def _read_config(path: Path) -> convert.ConfigJson:
    try:
        config: convert.ConfigJson = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON ({error}); fetch the tokenizer again") from error
    expected = {"format", "codec", "layout_digest", "robots", "ranges", "digest"}
    if isinstance(config, dict) and isinstance(config.get("codec"), dict) and config["codec"].get("kind") == "words":
        raise ValueError(f"{path.parent} holds motion words: open it with xtok.load_tokenizer({str(path.parent)!r})")
    if not isinstance(config, dict) or config.keys() - {"measured", "formerly"} != expected:
        raise ValueError(f"{path} is not a tokenizer's configuration: expected the fields {sorted(expected)}")
    if config["format"] not in (convert.FORMAT, FORMAT):
        raise ValueError(f"{path} has format {config['format']}, this xtok reads {FORMAT}: update xtok")
    return config


def read_tensors(path: Path) -> dict[str, Tensor]:
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
