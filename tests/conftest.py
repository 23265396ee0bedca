"""Fixtures for all rooms. Real data lie outside the repository, so tests that want them are marked `realdata`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real robot data; the test is skipped where it is absent."""
    folder = Path(os.environ.get("XTOK_SHARED_DATA", _SHARED_DATA))
    if not (folder / "README.md").is_file():
        pytest.skip(f"no robot data at {folder}; put them there or set XTOK_SHARED_DATA")
    return folder
