"""A folder of demonstrations as its format has it, before any mapping says which columns are which channels.

# N frames of the episode, W columns of one feature, D channels of a layout
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from xtok.data.episode import Pictures, Segment
from xtok.data.features import Feature
from xtok.data.order import Remark
from xtok.write_errors import WriteError, errno_of

# What stands between us and a file that may well be sound, and what helps.
_NOT_THE_DATA: Mapping[int | None, str] = {
    errno.EACCES: "you may not read that; `chmod -R u+rX` it if it is yours, or ask its owner",
    errno.EPERM: "you may not read that; `chmod -R u+rX` it if it is yours, or ask its owner",
    errno.EMFILE: "too many files are open: raise the limit (`ulimit -n 4096`) and try again",
    errno.ENFILE: "too many files are open on this machine: close some and try again",
    errno.ENOMEM: "the memory is used up: close other programs and try again",
    errno.ESTALE: "the network disk has lost it: mount that again",
    errno.EIO: "the disk cannot read it: see whether it is there and sound",
}


@dataclass(frozen=True)
class RawEpisode:
    """arrays: feature -> float64 [N, W], those that were asked for. index: the set's own number. Else as in Episode."""

    arrays: Mapping[str, np.ndarray] = field(repr=False)
    index: int
    timestamps_s: np.ndarray | None = field(repr=False)  # [N], or None where the set has none
    instruction: str = ""
    subtasks: tuple[Segment, ...] = ()
    videos: Mapping[str, Pictures] = field(default_factory=dict)
    task: str = ""
    embodiment: str | None = None  # where robots differ from episode to episode
    wordings: tuple[str, ...] = ()
    remarks: tuple[Remark, ...] = ()  # what is odd in it and was read all the same


@dataclass(frozen=True)
class Source:
    """One data set of some format.

    format: for people. robot_type: what the set calls its robot. control_hz: None where the set states no rate.
    features: every numeric vector. read: position and names of features -> RawEpisode. cameras: those declared.
    remarks: what the reader found odd, for `xtok inspect`. broken: position -> why what the set lists there is no
    episode. contradictions: those remarks that whoever opens the set is told. ships_as: what a mapping that ships with
    xtok would know it by, "" where none can. held_out_tasks, held_out_robot: what it keeps from training by its own
    word. It can be pickled if `read` can.
    """

    name: str
    format: str
    robot_type: str
    control_hz: float | None
    features: Mapping[str, Feature]
    episode_indices: tuple[int, ...]
    read: Callable[[int, Sequence[str]], RawEpisode] = field(repr=False)
    cameras: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    broken: Mapping[int, str] = field(default_factory=dict)
    contradictions: tuple[Remark, ...] = ()
    ships_as: str = ""
    held_out_tasks: frozenset[str] = frozenset()
    held_out_robot: bool = False

    def __len__(self) -> int:
        return len(self.episode_indices)

    def read_episode(self, position: int, features: Sequence[str]) -> RawEpisode:
        """One episode with these features.

        Raises:
            ValueError: files that are missing, damaged or malformed, whatever the library below calls it; a feature
                that the set has not.
        """
        if unknown := [name for name in features if name not in self.features]:
            raise ValueError(f"{self.name} has no feature {unknown[0]!r}; it has {', '.join(self.features)}")
        with typed_errors(f"{self.name}, episode {self.episode_indices[position]}"):
            return self.read(position, features)


@contextmanager
def typed_errors(what: str) -> Iterator[None]:
    """Files are a stranger's: whatever a library makes of a damaged one becomes the one error that we promise."""
    try:
        yield
    except (ImportError, WriteError):
        raise
    except ValueError as error:
        # A reader has told it as damage; what it found may be something else.
        if error.__cause__ is not None and (number := errno_of(error.__cause__)) in _NOT_THE_DATA:
            raise ValueError(f"cannot read {what}: {error.__cause__}; {_NOT_THE_DATA[number]}") from error.__cause__
        raise
    except Exception as error:
        if (number := errno_of(error)) in _NOT_THE_DATA:
            raise ValueError(f"cannot read {what}: {error}; {_NOT_THE_DATA[number]}") from error
        raise ValueError(
            f"cannot read {what}: {type(error).__name__}: {error}; it is damaged or breaks its format, get it again"
        ) from error


def check_finite(array_NW: np.ndarray, feature: str, where: str) -> np.ndarray:
    """The array as it is.

    Raises:
        ValueError: a value that is not finite.
    """
    if not np.isfinite(array_NW).all():
        row, column = np.argwhere(~np.isfinite(array_NW))[0]
        value = array_NW[row, column]
        raise ValueError(f"{where}, {feature}[{column}], row {row} is {value}; repair or drop that episode")
    return array_NW
