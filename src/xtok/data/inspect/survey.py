"""What is in a data set: features and their ranges, rate, lengths, language, views, and what will trip whoever trains
on it.

A survey reads some episodes, evenly spaced over the set, so its cost does not grow with the set.

# N frames of an episode, W columns of a feature
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from xtok.data.features import CHANNEL_VALID
from xtok.data.inspect import traps
from xtok.data.inspect.traps import Trap
from xtok.data.source import RawEpisode, Source

EPISODES = 20
WIDTH_MAX = 64  # wider features are embeddings and the like
_NO_MOTION = re.compile(r"annotation|next\.|language")
_BLACK = 2.0  # mean brightness of 255 below which a picture shows nothing


@dataclass(frozen=True)
class FeatureSurvey:
    """low_W, high_W: range of each column over the episodes looked at. still_W: True where a column never moves."""

    name: str
    names: tuple[str, ...] | None
    low_W: np.ndarray
    high_W: np.ndarray
    still_W: np.ndarray

    @property
    def width(self) -> int:
        return len(self.low_W)

    def column(self, index: int) -> str:
        """What a column is called: "name" where the set names it, else its number."""
        return self.names[index] if self.names else str(index)


@dataclass(frozen=True)
class View:
    """One camera. size: height and width in pixels, None where no picture could be read. episodes: how many of the
    looked at.
    """

    size: tuple[int, int] | None
    episodes: int


@dataclass(frozen=True)
class Survey:
    """positions: the episodes looked at. measured_hz: 1 / median step of the time stamps, None without any."""

    source: Source = field(repr=False)
    positions: tuple[int, ...]
    episodes: tuple[RawEpisode, ...] = field(repr=False)
    features: Mapping[str, FeatureSurvey]
    measured_hz: float | None
    instructions: Mapping[str, int]
    views: Mapping[str, View]
    traps: tuple[Trap, ...]

    @property
    def frames(self) -> tuple[int, ...]:
        """Length of each episode looked at."""
        return tuple(_length(episode) for episode in self.episodes)

    def arrays(self, feature: str) -> list[np.ndarray]:
        return [episode.arrays[feature] for episode in self.episodes]


class Unreadable(ValueError):
    """Not one of the episodes looked at can be read."""


def survey(source: Source, episodes: int = EPISODES, pictures: bool = True) -> Survey:
    """Look at up to `episodes` episodes. pictures: at one of each camera too.

    Raises:
        Unreadable: not one of them can be read.
    """
    wanted = tuple(source.features)
    positions = sorted({round(i) for i in np.linspace(0, len(source) - 1, min(episodes, len(source)))})
    read: list[tuple[int, RawEpisode]] = []
    found: list[Trap] = [Trap("files", remark) for remark in source.remarks]
    for position in positions:
        try:
            read.append((position, source.read_episode(position, wanted)))
        except ValueError as error:
            found.append(Trap("broken episode", str(error)))
    if not read:
        first = next(trap.text for trap in found if trap.kind == "broken episode")
        of = f"{len(positions)} episodes" if len(positions) == len(source) else f"{len(positions)} episodes looked at"
        raise Unreadable(f"not one of the {of} of {source.name} can be read; the first: {first}")
    looked = tuple(raw for _, raw in read)
    found += _odd(looked)
    features = {name: _feature(source, name, [raw.arrays[name] for raw in looked]) for name in wanted}
    views, dark = _views(looked) if pictures else ({}, [])
    found += _time(source, looked) + dark + _motion(features, looked)
    return Survey(
        source,
        tuple(position for position, _ in read),
        looked,
        features,
        _measured_hz(looked),
        dict(Counter(raw.instruction for raw in looked).most_common()),
        views,
        tuple(found),
    )


def _odd(looked: Sequence[RawEpisode]) -> list[Trap]:
    """What readers found odd in episodes and put right or left, each kind once with how many have it."""
    first: dict[str, str] = {}
    count: Counter[str] = Counter()
    for raw in looked:
        for remark in raw.remarks:
            first.setdefault(remark.kind, f"episode {raw.index}: {remark.text}")
            count[remark.kind] += 1
    return [Trap(kind, f"{text} ({count[kind]} of {len(looked)} episodes)") for kind, text in first.items()]


def _feature(source: Source, name: str, arrays: Sequence[np.ndarray]) -> FeatureSurvey:
    low_W = np.min([array.min(axis=0) for array in arrays], axis=0)
    high_W = np.max([array.max(axis=0) for array in arrays], axis=0)
    still_W = np.all([np.ptp(array, axis=0) < 1e-6 for array in arrays], axis=0)
    return FeatureSurvey(name, source.features[name].names, low_W, high_W, still_W)


def _motion(features: Mapping[str, FeatureSurvey], looked: Sequence[RawEpisode]) -> list[Trap]:
    """Traps in the numbers."""
    out: list[Trap] = []
    names = [name for name in features if name != CHANNEL_VALID and not _NO_MOTION.match(name)]
    valid = features.get(CHANNEL_VALID)
    for name in names:
        feature, arrays = features[name], [raw.arrays[name] for raw in looked]
        if feature.width > WIDTH_MAX:
            continue
        label = [feature.column(i) for i in range(feature.width)]
        lacking_W = valid is not None and valid.width == feature.width and valid.high_W == 0  # channels of other robots
        out += traps.still(name, label, feature.still_W & ~np.asarray(lacking_W), feature.low_W)
        out += traps.quaternion_flips(name, arrays)
        out += traps.wrapped_angles(name, label, arrays)
        out += traps.mixed_units(name, label, feature.low_W, feature.high_W)
        out += traps.repeated_frames(name, arrays)
    for action in (name for name in names if is_action(name)):
        for state in (name for name in names if not is_action(name)):
            both = (features[action].width, features[state].width)
            if _plain(action) == _plain(state) or (max(both) <= WIDTH_MAX and 2 < min(both) >= max(both) - 2):
                pairs = [(raw.arrays[action], raw.arrays[state]) for raw in looked]
                out += traps.action_and_state(action, state, pairs)
    return out


def is_action(feature: str) -> bool:
    """Whether a feature is what was asked of the robot, by its name."""
    return "action" in feature.lower().replace("/", ".").split(".")[0]


def _plain(feature: str) -> str:
    return feature.replace("/", ".").split(".")[-1]


def _length(episode: RawEpisode) -> int:
    return len(next(iter(episode.arrays.values())))


def _measured_hz(looked: Sequence[RawEpisode]) -> float | None:
    steps_s = _steps_s(looked)
    return 1.0 / float(np.median(steps_s)) if len(steps_s) and np.median(steps_s) > 0 else None


def _steps_s(looked: Sequence[RawEpisode]) -> np.ndarray:
    steps = [np.diff(raw.timestamps_s) for raw in looked if raw.timestamps_s is not None]
    return np.concatenate(steps) if steps else np.zeros(0)


def _time(source: Source, looked: Sequence[RawEpisode]) -> list[Trap]:
    out = []
    if source.control_hz is None:
        out.append(Trap("rate", "no control rate is stored; the mapping must say control_hz"))
    steps_s, measured = _steps_s(looked), _measured_hz(looked)
    if measured is None or source.control_hz is None:
        return out
    if not 0.9 < measured / source.control_hz < 1.1:
        out.append(Trap("rate", f"stated are {source.control_hz:g} Hz, the time stamps say {measured:.3g} Hz"))
    nominal_s = 1 / measured
    jitter = float(np.mean(np.abs(steps_s - nominal_s) > 0.25 * nominal_s))
    if jitter > 0.01:
        out.append(
            Trap("rate", f"{jitter:.0%} of time steps are off by more than a quarter ({steps_s.min():.3f} to "
                 f"{steps_s.max():.3f} s, mostly {nominal_s:.3f} s)")
        )  # fmt: skip
    return out


def _views(looked: Sequence[RawEpisode]) -> tuple[dict[str, View], list[Trap]]:
    """Cameras with the size of one picture each, and which of them are black."""
    out: dict[str, View] = {}
    found: list[Trap] = []
    for camera in sorted({name for raw in looked for name in raw.videos}):
        filmed = [raw.videos[camera] for raw in looked if camera in raw.videos]
        try:
            picture = filmed[0].frames([0])[0]
            out[camera] = View((picture.shape[0], picture.shape[1]), len(filmed))
            if picture.mean() < _BLACK and filmed[-1].frames([len(filmed[-1]) - 1]).mean() < _BLACK:
                found.append(Trap("black view", f"camera {camera!r} shows black"))
        except (ValueError, ImportError) as error:
            out[camera] = View(None, len(filmed))
            found.append(Trap("view", f"camera {camera!r}: {error}"))
    return out, found
