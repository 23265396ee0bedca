"""One door to every format: look at a folder, choose its reader."""

from __future__ import annotations

import warnings
from bisect import bisect_right
from collections.abc import Sequence
from importlib.resources import files
from itertools import accumulate
from pathlib import Path

from xtok.actions.embodiments import get_embodiment
from xtok.actions.layout import get_layout
from xtok.data.episode import SKIP_BAD, ActionSource, Episode, EpisodeDataset
from xtok.data.hub import fetch_dataset, is_hub_id
from xtok.data.mapping.file import MappingSpec, read_mapping
from xtok.data.mapping.mapped import open_mapped
from xtok.data.packed.format import is_packed
from xtok.data.readers.registry import FORMATS, Options, find_reader
from xtok.data.source import Source, typed_errors

_YAML = (".yaml", ".yml")
_NAMED_MAX = 5  # sets that the name of a joined one spells out


def open_dataset(
    path: str | Path,
    layout: str | None = None,
    embodiment: str | None = None,
    action_source: ActionSource = "achieved",
    mapping: str | Path | MappingSpec | None = None,
    skip_bad: bool = False,
) -> EpisodeDataset:
    """Open a folder of demonstrations; episodes are read when they are asked for.

    Args:
        path: the folder, whose format is found by looking; a hub id, "owner/name" or "owner/name@revision"; or a
        mapping
            file that names its data.
        layout: "arms26" or "joints"; None takes poses where the set can give them, else joints.
        embodiment: registry name of the robot where the set's own name for it is wrong or unknown.
        action_source: "achieved" (measured motion), or "commanded": the goals in `action` of a LeRobot set that names
            them as arms26 does, such as those of `xtok sim record`.
        mapping: a mapping file (docs/data.md), which then decides all of the above. Without one, a robot that nobody
            registered is read by the names of its columns, tested on the data, and one line says so.
        skip_bad: leave out episodes that cannot be read, and list them in `left_out`. All are read once to find them.
            The others keep their numbers and splits.

    Raises:
        ValueError: nothing readable there, an unknown layout or embodiment, files that are missing, truncated or
            malformed, or channels that cannot be mapped to the layout. Where the set lists an episode twice or not
            wholly, unless skip_bad.

    Warns:
        where the set contradicts itself in what no episode depends on; when an episode is read, where it is odd.
    """
    dataset = open_unchecked(path, layout, embodiment, action_source, mapping)
    if skip_bad:
        with typed_errors(str(path)):
            dataset = join([each.without_bad() for each in dataset.parts or (dataset,)])
    for place, why in sorted(dataset.broken.items())[:1]:
        more = f" (and {len(dataset.broken) - 1} more)" if len(dataset.broken) > 1 else ""
        raise ValueError(f"{dataset.name}, episode {dataset.episode_indices[place]}{more}: {why}; {SKIP_BAD}")
    for remark in dataset.remarks:
        warnings.warn(f"{dataset.name}: {remark}", stacklevel=2)
    return dataset


def open_unchecked(
    path: str | Path,
    layout: str | None = None,
    embodiment: str | None = None,
    action_source: ActionSource = "achieved",
    mapping: str | Path | MappingSpec | None = None,
) -> EpisodeDataset:
    """`open_dataset` without a word about what is broken or odd: an episode that is broken says so when it is read."""
    with typed_errors(str(path)):
        return _open(path, layout, embodiment, action_source, mapping)


def _open(
    path: str | Path,
    layout: str | None,
    embodiment: str | None,
    action_source: ActionSource,
    mapping: str | Path | MappingSpec | None,
) -> EpisodeDataset:
    if Path(path).suffix in _YAML and mapping is None:
        path, mapping = _data_of(Path(path))
    if mapping is not None:
        spec = mapping if isinstance(mapping, MappingSpec) else read_mapping(mapping)
        if layout not in (None, spec.layout):
            raise ValueError(f"{spec.where} is for layout {spec.layout!r}, asked for is {layout!r}; write one for it")
        if embodiment is not None or action_source not in ("achieved", spec.pose):
            raise ValueError(f"{spec.where} decides robot and pose; set 'embodiment' and 'pose' there")
        return open_mapped(_source(data_root(path)), spec)
    root = data_root(path)
    if layout is not None:
        get_layout(layout)
    if is_packed(root):
        return _open_packed(root, layout, embodiment, action_source)
    if embodiment is not None:
        get_embodiment(embodiment)
    reader = find_reader(root)
    if action_source != "achieved" and not reader.takes_action_source:
        raise ValueError(f"{root} is no LeRobot folder, so it holds no commanded goals; leave action_source 'achieved'")
    return reader.open(root, Options(layout, embodiment, action_source))


def open_source(path: str | Path) -> Source:
    """The same folder with its features as they are, before any mapping; `xtok inspect` looks at this.

    Raises:
        ValueError: as `open_dataset`, mappings aside.
    """
    with typed_errors(str(path)):
        return _source(data_root(path))


def _source(root: Path) -> Source:
    if is_packed(root):
        raise ValueError(
            f"{root} is a packed corpus: it holds channels of a layout, no features to map; leave the mapping out, "
            "or take the data that it was packed from (`xtok inspect` says which)"
        )
    return find_reader(root).source(root)


def data_root(path: str | Path) -> Path:
    """The folder that a path, a hub id or a mapping file stands for; a hub's set is fetched as far as it must be.

    A path is made whole, so that ".", links and relative paths give the set the name that its folder has.

    Raises:
        ValueError: no such folder, or no such set on the hub.
    """
    if Path(path).suffix in _YAML:
        path = _data_of(Path(path))[0]
    if Path(path).is_dir():
        return Path(path).resolve()
    if is_hub_id(path):
        return fetch_dataset(path)
    if Path(path).is_file():
        raise ValueError(f"{path} is a file; give the folder that it is in, {Path(path).parent}")
    raise ValueError(f"no folder at {path}; expected {FORMATS}")


def _open_packed(root: Path, layout: str | None, embodiment: str | None, action_source: ActionSource) -> EpisodeDataset:
    """One source of a packed corpus, or all that have the layout, joined."""
    from xtok.data.packed.sources import members, open_sources

    if embodiment is not None:
        raise ValueError(f"{root} is a packed corpus, whose robots are decided: leave embodiment out, or pack it again")
    chosen = set(members(root, layout))
    return join([source.dataset(layout, action_source) for source in open_sources(root) if source.root in chosen])


def _data_of(path: Path) -> tuple[str | Path, MappingSpec]:
    """The data that a mapping file is for, beside it or on the hub."""
    spec = read_mapping(path)
    if spec.data is None:
        raise ValueError(f"{path} is a mapping without 'data: FOLDER'; add it, or give the folder and --mapping {path}")
    beside = spec.folder / spec.data
    return (beside if beside.is_dir() or not is_hub_id(spec.data) else spec.data), spec


def join(datasets: Sequence[EpisodeDataset]) -> EpisodeDataset:
    """Several sets as one, episode after episode; each keeps its own held-out episodes. One set is given back as it is.

    Raises:
        ValueError: no set, sets read in different layouts, or one robot whose joints are in different units.
    """
    if not datasets:
        raise ValueError("no data set to join; give one folder or more")
    if len(datasets) == 1:
        return datasets[0]
    first = datasets[0]
    if len(layouts := sorted({each.layout.name for each in datasets})) > 1:
        raise ValueError(f"the sets were read in layouts {layouts}; choose one with --layout, or give sets of one kind")
    robots = {robot.name: robot for each in datasets for robot in each.robots}
    indices = tuple(index for each in datasets for index in each.episode_indices)
    names = [each.name for each in datasets]
    if len(names) > _NAMED_MAX:
        names[_NAMED_MAX - 1 :] = [f"{len(names) - _NAMED_MAX + 1} more"]
    left_out = tuple(each for dataset in datasets for each in dataset.left_out)
    return EpisodeDataset(
        "+".join(names),
        first.layout,
        tuple(robots),
        first.control_hz,
        indices,
        JoinedEpisodes(tuple(datasets)),
        parts=tuple(datasets),
        left_out=left_out,
        robots=tuple(robots.values()),
        joint_units=_joint_units(datasets) if first.layout.of_kind("joint") else {},
    )


def _joint_units(datasets: Sequence[EpisodeDataset]) -> dict[str, str]:
    """Robot -> what its joints are in. One robot in two units would be measured as one motion."""
    units: dict[str, str] = {}
    for each in datasets:
        for robot in each.embodiments:
            unit = each.joint_unit(robot)
            if units.setdefault(robot, unit) != unit:
                raise ValueError(
                    f"the joints of {robot!r} are in {unit} in {each.name} and in {units[robot]} in a set before it: "
                    "give both mappings one unit, or other names with 'embodiment'"
                )
    return units


class JoinedEpisodes:
    """Position among several sets -> episode."""

    def __init__(self, datasets: tuple[EpisodeDataset, ...]) -> None:
        self._datasets = datasets
        self._starts = [0, *accumulate(len(each) for each in datasets)]

    def __call__(self, position: int) -> Episode:
        part = bisect_right(self._starts, position) - 1
        return self._datasets[part][position - self._starts[part]]


def sample_path() -> Path:
    """The folder of the sample data set that ships with xtok: six Panda demonstrations, LeRobot v3.0, 20 Hz."""
    return Path(str(files("xtok") / "sample" / "panda"))
