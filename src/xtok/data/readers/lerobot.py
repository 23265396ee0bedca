"""LeRobot folders, v2.0, v2.1 and v3.0, read with pyarrow alone.

v2: data/chunk-000/episode_000000.parquet, meta/{info.json, episodes.jsonl, tasks.jsonl}.
v3: data/chunk-000/file-000.parquet (many episodes a file), meta/{info.json, tasks.parquet}, meta/episodes/*/*.parquet.
The totals in info.json are not believed (Reachy2's names 14,983 frames where 899 are), nor are its path templates
(GR1's are wrong from episode 1 on), nor that a camera it declares has a file, nor that rows stand in order.
"""

from __future__ import annotations

from pathlib import Path

from xtok.data.episode import ActionSource, EpisodeDataset
from xtok.data.hub import set_name
from xtok.data.mapping.open_by_names import open_by_names
from xtok.data.readers.lerobot_entries import contradictions
from xtok.data.readers.lerobot_info import read_info
from xtok.data.readers.lerobot_rows import EpisodeReader, LeRobotFolder
from xtok.data.source import Source

_BOOKKEEPING = {
    "timestamp",
    "frame_index",
    "episode_index",
    "index",
    "task_index",
    "subtask_index",
    "next.done",
    "next.success",
}


def lerobot_source(root: Path) -> Source:
    """A LeRobot folder with its numeric features as they are.

    Raises:
        ValueError: a folder that breaks the format. Episodes that cannot be used are in `Source.broken`.
    """
    folder = LeRobotFolder(root)
    entries = folder.entries
    told = contradictions(folder.info, entries)
    name = set_name(root)
    return Source(
        name,
        f"LeRobot {folder.info.version}",
        folder.info.robot_type or name,  # null in sets that LeRobot converted from elsewhere
        folder.info.fps,
        {key: feature for key, feature in folder.features.items() if key not in _BOOKKEEPING},
        tuple(entry.index for entry in entries),
        EpisodeReader(folder),
        folder.cameras,
        (*(remark.text for remark in told), *_cameras(folder)),
        {position: entry.fault for position, entry in enumerate(entries) if entry.fault},
        told,
        held_out_tasks=frozenset(folder.info.held_out_tasks),
        held_out_robot=folder.info.held_out_robot,
    )


def open_lerobot(
    root: Path, layout: str | None, embodiment: str | None, action_source: ActionSource = "achieved"
) -> EpisodeDataset:
    """A LeRobot folder as episodes. See `open_dataset` for the arguments.

    Raises:
        ValueError: a folder that breaks the format, or channels that cannot be mapped.
    """
    source = lerobot_source(root)
    both = read_info(root).has_action_source
    sources: tuple[ActionSource, ...] = ("achieved", "commanded") if both else (action_source,)
    return open_by_names(source, root, layout, embodiment, action_source, sources)


def _cameras(folder: LeRobotFolder) -> list[str]:
    """Cameras that info.json declares and that some episodes have no film of."""
    usable = [entry for entry in folder.entries if not entry.fault]
    counts = {camera: sum(camera in entry.videos for entry in usable) for camera in folder.cameras}
    return [
        f"camera {camera!r} is declared; {filmed} of {len(usable)} episodes have its film"
        for camera, filmed in counts.items()
        if filmed < len(usable)
    ]
