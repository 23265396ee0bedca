"""Bad input is refused with a message that helps, or repaired where that was asked for: never in silence.

# B chunks, T frames, M slots, Q levels, D channels
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import codec_kit as kit
from xtok.actions.layout import ARMS26, JOINTS
from xtok.actions.types import ChunkBatch, Codes, slots

T, M, Q = 18, 5, 4
X, ROTATION = ARMS26.slices["right_position"].start, ARMS26.slices["right_rotation"]


def batch() -> ChunkBatch:
    return kit.chunks(T)[:3]


def anchor() -> Tensor:
    found = batch().context.anchor_BD
    assert found is not None
    return found


def with_target(channel: int, value: float) -> ChunkBatch:
    """The value stands in the second chunk, frame 4."""
    target = batch().target_BTD.clone()
    target[1, 4, channel] = value
    return ChunkBatch(target, batch().context)


def with_context(**changes: Any) -> ChunkBatch:
    return ChunkBatch(batch().target_BTD, replace(batch().context, **changes))


def with_anchor(value: float | None, channels: int | slice = X) -> ChunkBatch:
    if value is None:
        return with_context(anchor_BD=None)
    state = anchor().clone()
    state[1, channels] = value
    return with_context(anchor_BD=state)


def turned_to_nothing() -> ChunkBatch:
    target = batch().target_BTD.clone()
    target[2, 7, ROTATION] = torch.tensor([0.6, 0.8, 0.0, 1.2, 1.6, 0.0])  # the second column along the first
    return ChunkBatch(target, batch().context)


def of_length(horizon: int) -> ChunkBatch:
    target = batch().target_BTD[:, :1].repeat(1, horizon, 1)
    return ChunkBatch(target, replace(batch().context, horizon=horizon))


def in_joints() -> ChunkBatch:
    context = replace(batch().context, layout=JOINTS, anchor_BD=torch.zeros(3, 64), mask_BD=torch.ones(3, 64).bool())
    return ChunkBatch(torch.zeros(3, T, 64), context)


def without_channels() -> ChunkBatch:
    mask = batch().context.mask_BD.clone()
    mask[2] = False
    return with_context(mask_BD=mask)


def with_half_a_rotation() -> ChunkBatch:
    mask = batch().context.mask_BD.clone()
    mask[:, ROTATION.start] = False
    return with_context(mask_BD=mask)


def with_a_left_arm() -> ChunkBatch:
    return with_context(mask_BD=torch.ones(3, 26).bool())


BAD_CHUNKS: dict[str, tuple[Callable[[], ChunkBatch], str]] = {
    "nan": (
        lambda: with_target(X, torch.nan),
        r"'right_position.0' is nan at index \(1, 4\); repair or drop the frame",
    ),
    "inf": (lambda: with_target(X + 1, -torch.inf), r"'right_position.1' is -inf at index \(1, 4\)"),
    "degenerate rotation": (turned_to_nothing, r"'right_rotation': 6D rotation at index \(2, 7\)"),
    "7 frames": (lambda: of_length(7), r"7 frames; expected 8 to 64"),
    "65 frames": (lambda: of_length(65), r"65 frames; expected 8 to 64. Cut longer motion into several chunks"),
    "no state": (lambda: with_anchor(None), r"need an anchor \(the state one step before\); encode deltas instead"),
    "nan state": (lambda: with_anchor(torch.nan), r"anchor.*'right_position.0' is nan at index \(1,\)"),
    "degenerate state": (lambda: with_anchor(0.0, ROTATION), r"anchor.*'right_rotation': 6D rotation at index \(1,\)"),
    "misspelt robot": (
        lambda: kit.renamed(batch(), "pandas"),
        r"unknown embodiment 'pandas'; did you mean one of \['panda'",
    ),
    "absent robot": (
        lambda: kit.renamed(batch(), "sawyer"),
        r"no robot 'sawyer'; it has \['baxter', 'none', 'panda'\]",
    ),
    "other rate": (
        lambda: with_context(control_hz_B=torch.tensor([20.0, 50.0, 20.0])),
        r"statistics of 'panda' are for 20 Hz, the data have 50 Hz; resample the data",
    ),
    "no rate": (
        lambda: with_context(embodiment=("none",) * 3, control_hz_B=torch.zeros(3)),
        r"control_hz is 0.0; expected a rate above zero",
    ),
    "nan rate": (
        lambda: with_context(embodiment=("none",) * 3, control_hz_B=torch.tensor([20.0, torch.nan, 20.0])),
        r"control_hz is nan; expected a rate above zero",
    ),
    "other layout": (in_joints, r"chunks are in layout 'joints'; this tokenizer is for 'arms26'"),
    "half a rotation": (with_half_a_rotation, r"mask of 'right_rotation' is True for some of its six channels"),
    "channels it lacks": (with_a_left_arm, r"robot 'panda' has no channels \['left_position.0'.*correct the mask"),
    "no channels": (without_channels, r"chunk 2 has no valid channel"),
    "no chunks": (lambda: batch()[:0], r"there are no chunks in the batch"),
}


@pytest.mark.parametrize("make, message", BAD_CHUNKS.values(), ids=BAD_CHUNKS)
def test_bad_chunks_are_refused(make: Callable[[], ChunkBatch], message: str) -> None:
    chunks = make()
    with pytest.raises(ValueError, match=message):
        kit.tokenizer().encode(chunks)


# What is bad without a target is as bad for a decoder. A withheld state is fine: deltas come back.
BAD_CONTEXTS = BAD_CHUNKS.keys() - {"nan", "inf", "degenerate rotation", "no state"}


@pytest.mark.parametrize("case", sorted(BAD_CONTEXTS))
def test_bad_contexts_are_refused_by_the_decoder(case: str) -> None:
    make, message = BAD_CHUNKS[case]
    context = make().context
    codes = Codes.from_grid(torch.zeros(len(context), slots(context.horizon), Q, dtype=torch.long), kit.CODES)
    with pytest.raises(ValueError, match=message):
        kit.tokenizer().decode(codes, context)


def deltas(*shape: int) -> Tensor:
    out = torch.zeros(*shape)
    if shape[-1] == 26:
        out[..., [13, 17]] = 1.0  # the right hand's identity
    return out


BAD_ARRAYS: dict[str, tuple[dict[str, Any], str]] = {
    "width": ({"chunks": deltas(3, T, 25)}, r"shape \(3, 18, 25\); layout 'arms26' expects \[B, T, 26\]"),
    "one chunk without its axis": (
        {"chunks": deltas(T, 26)},
        r"shape \(18, 26\); layout .arms26. expects",
    ),
    "7 frames": ({"chunks": deltas(3, 7, 26)}, r"7 frames; expected 8 to 64"),
    "65 frames": ({"chunks": deltas(3, 65, 26)}, r"65 frames; expected 8 to 64"),
    "rotation left out": ({"chunks": torch.zeros(3, T, 26)}, r"'right_rotation': 6D rotation at index \(0, 0\)"),
    "misspelt robot": ({"robot_type": "pnda"}, r"unknown embodiment 'pnda'; did you mean one of \['panda'"),
    "absent robot": ({"robot_type": "sawyer"}, r"no robot 'sawyer'; it has .*with_statistics"),
    "one state for many": ({"obs_state": torch.zeros(26)}, r"obs_state has shape \(26,\); expected \[3, 26\]"),
    "nan state": ({"obs_state": torch.full((3, 26), torch.nan)}, r"anchor.*is nan"),
    "mask of another width": ({"dof_mask": torch.ones(7)}, r"dof_mask has shape \(7,\); expected \[26\] or \[3, 26\]"),
    "rate of 0": ({"control_hz": 0.0}, r"control_hz is 0.0; expected a rate above zero"),
    "other rate": ({"control_hz": 50.0}, r"statistics of 'panda' are for 20 Hz, the data have 50 Hz"),
    "order": ({"layout": "level_major"}, r"layout is 'level_major'; expected 'time_major'.*or 'quantizer_major'"),
}


@pytest.mark.parametrize("changes, message", BAD_ARRAYS.values(), ids=BAD_ARRAYS)
def test_bad_arrays_are_refused(changes: dict[str, Any], message: str) -> None:
    arguments = {"chunks": deltas(3, T, 26), "robot_type": kit.PANDA, **changes}
    with pytest.raises(ValueError, match=message):
        kit.tokenizer().encode(**arguments)


# -- codes ----------------------------------------------------------------------------------------------------------


GRID = torch.arange(3 * M * Q).view(3, M, Q)  # any codes will do


def sequence(**changes: int) -> list[int]:
    """The first chunk's ids, some replaced: at_7=300."""
    ids = GRID[0].flatten().tolist()
    for place, value in changes.items():
        ids[int(place.removeprefix("at_"))] = value
    return ids


BAD_SEQUENCES: dict[str, tuple[Any, str]] = {
    "too high": (
        sequence(at_7=256),
        r"sequence 0: id 256 at position 7 is outside \[0, 256\).*decodes the whole slots",
    ),
    "negative": (sequence(at_4=-1), r"sequence 0: id -1 at position 4 is outside"),
    "cut short": (sequence()[:13], r"ends after 13 of 20 ids \(slot 3, level 1\); expected 5 slots x 4 levels"),
    "too long": ([*sequence(), 1], r"sequence 0 has 21 ids, 1 too many"),
    "bad at once": (sequence(at_0=999), r"id 999 at position 0.*There is no whole slot to decode"),
    "not one slot": (sequence()[:3], r"ends after 3 of 20.*There is no whole slot to decode"),
    "empty": (np.zeros(0, dtype=np.int64), r"ends after 0 of 20"),
    "fractions": (np.array(sequence()) + 0.5, r"type float64; expected 20 integers"),
    "whole floats": (np.array(sequence(), dtype=np.float32), r"type float32; expected 20 integers"),
    "truth values": (np.array(sequence()) > 0, r"type bool; expected 20 integers"),
    "a grid": (GRID[0].numpy(), r"shape \(5, 4\).*expected 20 integers in one row"),
    "beyond int64": (np.array([2**63] * 20, dtype=np.uint64), r"id 9223372036854775808 at position 0"),
}


@pytest.mark.parametrize("ids, message", BAD_SEQUENCES.values(), ids=BAD_SEQUENCES)
def test_bad_sequences_are_refused(ids: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kit.tokenizer().decode(Codes((np.asarray(ids),), kit.CODES), batch().context[:1])


BAD_DECODES: dict[str, tuple[dict[str, Any], str]] = {
    "no length": ({"target_length": None}, r"needs target_length=T"),
    "a shorter length": ({"target_length": 16}, r"sequence 0 has 20 ids, 4 too many"),
    "a longer length": ({"target_length": 21}, r"ends after 20 of 24 ids"),
    "65 frames": ({"target_length": 65}, r"65 frames; expected 8 to 64"),
    "level 0": ({"levels": 0}, r"levels is 0"),
    "level 5": ({"levels": 5}, r"levels is 5"),
    "more levels than were given": ({"codes": GRID[..., :2], "levels": 3}, r"levels is 3.*1 to 2"),
    "more levels than there are": ({"codes": torch.zeros(3, M, 5, dtype=torch.long)}, r"5 levels.*has 4"),
    "no levels": ({"codes": GRID[..., :0]}, r"codes have 0 levels"),
    "floats": ({"codes": GRID.float()}, r"type torch.float32; expected integers \[B, M, Q\]"),
    "flat": ({"codes": GRID.flatten(1)}, r"shape \(3, 20\).*expected integers \[B, M, Q\]"),
    "the other order": ({"codes": GRID.mT}, r"codes have 5 levels in layout 'time_major'"),
    "unknown order": ({"layout": "major"}, r"layout is 'major'"),
    "unknown repair": ({"on_invalid": "fix"}, r"on_invalid is 'fix'; expected 'raise' or 'repair'"),
    "misspelt robot": ({"robot_type": "pnda"}, r"did you mean one of \['panda'"),
    "nan state": ({"obs_state": torch.full((3, 26), torch.nan)}, r"anchor.*is nan"),
}


@pytest.mark.parametrize("changes, message", BAD_DECODES.values(), ids=BAD_DECODES)
def test_bad_decodes_are_refused(changes: dict[str, Any], message: str) -> None:
    arguments = {"codes": GRID, "target_length": T, "robot_type": kit.PANDA, **changes}
    with pytest.raises(ValueError, match=message):
        kit.tokenizer().decode(**arguments)


def test_codes_without_or_with_another_context_are_refused() -> None:
    codes = kit.tokenizer().encode(batch())
    with pytest.raises(ValueError, match=r"needs the context of the chunks: chunks.context"):
        kit.tokenizer().decode(codes)
    with pytest.raises(ValueError, match=r"3 code sequences and 2 chunks in the context"):
        kit.tokenizer().decode(codes, batch().context[:2])


def test_good_input_is_not_refused() -> None:
    """The arguments that the tables above spoil are fine as they are."""
    tokenizer = kit.tokenizer()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tokenizer.encode(batch())
        tokenizer.encode(deltas(3, T, 26), robot_type=kit.PANDA)
        tokenizer.decode(Codes((np.asarray(sequence()),), kit.CODES), batch().context[:1])
        tokenizer.decode(GRID, target_length=T, robot_type=kit.PANDA)


def test_statistics_that_do_not_fit_are_refused() -> None:
    good = kit.unseen_statistics()
    with pytest.raises(ValueError, match=r"serve chunks of 1 to 32 frames, not 64; fit them with a larger horizon_max"):
        kit.tokenizer().with_ranges(replace(good, horizon_max=32))
    with pytest.raises(ValueError, match=r"are for layout 'joints'.*the data are in 'arms26'"):
        kit.tokenizer().with_ranges(replace(good, layout="joints", layout_digest=JOINTS.digest))
    slower = kit.tokenizer().with_ranges(replace(good, control_hz=10.0))
    with pytest.raises(ValueError, match=r"'none:unseen' are for 10 Hz, the data have 20 Hz"):
        slower.encode(kit.renamed(batch(), kit.UNSEEN))


@pytest.mark.parametrize("case", ["bad at once", "not one slot", "empty", "fractions", "truth values"])
def test_what_cannot_be_repaired_is_refused(case: str) -> None:
    ids, _ = BAD_SEQUENCES[case]
    with pytest.raises(ValueError, match=r"no whole slot to decode|expected 20 integers"):
        kit.tokenizer().decode(Codes((np.asarray(ids),), kit.CODES), batch().context[:1], on_invalid="repair")


def test_saturation_without_an_anchor_is_told() -> None:
    with pytest.raises(ValueError, match="need an anchor"):
        kit.tokenizer().saturation(with_anchor(None))


def test_arrays_given_to_encode_are_sent_to_encode_numpy() -> None:
    with pytest.raises(ValueError, match="give arrays to encode_numpy"):
        kit.tokenizer().encode(np.zeros((2, 16, 26), dtype=np.float32))  # type: ignore[call-overload]


def test_statistics_of_a_robot_that_nobody_registered_are_refused_at_once() -> None:
    with pytest.raises(ValueError, match="unknown embodiment 'pandda'; did you mean one of"):
        kit.tokenizer().with_ranges(kit.unseen_statistics("pandda"))
