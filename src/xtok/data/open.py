"""One door to every format: look at a folder, choose its reader."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from xtok.actions.embodiments import get_embodiment
from xtok.actions.layout import get_layout
from xtok.data.episode import ActionSource, EpisodeDataset

_FORMATS = (
    "a LeRobot v2.0, v2.1 or v3.0 folder (meta/info.json), an Arrow stream (*.arrow), robosuite demonstrations "
    "(**/demo.hdf5) or an Adroit npz"
)


def open_dataset(
    path: str | Path,
    layout: str | None = None,
    embodiment: str | None = None,
    action_source: ActionSource = "achieved",
) -> EpisodeDataset:
    """Open a folder of demonstrations; episodes are read when they are asked for.

    Args:
        path: the folder. Its format is found by looking.
        layout: "arms26" or "joints"; None takes poses where the set can give them, else joints.
        embodiment: registry name of the robot where the set's own name for it is wrong or unknown.
        action_source: "achieved" (measured motion), or "commanded": the goals in `action` of a LeRobot set that names
            them as arms26 does, such as those of `xtok sim record`.

    Raises:
        ValueError: nothing readable there, an unknown layout or embodiment, files that are missing, truncated or
            malformed, or channels that cannot be mapped to the layout.
    """
    root = Path(path)
    if layout is not None:
        get_layout(layout)
    if embodiment is not None:
        get_embodiment(embodiment)
    if not root.is_dir():
        raise ValueError(f"no folder at {root}; expected {_FORMATS}")
    if (root / "meta" / "info.json").is_file():
        from xtok.data.lerobot import open_lerobot

        return open_lerobot(root, layout, embodiment, action_source)
    if action_source != "achieved":
        raise ValueError(f"{root} is no LeRobot folder, so it holds no commanded goals; leave action_source 'achieved'")
    if any(root.glob("*.arrow")):
        from xtok.data.arrow_stream import open_arrow_stream

        return open_arrow_stream(root, layout, embodiment)
    if any(root.rglob("demo.hdf5")):
        from xtok.data.robosuite_hdf5 import open_robosuite

        return open_robosuite(root, layout, embodiment)
    if any(root.glob("*.npz")):
        from xtok.data.adroit_npz import open_adroit

        return open_adroit(root, layout, embodiment)
    inside = sorted(entry.name for entry in root.iterdir())[:8]
    raise ValueError(f"nothing to read in {root} (it holds {inside}); expected {_FORMATS}")


def sample_path() -> Path:
    """The folder of the sample data set that ships with xtok: six Panda demonstrations, LeRobot v3.0, 20 Hz."""
    return Path(str(files("xtok") / "sample" / "panda"))
