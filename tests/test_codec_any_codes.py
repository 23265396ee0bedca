"""Any codes at all: broken ones are repaired and reported, and whatever decodes is finite motion with true rotations.

# B chunks, T frames, M slots, Q levels
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import codec_kit as kit
from xtok.actions.layout import ARMS26
from xtok.actions.rotation import matrix_from_rotation6d
from xtok.actions.types import Actions, ChunkBatch, Codes, Context, slots

T, M, Q = 18, 5, 4
X = ARMS26.slices["right_position"].start
IDS = list(range(M * Q))  # any codes will do


def batch() -> ChunkBatch:
    return kit.chunks(T)[:3]


# -- repair ---------------------------------------------------------------------------------------------------------


def repaired(ids: list[int]) -> tuple[Actions, str]:
    context = batch()[:1].context
    with pytest.warns(UserWarning) as caught:
        actions = kit.tokenizer().decode(Codes((np.array(ids),), kit.CODES), context, on_invalid="repair")
    assert len(caught) == 1
    return actions, str(caught[0].message)


@pytest.mark.parametrize(
    "ids, whole, message",
    [
        (
            IDS[:13],
            3,
            r"sequence 0 ends after 13 of 20 ids (slot 3, level 1): decoded slots 0..2, dropped 2 of 5",
        ),
        ([*IDS[:7], 300, *IDS[8:]], 1, r"id 300 at position 7 is outside [0, 256): decoded slots 0..0, dropped 4 of 5"),
        ([*IDS[:19], -1], 4, r"id -1 at position 19 is outside [0, 256): decoded slots 0..3, dropped 1 of 5"),
        ([*IDS, 3, 3], 5, r"sequence 0 has 22 ids, 2 too many: decoded slots 0..4, dropped 0 of 5"),
    ],
)
def test_repair_decodes_whole_slots_and_says_what_it_dropped(ids: list[int], whole: int, message: str) -> None:
    actions, warned = repaired(ids)
    assert message in warned
    assert actions.complete_BT is not None and actions.absolute_BTD is not None
    assert actions.complete_BT[0].tolist() == [frame < 4 * whole for frame in range(T)]
    assert not actions.failed_B.any() and torch.isfinite(actions.absolute_BTD).all()


def test_repair_of_the_last_slot_of_an_uneven_chunk_marks_its_frames_only() -> None:
    codes = kit.tokenizer().encode(kit.chunks(18)[:1]).tokens[0]
    actions, _ = repaired(codes[:16].tolist())
    assert actions.complete_BT is not None and actions.complete_BT.shape == (1, 18)
    assert actions.complete_BT.sum() == 16


def test_repair_keeps_the_whole_slots_and_continues_the_motion() -> None:
    """Where slots are present the motion is near the clean one; after them it goes on, and does not jump to rest."""
    kept_mm, after_mm, rest_mm = [], [], []
    for row in range(0, 24, 3):
        clean_batch = kit.chunks(32)[row : row + 1]
        codes = kit.tokenizer().encode(clean_batch)
        clean = kit.tokenizer().decode(codes, clean_batch.context).delta_BTD[0]
        with pytest.warns(UserWarning, match="dropped 3 of 8"):
            cut = Codes((codes.tokens[0][:20],), kit.CODES)
            actions = kit.tokenizer().decode(cut, clean_batch.context, on_invalid="repair")
        error = (actions.delta_BTD[0] - clean)[:, X : X + 3].norm(dim=-1) * 1000
        kept_mm.append(float(error[:16].mean()))
        after_mm.append(float(error[20:].mean()))
        rest_mm.append(float(clean[20:, X : X + 3].norm(dim=-1).mean() * 1000))
    assert np.mean(kept_mm) < 0.2 * np.mean(rest_mm)
    assert np.mean(after_mm) < 0.8 * np.mean(rest_mm)  # .66 on nut assembly, the demonstration held out


def test_repair_touches_broken_sequences_only() -> None:
    codes = kit.tokenizer().encode(batch())
    clean = kit.tokenizer().decode(codes, batch().context)
    broken = Codes((codes.tokens[0], codes.tokens[1][:9], codes.tokens[2]), kit.CODES)
    with pytest.warns(UserWarning, match=r"sequence 1 ends after 9 of 20 ids \(slot 2, level 1\)"):
        mended = kit.tokenizer().decode(broken, batch().context, on_invalid="repair")
    assert mended.complete_BT is not None
    assert mended.complete_BT.all(dim=1).tolist() == [True, False, True]
    for row in (0, 2):
        torch.testing.assert_close(mended.delta_BTD[row], clean.delta_BTD[row], atol=1e-5, rtol=0)


# -- any codes ------------------------------------------------------------------------------------------------------


def assert_real_motion(actions: Actions, context: Context) -> None:
    assert actions.absolute_BTD is not None and not actions.failed_B.any()
    for motion in (actions.delta_BTD, actions.absolute_BTD):
        assert torch.isfinite(motion).all()
        for group, channels in ARMS26.of_kind("rotation6d"):
            valid = context.mask_BD[:, channels].all(dim=1)
            c1, c2 = motion[valid][..., channels].split(3, dim=-1)
            unit = torch.ones_like(c1[..., 0])
            for column in (c1, c2):
                torch.testing.assert_close(column.norm(dim=-1), unit, atol=1e-4, rtol=0, msg=group.name)
            torch.testing.assert_close((c1 * c2).sum(dim=-1), 0 * unit, atol=1e-4, rtol=0)
            turn = matrix_from_rotation6d(motion[valid][..., channels])
            torch.testing.assert_close(torch.linalg.det(turn), unit, atol=1e-4, rtol=0)


@given(horizon=st.integers(8, 64), levels=st.integers(1, 4), seed=st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_any_codes_are_finite_motion_with_true_rotations(horizon: int, levels: int, seed: int) -> None:
    context = kit.mixed(horizon).context
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(kit.CODES, (len(context), slots(horizon), Q), generator=generator)
    assert_real_motion(kit.tokenizer().decode(Codes.from_grid(ids, kit.CODES), context, levels=levels), context)


def test_two_thousand_random_sequences() -> None:
    one = kit.chunks(32, stride=4)[:50].context
    generator = torch.Generator().manual_seed(0)
    for _ in range(40):
        ids = torch.randint(kit.CODES, (50, 8, Q), generator=generator)
        assert_real_motion(kit.tokenizer().decode(Codes.from_grid(ids, kit.CODES), one), one)


@given(
    ids=st.lists(st.integers(-3, kit.CODES + 2), max_size=24),
    on_invalid=st.sampled_from(["raise", "repair"]),
)
@settings(max_examples=60, deadline=None)
def test_any_integers_are_motion_or_the_typed_error(ids: list[int], on_invalid: Any) -> None:
    context = batch().context[:1]
    whole = len(ids) == M * Q and all(0 <= i < kit.CODES for i in ids)
    codes = Codes((np.array(ids, dtype=np.int64),), kit.CODES)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            actions = kit.tokenizer().decode(codes, context, on_invalid=on_invalid)
        except ValueError:
            assert not whole
            return
    assert_real_motion(actions, context)
    assert whole or (on_invalid == "repair" and caught), "a fault is never silent"


@pytest.mark.parametrize("x_m", [10.0, 1e6])
def test_motion_far_outside_its_range_is_coded_and_reported(x_m: float) -> None:
    """Never clipped in silence: saturation says how much lay outside."""
    target = batch().target_BTD.clone()
    target[1, 4, X] = x_m
    chunks = ChunkBatch(target, batch().context)
    assert_real_motion(kit.tokenizer().decode(kit.tokenizer().encode(chunks), chunks.context), chunks.context)
    usual = kit.tokenizer().saturation(batch()).get("right_position.0", 0.0)
    assert kit.tokenizer().saturation(chunks)["right_position.0"] == pytest.approx(usual + 1 / (3 * T))
