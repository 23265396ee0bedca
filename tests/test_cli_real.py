"""Three commands from a raw folder to codes, as docs/data.md shows them, on the two cheapest real sets.

# N frames of an episode, D channels
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from xtok.cli.main import main
from xtok.data import open_dataset

pytestmark = [pytest.mark.realdata, pytest.mark.slow]


@pytest.mark.parametrize(
    ("name", "horizon", "adapts", "chunks", "error_most"),
    [("reachy2-apple-storage", 32, True, 27, 0.05), ("bridge-v1-octo-debug", 8, False, 25, 0.02)],
)
def test_three_commands_from_a_folder_to_codes(
    shared_data: Path, tmp_path: Path, name: str, horizon: int, adapts: bool, chunks: int, error_most: float
) -> None:
    assert main(["inspect", str(shared_data / name), "-o", str(tmp_path)]) == 0
    mapping, codes, actions = tmp_path / f"{name}.yaml", tmp_path / "codes.parquet", tmp_path / "actions.parquet"
    own = []
    if adapts:
        own = ["--tokenizer", str(tmp_path / "mine")]
        assert main(["adapt", str(mapping), "--books", "shared", "-o", own[1]]) == 0
    assert main(["encode", str(mapping), *own, "--horizon", str(horizon), "-o", str(codes)]) == 0
    rows = pq.read_table(codes)
    assert len(rows) == chunks
    assert {len(row) for row in rows["codes"].to_pylist()} == {horizon}  # one token a frame: 4 levels, 4 frames a slot

    assert main(["decode", str(codes), *own, "-o", str(actions)]) == 0
    table = pq.read_table(actions)
    of_episode = {episode.index: episode.absolute_ND for episode in open_dataset(mapping)}
    where = zip(table["episode_index"].to_pylist(), table["frame_index"].to_pylist(), strict=True)
    recorded = np.stack([of_episode[index][frame] for index, frame in where])
    mask = np.array(table["mask"].to_pylist())
    assert np.abs(np.array(table["action"].to_pylist()) - recorded)[mask].mean() < error_most
