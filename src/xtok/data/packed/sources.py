"""The sources of a packed corpus, each as the data set that it was packed from."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from xtok.data.episode import ActionSource, EpisodeDataset
from xtok.data.packed.episodes import PackedEpisodes, PackedUnit
from xtok.data.packed.format import (
    MANIFEST,
    PACK_AGAIN,
    SOURCE,
    UNFINISHED,
    Manifest,
    PackedSource,
    StoredStatistics,
    is_packed,
)


@dataclass(frozen=True)
class OpenedSource:
    """A source in its folder. statistics: of the whole corpus, by key."""

    root: Path
    about: PackedSource
    statistics: Mapping[str, StoredStatistics] = field(repr=False)

    def units(self) -> Iterator[PackedUnit]:
        return (PackedUnit(self.root, self.about, unit, self.statistics) for unit in self.about.units)

    def dataset(self, layout: str | None, action_source: ActionSource) -> EpisodeDataset:
        """As `open_dataset` would give it from the folder that was packed.

        Raises:
            ValueError: it was packed without that layout or kind of motion, or index files are damaged.
        """
        source = self.about
        layout = layout or ("arms26" if "arms26" in source.layouts else source.layouts[0])
        about = source.unit(layout, action_source)
        if about is None:
            there = ", ".join(f"{unit.layout} {unit.asked}" for unit in source.units)
            raise ValueError(
                f"{self.root} was packed as {there}; asked for is {layout} {action_source}: choose one that is there, "
                "or pack it again (`xtok pack --layout`, `--action-source`)"
            )
        unit = PackedUnit(self.root, source, about, self.statistics)
        gone = {each.position for each in source.left_out}
        places = tuple(place for place in range(len(unit) + len(gone)) if place not in gone) if gone else ()
        if gone and len(places) != len(unit):
            raise ValueError(f"{self.root / SOURCE}: left_out does not fit {len(unit)} episodes; {PACK_AGAIN}")
        kinds: tuple[ActionSource, ...] = tuple(dict.fromkeys(u.action_source for u in source.units))
        return EpisodeDataset(
            name=source.name,
            layout=unit.layout,
            embodiments=source.embodiments,
            control_hz=source.control_hz,
            episode_indices=tuple(unit.table_E["index"].tolist()),
            load=PackedEpisodes(unit, {place: i for i, place in enumerate(places)}),
            places=places,
            left_out=source.left_out,
            held_out_tasks=frozenset(source.held_out_tasks),
            held_out_robot=source.held_out_robot,
            action_sources=kinds,
            joint_units=dict(source.joint_units),
        )


def open_sources(root: str | Path) -> list[OpenedSource]:
    """The sources of a packed corpus, in order, or the one whose folder it is. Nothing is read but descriptions.

    Raises:
        ValueError: no packed corpus, one that is not finished, or descriptions that are damaged or contradict.
    """
    root = Path(root)
    if not is_packed(root):
        raise ValueError(f"no packed corpus in {root}; make one with `xtok pack DATA... -o {root}`")
    if (root / MANIFEST).is_file() or (root / UNFINISHED).is_file():
        manifest = Manifest.load(root)
        folders = dict(zip(manifest.folders, manifest.source_digests, strict=True))
        return [_open(root / folder, digest, manifest) for folder, digest in folders.items()]
    above = root.resolve().parent
    if (above / MANIFEST).is_file() or (above / UNFINISHED).is_file():
        manifest = Manifest.load(above)
        folders = dict(zip(manifest.folders, manifest.source_digests, strict=True))
        if root.resolve().name in folders:
            return [_open(root, folders[root.resolve().name], manifest)]
    return [OpenedSource(root, PackedSource.load(root), {})]  # one that was carried away by itself


def members(path: str | Path, layout: str | None = None) -> list[Path]:
    """The folders of a packed corpus that can be read in `layout`; of anything else, the path itself.

    Raises:
        ValueError: as `open_sources`; or no source has the layout.
    """
    root = Path(path)
    if not root.is_dir() or not is_packed(root) or (root / SOURCE).is_file():
        return [root]
    sources = open_sources(root)
    found = [source.root for source in sources if layout is None or layout in source.about.layouts]
    if not found:
        there = sorted({name for source in sources for name in source.about.layouts})
        raise ValueError(f"{root} was packed in layouts {there}, not {layout!r}; pack it again with --layout {layout}")
    return found


def trainable(path: str | Path, layout: str) -> list[Path]:
    """`members` whose robots are not held out; told of the others. Anything that is no corpus is given back.

    Raises:
        ValueError: as `members`; or every source is held out.
    """
    root = Path(path)
    paths = members(root, layout)
    if paths == [root]:
        return paths
    kept_apart = [p.name for p in paths if PackedSource.load(p).held_out_robot]
    if len(kept_apart) == len(paths):
        raise ValueError(f"{root}: every robot in it is marked as held out (meta/info.json); give another corpus")
    if kept_apart:
        warnings.warn(f"{root}: not trained on {', '.join(kept_apart)}, held out by their own marks", stacklevel=3)
    return [p for p in paths if p.name not in kept_apart]


def _open(root: Path, digest: str, manifest: Manifest) -> OpenedSource:
    about = PackedSource.load(root)
    if about.digest != digest:
        raise ValueError(f"{root / SOURCE} has digest {about.digest}, {MANIFEST} says {digest}; {PACK_AGAIN}")
    return OpenedSource(root, about, manifest.statistics)
