"""No refactor changes a code of the shipped weights. `python tests/test_codec_golden.py --write` after new weights.

# B chunks, T frames, M slots, Q levels
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import pytest
import torch

import codec_kit as kit
from xtok import load_tokenizer
from xtok.actions.embodiments import get_embodiment
from xtok.actions.layout import JOINTS
from xtok.actions.types import ChunkBatch, Context, concatenate
from xtok.codec import storage

GOLDEN = Path(__file__).with_name("golden_codes.json")
NAMES = storage.SHIPPED
HORIZONS = (32, 13)  # the second fills its last slot in part


def golden_chunks(name: str, horizon: int) -> ChunkBatch:
    """Two chunks that nothing but this file decides: of the packaged sample, or drawn for "cr5"."""
    if not name.startswith("joints"):
        sample = kit.chunks(horizon, stride=40)
        return concatenate([sample[0:1], sample[3:4]])
    absolute = torch.from_numpy(kit.smooth_joints(horizon, count=2, seed=0))
    mask_BD = torch.from_numpy(get_embodiment("cr5").mask(JOINTS)).expand(2, -1)
    absolute = torch.where(mask_BD[:, None], absolute, 0.0)
    rate = load_tokenizer(name).statistics["cr5"].control_hz
    context = Context(JOINTS, absolute[:, 0], mask_BD, torch.full((2,), rate), ("cr5",) * 2, horizon)
    return ChunkBatch(absolute[:, 1:], context)


def found(name: str) -> dict[str, object]:
    """What some of the shipped weights say now."""
    tokenizer = load_tokenizer(name)
    chunks = {str(horizon): golden_chunks(name, horizon) for horizon in HORIZONS}
    motion = hashlib.sha256(b"".join(batch.target_BTD.numpy().tobytes() for batch in chunks.values())).hexdigest()[:16]
    codes = {horizon: tokenizer.encode(batch) for horizon, batch in chunks.items()}
    return {
        "digest": tokenizer.digest,
        "motion": motion,
        "codes": {
            horizon: [ids.tolist() for ids in each.tokens] if each.grid_BMQ is None else each.grid_BMQ.tolist()
            for horizon, each in codes.items()
        },
    }


@pytest.mark.parametrize("name", NAMES)
def test_codes_of_the_shipped_weights_are_the_golden_ones(name: str) -> None:
    if not (storage.shipped(name) / storage.WEIGHTS).is_file():
        pytest.skip(f"this checkout has no weights {name!r} yet")
    assert GOLDEN.is_file(), "weights without golden codes; run `python tests/test_codec_golden.py --write`"
    golden, now = json.loads(GOLDEN.read_text()).get(name, {"digest": None}), found(name)
    assert now["digest"] == golden["digest"], "other weights than the golden codes were written for: rewrite on purpose"
    assert now["motion"] == golden["motion"], "other chunks (was the sample rebuilt?): rewrite on purpose"
    assert now["codes"] == golden["codes"], "a refactor changed what the codes mean"


def write() -> None:
    present = [name for name in NAMES if (storage.shipped(name) / storage.WEIGHTS).is_file()]
    lines = [f' "{name}": {json.dumps(found(name))}' for name in present]
    GOLDEN.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print(f"wrote {GOLDEN} for {present}")


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit(__doc__)
    write()
