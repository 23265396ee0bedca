"""The formats that xtok reads, and what tells each by the files of a folder.

The module that reads a format is imported when a folder of that format is opened: some need a library of their own.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import ClassVar

from xtok.data.episode import ActionSource, EpisodeDataset
from xtok.data.source import Source

FORMATS = (
    "a LeRobot v2.0, v2.1 or v3.0 folder (meta/info.json), an Arrow stream (*.arrow), robosuite (**/demo.hdf5), "
    "robomimic (*.hdf5 with data/demo_N) or "
    "RoboTwin (**/episode*.hdf5) demonstrations, RLDS TFRecords (*.tfrecord*), an Adroit npz, a mapping file (*.yaml) "
    "with 'data', or the id of a LeRobot set on the Hugging Face hub (owner/name)"
)
_ROBOTWIN = re.compile(r"\d\.hdf5$")


class Sign(Enum):
    """What tells a format. Every format is asked for one sign before any is asked for the next."""

    OWN_FILES = auto()  # files named as no other format names them
    LIKELY_FILES = auto()  # files that other folders may have too, or a folder further down
    CONTENTS = auto()  # only what is in the files tells


@dataclass(frozen=True)
class Options:
    """How a set is to be opened; see `open_dataset`."""

    layout: str | None = None
    embodiment: str | None = None
    action_source: ActionSource = "achieved"


class Reader(ABC):
    """One format. takes_action_source: whether its sets may hold commanded goals beside the measured motion."""

    takes_action_source: ClassVar[bool] = False

    @abstractmethod
    def told_by(self, root: Path, sign: Sign) -> bool:
        """Whether a folder has that sign of the format."""

    @abstractmethod
    def source(self, root: Path) -> Source:
        """The features of a folder as they are.

        Raises:
            ValueError: the folder breaks the format.
        """

    @abstractmethod
    def open(self, root: Path, options: Options) -> EpisodeDataset:
        """The episodes of a folder.

        Raises:
            ValueError: as `source`, or channels that cannot be mapped as the options ask.
        """


class LeRobot(Reader):
    takes_action_source = True

    def told_by(self, root: Path, sign: Sign) -> bool:
        """Raises ValueError where it is not one set but a folder of several."""
        if sign is not Sign.OWN_FILES:
            return False
        if (root / "meta" / "info.json").is_file():
            return True
        below = sorted(str(path.parent.parent.relative_to(root)) for path in root.glob("*/meta/info.json"))
        below += sorted(str(path.parent.parent.relative_to(root)) for path in root.glob("*/*/meta/info.json"))
        if below:
            named = ", ".join(below[:4])
            raise ValueError(f"{root} holds {len(below)} data sets ({named}); open one of them, or give several")
        return False

    def source(self, root: Path) -> Source:
        from xtok.data.readers.lerobot import lerobot_source

        return lerobot_source(root)

    def open(self, root: Path, options: Options) -> EpisodeDataset:
        from xtok.data.readers.lerobot import open_lerobot

        return open_lerobot(root, options.layout, options.embodiment, options.action_source)


class ArrowStream(Reader):
    def told_by(self, root: Path, sign: Sign) -> bool:
        return sign is Sign.OWN_FILES and any(root.glob("*.arrow"))

    def source(self, root: Path) -> Source:
        from xtok.data.readers.arrow_stream import arrow_source

        return arrow_source(root)

    def open(self, root: Path, options: Options) -> EpisodeDataset:
        from xtok.data.readers.arrow_stream import open_arrow_stream

        return open_arrow_stream(root, options.layout, options.embodiment)


class Robosuite(Reader):
    def told_by(self, root: Path, sign: Sign) -> bool:
        if sign is not Sign.OWN_FILES or not any(root.glob("**/demo.hdf5")):
            return False
        from xtok.data.readers.robosuite_hdf5 import holds_states

        return holds_states(root)

    def source(self, root: Path) -> Source:
        from xtok.data.readers.robosuite_hdf5 import robosuite_source

        return robosuite_source(root)

    def open(self, root: Path, options: Options) -> EpisodeDataset:
        from xtok.data.readers.robosuite_hdf5 import open_robosuite

        return open_robosuite(root, options.layout, options.embodiment)


class Robomimic(Reader):
    def told_by(self, root: Path, sign: Sign) -> bool:
        if sign is Sign.OWN_FILES:
            return any(root.glob("**/demo.hdf5"))  # robosuite's reader has been asked before
        if sign is not Sign.CONTENTS or not any(root.rglob("*.hdf5")):
            return False
        from xtok.data.readers.robomimic_hdf5 import demo_files

        return bool(demo_files(root))

    def source(self, root: Path) -> Source:
        from xtok.data.readers.robomimic_hdf5 import robomimic_source

        return robomimic_source(root)

    def open(self, root: Path, options: Options) -> EpisodeDataset:
        from xtok.data.readers.robomimic_hdf5 import open_robomimic

        return open_robomimic(root, options.layout, options.embodiment)


class Rlds(Reader):
    def told_by(self, root: Path, sign: Sign) -> bool:
        pattern = {Sign.OWN_FILES: "*.tfrecord*", Sign.LIKELY_FILES: "*/*.tfrecord*"}.get(sign)
        return pattern is not None and any(root.glob(pattern))

    def source(self, root: Path) -> Source:
        from xtok.data.readers.rlds import rlds_source

        return rlds_source(root)

    def open(self, root: Path, options: Options) -> EpisodeDataset:
        from xtok.data.mapping.open_by_names import open_shipped

        return open_shipped(self.source(root), root, options.layout, options.embodiment)


class RoboTwin(Reader):
    def told_by(self, root: Path, sign: Sign) -> bool:
        return sign is Sign.OWN_FILES and any(_ROBOTWIN.search(path.name) for path in root.rglob("episode*.hdf5"))

    def source(self, root: Path) -> Source:
        from xtok.data.readers.robotwin_hdf5 import robotwin_source

        return robotwin_source(root)

    def open(self, root: Path, options: Options) -> EpisodeDataset:
        from xtok.data.mapping.open_by_names import open_shipped

        return open_shipped(self.source(root), root, options.layout, options.embodiment)


class AdroitNpz(Reader):
    def told_by(self, root: Path, sign: Sign) -> bool:
        return sign is Sign.LIKELY_FILES and any(root.glob("*.npz"))

    def source(self, root: Path) -> Source:
        from xtok.data.readers.adroit_npz import adroit_source

        return adroit_source(root)

    def open(self, root: Path, options: Options) -> EpisodeDataset:
        from xtok.data.readers.adroit_npz import open_adroit

        return open_adroit(root, options.layout, options.embodiment)


READERS: tuple[Reader, ...] = (
    LeRobot(), ArrowStream(), Robosuite(), Robomimic(), Rlds(), RoboTwin(), AdroitNpz()
)  # fmt: skip


def find_reader(root: Path) -> Reader:
    """What reads a folder, by looking at its files.

    Raises:
        ValueError: nothing that we read, or a folder of several data sets.
    """
    for sign in Sign:
        for reader in READERS:
            if reader.told_by(root, sign):
                return reader
    deeper = sorted({str(path.parent) for path in root.glob("*/*/*.tfrecord*")})
    if deeper:
        raise ValueError(f"{root} holds data sets further down ({', '.join(deeper[:4])}); open one of them")
    inside = sorted(entry.name for entry in root.iterdir())[:8]
    raise ValueError(f"nothing to read in {root} (it holds {inside}); expected {FORMATS}")
