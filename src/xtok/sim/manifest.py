"""What `manifest.json` of a recording or a corpus says; written once it is whole, read by what goes on from it."""

from __future__ import annotations

from typing import TypedDict


class RequestJson(TypedDict):
    """A recorder's `Request`. cells: [task, arm] each."""

    cells: list[list[str]]
    levels: list[str]
    episodes: int
    split: str
    image_size: int
    video: bool
    crf: int
    gop: int


class ArmJson(TypedDict):
    """The folder of one robot."""

    folder: str
    robot_type: str
    episodes: int
    frames: int
    hours: float


class CellJson(TypedDict):
    """The episodes of one cell and level, by seed."""

    task: str
    arm: str
    level: str
    held_out: bool
    seeds: list[int]
    seeds_skipped_expert_failed: list[int]


class FileJson(TypedDict):
    bytes: int
    sha256: str


class HeldOutJson(TypedDict):
    """Of what was recorded, the part that nothing learns from."""

    arms: list[str]
    tasks: list[str]


class SourceJson(TypedDict):
    name: str
    licence: str


class _CorpusPart(TypedDict, total=False):
    name: str
    held_out: HeldOutJson
    licence: str
    sources: list[SourceJson]


class Manifest(_CorpusPart):
    """arms, files: by name and by path. A corpus has a name, what is held out, its licence and its sources besides."""

    request: RequestJson
    action_source: dict[str, str]
    episodes: int
    frames: int
    hours: float
    bytes: int
    arms: dict[str, ArmJson]
    cells: list[CellJson]
    versions: dict[str, str | None]
    files: dict[str, FileJson]
