"""Motion words of channels on disk: model.safetensors and channels.json, one hash over both. Never a pickle.

# D channels, Q levels of first frames, F = D + 1 features
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.torch import save_file
from torch import Tensor

from xtok.actions.layout import JOINTS
from xtok.actions.steady import exact
from xtok.actions.types import HORIZON_MAX
from xtok.atomic import atomic_file, atomic_write
from xtok.codec import storage
from xtok.codec.channel_input import CHANNELS_MAX
from xtok.codec.channels import CONFIG, ranges
from xtok.codec.hashes import hashed
from xtok.codec.words.codec import WordCodec, grammar_of
from xtok.codec.words.robot import WordRobot, robot_of, tensors_of
from xtok.codec.words.segment import Level
from xtok.codec.words.settings import CodingSettings
from xtok.codec.words.state import StateBook

if TYPE_CHECKING:
    from xtok.codec.words.channels import WordChannels

    Make = Callable[[StateBook, Any, np.ndarray, np.ndarray, int, CodingSettings], WordChannels]

FORMAT, KIND = 3, "word channels"
_FIELDS = {"format", "kind", "codec", "states", "channels", "horizon_max", "low_D", "high_D", "coding", "digest"}
_STATES_MAX = 8


def digest_of(channels: WordChannels) -> str:
    """Sixteen hex digits over all that decides what ids mean."""
    meaning = {key: value for key, value in _content(channels).items() if key != "coding"}
    return hashed(meaning, _tensors(channels), {})


def save(channels: WordChannels, folder: Path) -> None:
    """Write both files; each appears whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_file(folder / storage.WEIGHTS) as draft:
        save_file({name: storage.half_if_exact(tensor) for name, tensor in _tensors(channels).items()}, draft)
    content = {**_content(channels), "digest": channels.digest}
    atomic_write(folder / CONFIG, json.dumps(content, indent=1) + "\n")


@exact
def load(path_or_id: str | Path, make: Make) -> WordChannels:
    """Read what `save` wrote. make: `WordChannels`.

    Raises:
        FileNotFoundError: no such folder, or a file is missing.
        ValueError: a file is damaged or altered, has other shapes than its configuration says, or is of another kind.
    """
    folder = storage.resolve(path_or_id, extra=[CONFIG])
    for name in (storage.WEIGHTS, CONFIG):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} has no {name}; a folder of motion words of channels has it")
    content, tensors = _read(folder / CONFIG), storage.read_tensors(folder / storage.WEIGHTS)
    try:
        channels = _built(content, tensors, make)
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"{folder / storage.WEIGHTS} does not fit its {CONFIG} ({error}); fetch both again") from error
    if content["digest"] != channels.digest:
        raise ValueError(f"{folder}: weights and {CONFIG} do not belong together, or one was altered; fetch both again")
    return channels


def _content(channels: WordChannels) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "kind": KIND,
        "codec": WordCodec(JOINTS, channels.model.grammar, None).to_dict(),
        "states": list(channels.grammar.states),
        "channels": channels.channels,
        "horizon_max": channels.horizon_max,
        "low_D": channels.low_D.tolist(),
        "high_D": channels.high_D.tolist(),
        "coding": channels.coding.to_dict(),
    }


def _tensors(channels: WordChannels) -> dict[str, Tensor]:
    out = {"state.drift_FSD": channels.book.drift_FSD}
    for number, level in enumerate(channels.book.levels, 1):
        out |= {f"state.level{number}.codes_VD": level.codes_VC, f"state.level{number}.spread_V": level.spread_V}
    robot = WordRobot(ranges(JOINTS, channels.channels), channels.model, own_words=True)
    out |= {f"motion.{name}": tensor for name, tensor in tensors_of(robot).items()}
    return {name: tensor.float().contiguous() for name, tensor in out.items()}


def _built(content: dict[str, Any], tensors: dict[str, Tensor], make: Make) -> WordChannels:
    states, D = content["states"], content["channels"]
    if not isinstance(states, list) or not 1 <= len(states) <= _STATES_MAX or any(type(v) is not int for v in states):
        raise ValueError(f"states is {states!r}; expected the sizes of 1 to {_STATES_MAX} books")
    if type(D) is not int or not 1 <= D <= CHANNELS_MAX:
        raise ValueError(f"channels is {D!r}; expected 1 to {CHANNELS_MAX}")
    motion = {name.removeprefix("motion."): tensors[name] for name in tensors if name.startswith("motion.")}
    expected: dict[str, tuple[int, ...]] = {"state.drift_FSD": (D + 1, HORIZON_MAX, D)}
    for number, size in enumerate(states, 1):
        expected |= {f"state.level{number}.codes_VD": (size, D), f"state.level{number}.spread_V": (size,)}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items() if not name.startswith("motion.")}
    if found != expected:
        raise ValueError(f"first frames have tensors {found}; expected {expected}")
    levels = tuple(
        Level(tensors[f"state.level{number}.codes_VD"], tensors[f"state.level{number}.spread_V"])
        for number in range(1, len(states) + 1)
    )
    robot = robot_of(ranges(JOINTS, D), grammar_of(content["codec"]), motion, None, None)
    low_D, high_D = (np.array(content[name], dtype=np.float64) for name in ("low_D", "high_D"))
    coding = CodingSettings.from_dict(content["coding"])
    book = StateBook(levels, tensors["state.drift_FSD"])
    return make(book, robot.model, low_D, high_D, content["horizon_max"], coding)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON ({error}); fetch it again") from error
    if not isinstance(content, dict) or content.get("kind") != KIND:
        raise ValueError(f"{path} holds no motion words; xtok.codec.channels.ChannelCodec.load opens the other kind")
    if content.keys() != _FIELDS:
        raise ValueError(f"{path} is not the configuration of motion words of channels: expected {sorted(_FIELDS)}")
    if content["format"] != FORMAT:
        raise ValueError(f"{path} has format {content['format']}, this xtok reads {FORMAT}: update xtok")
    return content
