"""One demonstration in the units of a layout, whatever file it came from. docs/trace.md.

# N frames of the episode, D channels of the layout, H W pixels
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, Protocol, overload

import numpy as np

from xtok.actions.embodiments import Embodiment, get_embodiment
from xtok.actions.layout import Layout

ActionSource = Literal["achieved", "commanded"]
SKIP_BAD = (
    "to go on without episodes that cannot be read: open_dataset(..., skip_bad=True), or --skip-bad of encode, eval, "
    "stats, adapt, dictionary, pack and train"
)


_NOBODY = Embodiment("")


def robot_called(name: str) -> Embodiment:
    """What the registry knows under a name; without channels and limits where that is nothing."""
    try:
        return get_embodiment(name)
    except ValueError:
        return Embodiment(name)


@dataclass(frozen=True)
class Segment:
    """A sub-task: frames start (included) to end (excluded) and what happens in them."""

    start: int
    end: int
    text: str


class Pictures(Protocol):
    """A camera's pictures of one episode, in a film (media.video) or one by one (media.images)."""

    def __len__(self) -> int: ...

    def frames(self, indices: Sequence[int]) -> np.ndarray:
        """uint8 RGB [n, H, W, 3], in the order of `indices` (frames of the episode)."""
        ...


@dataclass(frozen=True)
class Episode:
    """One demonstration.

    absolute_ND: float32, in the units of the layout; channels that the robot lacks are 0 and False in mask_D.
    control_hz: nominal rate. timestamps_s: as recorded, so they may jitter around it. action_source: "achieved" if
    the motion was measured, "commanded" if it is what was asked of the robot. index: the set's own episode number.
    task: the set's own short name for what is done, "" where it has none; the instruction may be worded in many ways.
    instruction: the first wording that says something; of several tasks one after another all of them, "a; b", and
    their spans are sub-tasks where the set names none. wordings: all of them where there are several, else ().
    joint_unit: "rad" or "native" as a mapping says it, "" where the registry does. robot: what is known of the
    embodiment, so that nobody has to look it up; left out, it is what the registry has by that name.

    Raises:
        ValueError: shapes that do not fit, a value that is not finite, or a rate that is not positive.
    """

    absolute_ND: np.ndarray = field(repr=False)
    layout: Layout
    mask_D: np.ndarray = field(repr=False)
    embodiment: str
    control_hz: float
    instruction: str
    dataset: str
    index: int
    timestamps_s: np.ndarray = field(repr=False)
    action_source: ActionSource = "achieved"
    subtasks: tuple[Segment, ...] = ()
    videos: Mapping[str, Pictures] = field(default_factory=dict)
    task: str = ""
    wordings: tuple[str, ...] = ()
    joint_unit: str = ""
    robot: Embodiment = field(default=_NOBODY, repr=False)

    def __post_init__(self) -> None:
        if self.robot.name != self.embodiment:
            object.__setattr__(self, "robot", robot_called(self.embodiment))
        where = f"dataset {self.dataset!r}, episode {self.index}"
        N, D = len(self.absolute_ND), self.layout.width
        if self.absolute_ND.shape != (N, D) or self.mask_D.shape != (D,) or self.timestamps_s.shape != (N,):
            raise ValueError(
                f"{where}: actions {self.absolute_ND.shape}, mask {self.mask_D.shape}, timestamps "
                f"{self.timestamps_s.shape}; layout {self.layout.name!r} wants [N, {D}], [{D}] and [N]"
            )
        if not self.control_hz > 0:
            raise ValueError(f"{where}: control rate is {self.control_hz} Hz; expected a positive number")
        if not np.isfinite(self.absolute_ND).all():
            row, channel = np.argwhere(~np.isfinite(self.absolute_ND))[0]
            name = self.layout.channel_names[channel]
            raise ValueError(f"{where}: channel {name!r} is not finite in row {row}; repair or drop that episode")

    def __len__(self) -> int:
        return len(self.absolute_ND)


@dataclass(frozen=True)
class LeftOut:
    """An episode that was left out because it cannot be used. index: its number in the set. position: its place among
    all that the set lists. why: in words."""

    dataset: str
    index: int
    position: int
    why: str

    def to_dict(self) -> dict[str, Any]:
        return {"dataset": self.dataset, "episode": self.index, "position": self.position, "why": self.why}


@dataclass(frozen=True)
class EpisodeDataset(Sequence[Episode]):
    """Episodes of one folder, read one at a time when asked for; slices give lists. It can be pickled, so workers of
    any start method can have it.

    embodiments: the robots in it, by registry name. episode_indices: the set's own number of each episode. load: place
    in the set -> episode. left_out: episodes that the set lists and that are not here. places: the place of each
    episode among all that the set lists, () where none is left out; splits go by it, so leaving one out moves no other.
    parts: the sets that this one joins, in order; splits then go by place within each. broken: place -> why what the
    set lists there cannot be read. remarks: oddities of the set. joint_units: robot ->
    what its mapping says of its joints. robots: what is known of each of `embodiments`; left out, it is what the
    registry has by those names.
    """

    name: str
    layout: Layout
    embodiments: tuple[str, ...]
    control_hz: float
    episode_indices: tuple[int, ...]
    load: Callable[[int], Episode] = field(repr=False)
    held_out_tasks: frozenset[str] = frozenset()
    held_out_robot: bool = False
    action_sources: tuple[ActionSource, ...] = ("achieved",)
    parts: tuple[EpisodeDataset, ...] = ()
    places: tuple[int, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    broken: Mapping[int, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    joint_units: Mapping[str, str] = field(default_factory=dict)
    robots: tuple[Embodiment, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        if tuple(robot.name for robot in self.robots) != self.embodiments:
            object.__setattr__(self, "robots", tuple(map(robot_called, self.embodiments)))

    def joint_unit(self, embodiment: str) -> str:
        """What the joints of a robot are in: "rad" or "native", as its mapping says, else the registry."""
        known = {robot.name: robot.joint_unit for robot in self.robots}
        return self.joint_units.get(embodiment) or known.get(embodiment) or get_embodiment(embodiment).joint_unit

    @cached_property
    def embodiment(self) -> str:
        """The one robot of the set.

        Raises:
            ValueError: if there are several; then each episode says its own.
        """
        if len(self.embodiments) != 1:
            raise ValueError(
                f"dataset {self.name!r} holds {list(self.embodiments)}; ask an episode or open a subfolder"
            )
        return self.embodiments[0]

    def __len__(self) -> int:
        return len(self.episode_indices)

    @overload
    def __getitem__(self, position: int) -> Episode: ...

    @overload
    def __getitem__(self, position: slice) -> list[Episode]: ...

    def __getitem__(self, position: int | slice) -> Episode | list[Episode]:
        if isinstance(position, slice):
            return [self._read(i) for i in range(len(self))[position]]
        try:
            found = range(len(self))[position]
        except IndexError:
            raise IndexError(f"dataset {self.name!r} has {len(self)} episodes; asked for {position}") from None
        return self._read(found)

    def __iter__(self) -> Iterator[Episode]:
        return (self._read(i) for i in range(len(self)))

    def place(self, position: int) -> int:
        """The place of an episode among all that the set lists, those included that were left out."""
        return self.places[position] if self.places else position

    def _read(self, position: int) -> Episode:
        """Raises ValueError that names the episode and the way out."""
        if self.parts:
            return self.load(position)  # its part says all that
        try:
            return self.load(self.place(position))
        except ValueError as error:
            raise ValueError(f"{self._named(position, error)}; {SKIP_BAD}") from error

    def _named(self, position: int, error: ValueError) -> str:
        index = self.episode_indices[position]
        return str(error) if f"episode {index}" in str(error) else f"{self.name}, episode {index}: {error}"

    def without_bad(self) -> EpisodeDataset:
        """The episodes that can be read; all are read once to find them.

        Raises:
            ValueError: none can.
        """
        bad = []
        for position, index in enumerate(self.episode_indices):
            try:
                episode = self.load(self.place(position))
                assert len(episode.absolute_ND) == len(episode)  # looked at, for episodes that read when looked at
            except ValueError as error:
                bad.append(LeftOut(self.name, index, self.place(position), self._named(position, error)))
        if bad and len(bad) == len(self):
            raise ValueError(f"not one of the {len(bad)} episodes of {self.name} can be read; the first: {bad[0].why}")
        return self.without(bad)

    def without(self, bad: Sequence[LeftOut]) -> EpisodeDataset:
        """The same set without some episodes; the others keep their numbers, places and splits."""
        if not bad:
            return self
        gone = {each.position for each in bad}
        kept = [i for i in range(len(self)) if self.place(i) not in gone]
        return replace(
            self,
            episode_indices=tuple(self.episode_indices[i] for i in kept),
            places=tuple(self.place(i) for i in kept),
            left_out=(*self.left_out, *bad),
            broken={},
        )
