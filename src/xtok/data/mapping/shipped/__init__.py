"""The mapping files that ship with xtok, for sets whose columns have no names."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from xtok.data.source import Source

# `Source.ships_as` -> layout -> a file in this folder.
_SHIPPED = {
    "bridge_dataset": {"arms26": "bridge.yaml"},
    "robotwin-classic": {"arms26": "robotwin-classic-arms26.yaml", "joints": "robotwin-classic-joints.yaml"},
    "robotwin-v1": {"arms26": "robotwin-v1-arms26.yaml", "joints": "robotwin-v1-joints.yaml"},
}


def shipped_mapping(source: Source, layout: str | None) -> Path | None:
    """The mapping that ships for a set, if one does."""
    name = _SHIPPED.get(source.ships_as, {}).get(layout or "arms26")
    return None if name is None else Path(str(files("xtok.data.mapping.shipped") / name))
