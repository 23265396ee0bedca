"""Motion words on disk: model.safetensors and config.json, one hash over both. Never a pickle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypedDict

from safetensors.torch import save_file
from torch import Tensor

from xtok.actions.layout import get_layout
from xtok.actions.statistics import Statistics, StatisticsJson
from xtok.actions.steady import exact
from xtok.atomic import atomic_file, atomic_write
from xtok.codec.storage import CONFIG, WEIGHTS, check_files, half_if_exact, read_tensors
from xtok.codec.words.codec import SHARED, WORDS, WordCodec, codec_of, grammar_of
from xtok.codec.words.robot import robot_of
from xtok.codec.words.settings import CodingSettings
from xtok.codec.words.shared_books import SharedBooks

FORMAT = 3  # of tokenizer folders; 1 and 2 are of the other codecs


class ConfigJson(TypedDict):
    """config.json. codec: as `WordCodec.to_dict` has it. coding: how chunks are encoded unless told otherwise."""

    format: int
    codec: dict[str, Any]
    coding: dict[str, Any]
    layout_digest: str
    robots: dict[str, StatisticsJson]
    digest: str


def save(codec: WordCodec, coding: CodingSettings, folder: Path) -> None:
    """Write both files; each appears whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    config: ConfigJson = {
        "format": FORMAT,
        "codec": codec.to_dict(),
        "coding": coding.to_dict(),
        "layout_digest": codec.layout.digest,
        "robots": {name: robot.statistics.to_dict() for name, robot in sorted(codec.robots.items())},
        "digest": codec.digest,
    }
    with atomic_file(folder / WEIGHTS) as draft:
        save_file({name: half_if_exact(tensor) for name, tensor in codec.tensors().items()}, draft)
    atomic_write(folder / CONFIG, json.dumps(config, indent=1) + "\n")


@exact
def load(folder: Path) -> tuple[WordCodec, CodingSettings]:
    """Read what `save` wrote.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is damaged or altered, has other shapes than its configuration says, or is of another format.
    """
    check_files(folder)
    config, tensors = _read_config(folder / CONFIG), read_tensors(folder / WEIGHTS)
    try:
        codec = _built(config, tensors)
        coding = CodingSettings.from_dict(config["coding"])
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"{folder / WEIGHTS} does not fit its {CONFIG} ({error}); fetch both again") from error
    if config["layout_digest"] != codec.layout.digest:
        raise ValueError(f"{folder}: layout {codec.layout.name!r} has changed since these weights were saved")
    if config["digest"] != codec.digest:
        raise ValueError(f"{folder}: weights and {CONFIG} do not belong together, or one was altered; fetch both again")
    return codec, coding


def _built(config: ConfigJson, tensors: dict[str, Tensor]) -> WordCodec:
    grammar = grammar_of(config["codec"])
    get_layout(str(config["codec"].get("layout")))
    book = tensors.pop(WORDS, None)
    of_shared = {key: tensors.pop(key) for key in list(tensors) if key.startswith(SHARED)}
    shared = SharedBooks.of_tensors(of_shared, SHARED) if of_shared else None
    if shared is not None and (unused := of_shared.keys() - shared.tensors(SHARED).keys()):
        raise ValueError(f"there is a tensor {sorted(unused)[0]!r} that nothing uses")
    robots = {}
    for name, part in config["robots"].items():
        prefix = f"robot.{name}."
        mine = {key.removeprefix(prefix): tensors.pop(key) for key in list(tensors) if key.startswith(prefix)}
        robots[name] = robot_of(Statistics.from_dict(part), grammar, mine, book, shared)
        if robots[name].name != name:
            raise ValueError(f"robot {name!r} has the statistics of {robots[name].name!r}")
    if tensors:
        raise ValueError(f"there is a tensor {sorted(tensors)[0]!r} that nothing uses")
    return codec_of(config["codec"], book, shared, robots)


def _read_config(path: Path) -> ConfigJson:
    try:
        config: ConfigJson = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON ({error}); fetch the tokenizer again") from error
    if isinstance(config, dict) and config.get("format") != FORMAT:
        raise ValueError(f"{path} has format {config.get('format')}; motion words have {FORMAT}: update xtok")
    if not isinstance(config, dict) or config.keys() != ConfigJson.__annotations__.keys():
        raise ValueError(
            f"{path} is not a configuration of motion words: expected the fields {sorted(ConfigJson.__annotations__)}"
        )
    if not isinstance(config["robots"], dict) or not isinstance(config["codec"], dict):
        raise ValueError(f"{path}: codec and robots are mappings; fetch the tokenizer again")
    return config
