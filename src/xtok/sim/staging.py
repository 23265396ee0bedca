"""Where episodes or scenes wait until all are there: a folder bound to its request and to the simulator."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from xtok.atomic import atomic_write
from xtok.data.digests import differences
from xtok.lock import entries

STAGING, SETTINGS = ".staging", "request.json"
DECIDES = ("xtok", "robosuite", "robosuite_models", "mujoco", "numpy", "av")  # packages that change what comes out


def open_staging(out: Path, request: Mapping[str, object], what: str) -> Path:
    """The staging folder of `out`, made now or left by a run of the same request. what: "a recording", for messages.

    Raises:
        ValueError: `out` holds something else, or part of another request or of another simulator's; it says which.
    """
    staging = out / STAGING
    if not staging.exists() and (inside := entries(out)):
        raise ValueError(f"{out} holds something else ({inside[0].name}, ...); choose a new folder")
    bind(staging / SETTINGS, request, f"{out} holds part of {what}")
    return staging


def bind(record: Path, settings: Mapping[str, object], holds: str) -> None:
    """Write down what decides the contents of a folder, or see that it is what was written down.

    Raises:
        ValueError: it is not. holds: how the message begins.
    """
    now = {**settings, "versions": packages()}
    if not record.exists():
        atomic_write(record, json.dumps(now, indent=1))
        return
    try:
        before = json.loads(record.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{record} is damaged ({error}); remove {record.parent} to begin anew") from error
    if different := differences(before, now):
        raise ValueError(
            f"{holds} with other settings: {', '.join(different)}; give that run's command to finish it, or remove the "
            "folder to begin anew"
        )


def packages() -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for name in DECIDES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found
