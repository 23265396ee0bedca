"""docs/method.md#losses (L_align): who is compared with whom, absent views and slots, and the loss over several
ranks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

import semantics_kit as kit
from xtok import Tokenizer
from xtok.codec import storage
from xtok.data.origins import Origins, Words, word_key, words_of
from xtok.semantics.align import Alignment, Fusion, Pairs, alignment_losses, everything, info_nce, load_heads
from xtok.semantics.cotemporal import TeacherFeatures, gather_features, slot_frames
from xtok.semantics.predict import NextFrame, next_frame_loss
from xtok.semantics.substitute import Substitute

ONE_TEXT = Words(torch.tensor([0]), torch.tensor([7]))


def origins(anchor: list[int], rate: list[float], last: int = 119, backwards: tuple[int, ...] = ()) -> Origins:
    B = len(anchor)
    reversed_B = torch.tensor([row in backwards for row in range(B)])
    keys = tuple(("fake", row) for row in range(B))
    return Origins(keys, torch.tensor(anchor), torch.tensor(rate), torch.full((B,), last), reversed_B, (ONE_TEXT,) * B)


def seen(B: int = 4, M: int = 5, seed: int = 0) -> TeacherFeatures:
    generator = torch.Generator().manual_seed(seed)
    views = torch.randn(B, M, 2, kit.WIDTH, generator=generator)
    text = torch.randn(B, M, kit.WIDTH, generator=generator)
    return replace(
        everything(views, torch.ones(B, M, 2, dtype=torch.bool), text), words_BM=torch.arange(B * M).view(B, M)
    )


def heads(latent_dim: int = 6, **changes: float) -> Alignment:
    torch.manual_seed(0)
    return Alignment(latent_dim, kit.WIDTH, dim=8, views=2, hidden=16, **changes)


# -- frames ----------------------------------------------------------------------------------------------------------


def test_a_slot_looks_at_its_middle_and_no_further_than_the_chunk() -> None:
    frames = slot_frames(origins([9], [1.0]), horizon=10)  # the target starts at frame 10
    assert frames.at_BM.tolist() == [[11.5, 15.5, 19.0]]
    assert frames.after_B.tolist() == [20.0]
    assert frames.valid_BM.all()
    assert frames.valid_after_B.all()


def test_a_warped_chunk_looks_where_it_was_read() -> None:
    frames = slot_frames(origins([20], [1.5]), horizon=8)
    assert frames.at_BM.tolist() == [[20 + 1.5 * 2.5, 20 + 1.5 * 6.5]]
    assert frames.after_B.tolist() == [20 + 1.5 * 9]


def test_the_end_of_an_episode_has_no_next_frame_and_a_film_backwards_has_none_at_all() -> None:
    frames = slot_frames(origins([111, 50, 110], [1.0, 1.0, 1.0], backwards=(1,)), horizon=8)
    assert frames.valid_after_B.tolist() == [False, False, True]
    assert frames.valid_BM.all(dim=1).tolist() == [True, False, True]
    assert frames.after_B.max() <= 119


def test_words_follow_the_sub_tasks_and_fall_back_on_the_instruction() -> None:
    first = kit.episodes()[0]
    partly = replace(first, subtasks=(first.subtasks[0],))
    at = words_of(partly).at(torch.tensor([0.0, 59.9, 60.0, 119.0]))
    reach, told = word_key("reach for it"), word_key(first.instruction)
    assert at.tolist() == [reach, reach, told, told]
    assert 0 <= reach < 1 << 62


def test_features_are_looked_up_where_there_are_any() -> None:
    store = kit.FakeStore({("fake", 0), ("fake", 1)})
    found = gather_features(store, origins([9, 20, 30], [1.0, 1.0, 1.0], backwards=(1,)), horizon=8)
    assert found.slots.valid_BM.tolist() == [[True, True], [False, False], [False, False]]
    assert not found.slots.views_BMVW[1:].any()
    assert not found.slots.view_mask_BMV[1:].any()
    expected = store.lookup("fake", 0, np.array([11.5, 15.5]))
    assert torch.equal(found.slots.views_BMVW[0], torch.from_numpy(expected.views))
    after = store.lookup("fake", 0, np.array([18.0]), side="after")
    assert torch.equal(found.after.text_BMW[0], torch.from_numpy(after.text))


# -- fusion ----------------------------------------------------------------------------------------------------------


def test_absent_views_do_not_count_and_the_rest_shares_out() -> None:
    fusion = Fusion(kit.WIDTH, views=2)
    with torch.no_grad():
        fusion.view_logit_V.copy_(torch.tensor([0.0, 1.0]))
    both = seen()
    mask = both.view_mask_BMV.clone()
    mask[0, :, 1] = False
    one = replace(both, view_mask_BMV=mask)
    spoilt = replace(one, views_BMVW=torch.where(mask[..., None], both.views_BMVW, 99.0))
    torch.testing.assert_close(fusion(one), fusion(spoilt), rtol=0, atol=0)
    half = 0.5 * both.views_BMVW[0, :, 0] + 0.5 * both.text_BMW[0]
    torch.testing.assert_close(fusion(one)[0], half)
    assert not torch.allclose(fusion(both)[0], half)
    blind = replace(both, view_mask_BMV=torch.zeros_like(mask))
    assert not fusion.valid(blind).any()
    assert Fusion(kit.WIDTH, 2, text_weight=1.0).valid(blind).all()


def test_an_image_only_teacher_reads_nothing() -> None:
    fusion, first = Fusion(kit.WIDTH, 2, text_weight=0.0), seen()
    other = replace(first, text_BMW=first.text_BMW + 5)
    torch.testing.assert_close(fusion(first), fusion(other), rtol=0, atol=0)
    with pytest.raises(ValueError, match="text_weight is 2"):
        Fusion(kit.WIDTH, 2, text_weight=2)


def test_the_common_part_of_features_is_taken_off() -> None:
    fusion, raw = Fusion(kit.WIDTH, 2), seen(B=40)
    shifted = replace(raw, views_BMVW=raw.views_BMVW * 3 + 50, text_BMW=raw.text_BMW - 20)
    fusion.fit(shifted)
    fused = fusion(shifted).flatten(0, 1)
    torch.testing.assert_close(fused.mean(dim=0), torch.zeros(kit.WIDTH), rtol=0, atol=1e-4)


# -- the loss --------------------------------------------------------------------------------------------------------


def pairs(B: int = 3, M: int = 4, episodes: tuple[int, ...] | None = None, words: Tensor | None = None) -> Pairs:
    episode_B = torch.tensor(episodes or tuple(range(B)))
    words = torch.arange(B * M).view(B, M) if words is None else words
    return Pairs(episode_B, torch.ones(B, M, dtype=torch.bool), words)


def test_all_other_pairs_are_negatives_but_neighbours_in_time_and_the_same_episode() -> None:
    out = pairs(episodes=(0, 1, 1)).local_negatives("keep").view(3, 4, 3, 4)
    assert out[0, 0, 0].tolist() == [False, False, True, True]
    assert out[0, 2, 0].tolist() == [True, False, False, False]
    assert out[0, :, 1:].all()
    assert not out[1, :, 2].any()
    assert not out[2, :, 1].any()
    assert pairs(episodes=(0, 1, 1)).global_negatives("keep").tolist() == [
        [False, True, True],
        [True, False, False],
        [True, False, False],
    ]


def test_equal_words_are_no_negatives_in_other_chunks() -> None:
    words = torch.tensor([[1, 1, 1, 2], [1, 1, 1, 2], [3, 3, 2, 2]])
    given = pairs(words=words)
    out = given.local_negatives("mask").view(3, 4, 3, 4)
    assert out[0, 0, 1].tolist() == [False, False, False, True]
    assert out[0, 3, 2].tolist() == [True, True, False, False]
    assert out[0, 0, 0].tolist() == [False, False, True, True]  # within a chunk time tells them apart
    assert given.global_negatives("mask").tolist() == [[False, False, True], [False, False, True], [True, True, False]]
    chunks, slots = given.further_positives()
    assert chunks.tolist() == [[False, True, False], [True, False, False], [False, False, False]]
    assert slots.view(3, 4, 3, 4)[0, 0].tolist() == [[False] * 4, [True, True, True, False], [False] * 4]


def test_info_nce_is_clips_cross_entropy() -> None:
    torch.manual_seed(0)
    a, b = (F.normalize(torch.randn(6, 8), dim=-1) for _ in range(2))
    everyone = ~torch.eye(6, dtype=torch.bool)
    logits = 10 * a @ b.T
    expected = (F.cross_entropy(logits, torch.arange(6)) + F.cross_entropy(logits.T, torch.arange(6))) / 2
    torch.testing.assert_close(info_nce(a, b, torch.tensor(10.0), torch.ones(6, dtype=torch.bool), everyone), expected)
    some = torch.tensor([True, True, True, True, False, False])
    expected = (
        F.cross_entropy(logits[:4, :4], torch.arange(4)) + F.cross_entropy(logits.T[:4, :4], torch.arange(4))
    ) / 2
    torch.testing.assert_close(info_nce(a, b, torch.tensor(10.0), some, everyone), expected)
    nobody = torch.zeros(6, dtype=torch.bool)
    assert info_nce(a, b, torch.tensor(10.0), nobody, everyone) == 0


def test_slots_that_are_masked_change_nothing() -> None:
    align, given = heads(), seen()
    valid = given.valid_BM.clone()
    valid[1, 2:], valid[3] = False, False
    given = replace(given, valid_BM=valid)
    h = torch.randn(4, 5, 6, generator=torch.Generator().manual_seed(1))
    spoilt_h = torch.where(valid[..., None], h, 9.0)
    spoilt = replace(given, text_BMW=torch.where(valid[..., None], given.text_BMW, 9.0))
    first = alignment_losses(align, h, given, torch.arange(4))
    other = alignment_losses(align, spoilt_h, spoilt, torch.arange(4))
    for name, loss in first.items():
        assert loss > 0
        torch.testing.assert_close(other[name], loss)
    nothing = alignment_losses(align, h, replace(given, valid_BM=torch.zeros_like(valid)), torch.arange(4))
    assert [float(loss.detach()) for loss in nothing.values()] == [0, 0]


def test_cosines_are_those_of_the_slots_that_have_a_moment() -> None:
    align, given = heads(), seen()
    valid = given.valid_BM.clone()
    valid[1, 2:], valid[3] = False, False
    given = replace(given, valid_BM=valid)
    h = torch.randn(4, 5, 6, generator=torch.Generator().manual_seed(1))
    losses = alignment_losses(align, h, given, torch.arange(4), cosine=True)
    expected = 1 - F.cosine_similarity(align.action(h)[valid], align.of(given)[valid], dim=-1).mean()
    torch.testing.assert_close(losses.pop("align_cosine"), expected)
    assert losses == alignment_losses(align, h, given, torch.arange(4))
    nothing = replace(given, valid_BM=torch.zeros_like(valid))
    assert alignment_losses(align, h, nothing, torch.arange(4), cosine=True)["align_cosine"] == 0


@pytest.mark.parametrize("same_text", ["mask", "keep", "soft"])
def test_alignment_is_learned_and_the_temperature_too(same_text: str) -> None:
    align, given = heads(latent_dim=kit.WIDTH), seen(B=8)
    given = replace(given, words_BM=given.words_BM // 10)
    h = given.views_BMVW[:, :, 0].clone()  # motion that tells what the first view shows
    assert float(align.temperature.detach()) == pytest.approx(0.1)
    optimizer = torch.optim.Adam(align.parameters(), lr=5e-3)
    before = None
    for _ in range(60):
        losses = alignment_losses(align, h, given, torch.arange(8), same_text)  # type: ignore[arg-type]
        total = torch.stack(list(losses.values())).sum()
        before = before or float(total.detach())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    assert float(total.detach()) < (0.8 if same_text == "soft" else 0.5) * before
    assert float(align.temperature.detach()) != pytest.approx(0.1)
    assert float(align.fusion.view_logit_V.detach().diff()) != 0
    own = (align.action(h) * align.of(given)).sum(-1)
    assert own.mean() > (0.25 if same_text == "soft" else 0.5)
    assert own.detach().abs().max() <= 1 + 1e-5


def test_a_head_sees_only_the_dimensions_it_may() -> None:
    align = heads()
    align.gain_C[:4] = 0
    h = torch.randn(2, 3, 6)
    spoilt = h.clone()
    spoilt[..., :4] = 5
    torch.testing.assert_close(align.action(h), align.action(spoilt), rtol=0, atol=0)


# -- several ranks ---------------------------------------------------------------------------------------------------


def _rank_main(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    loss, gradient = _loss_and_gradient(slice(2 * rank, 2 * rank + 2))
    dist.all_reduce(gradient)
    torch.save({"loss": loss, "gradient": gradient / 2}, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def _loss_and_gradient(rows: slice) -> tuple[Tensor, Tensor]:
    align, given = heads(), seen()
    h = torch.randn(4, 5, 6, generator=torch.Generator().manual_seed(1))
    part = TeacherFeatures(*(tensor[rows] for tensor in vars(given).values()))
    losses = alignment_losses(align, h[rows], part, torch.arange(4)[rows])
    total = torch.stack(list(losses.values())).sum()
    total.backward()
    used = [p.grad.flatten() for p in align.parameters() if p.grad is not None]
    return total.detach(), torch.cat(used)


def test_two_ranks_compare_with_each_others_chunks_as_one_big_batch_would(tmp_path: Path) -> None:
    mp.spawn(_rank_main, args=(str(tmp_path),), nprocs=2)
    loss, gradient = _loss_and_gradient(slice(0, 4))
    for rank in (0, 1):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        torch.testing.assert_close(found["loss"], loss)
        torch.testing.assert_close(found["gradient"], gradient, rtol=1e-4, atol=1e-7)


# -- the next frame, substitution, files -----------------------------------------------------------------------------


def test_the_next_frame_is_learned_where_there_is_one() -> None:
    torch.manual_seed(0)
    predictor, after = NextFrame(6, kit.WIDTH, views=2, hidden=16, heads=2), seen(B=8, M=1)
    z = torch.randn(8, 3, 6)
    valid = after.valid_BM.clone()
    valid[6:] = False
    after = replace(after, valid_BM=valid)
    first = float(next_frame_loss(predictor, z, 12, after).detach())
    optimizer = torch.optim.Adam([p for p in predictor.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(60):
        loss = next_frame_loss(predictor, z, 12, after)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.5 * first
    expected = (predictor(z, 12) - predictor.fusion(after)[:, 0]).abs()[:6].mean()
    torch.testing.assert_close(next_frame_loss(predictor, z, 12, after), expected)
    assert next_frame_loss(predictor, z, 12, replace(after, valid_BM=torch.zeros_like(valid))) == 0


def test_latents_come_back_from_features_that_tell_them() -> None:
    generator = torch.Generator().manual_seed(0)
    mix = torch.randn(kit.WIDTH, 6, generator=generator)
    u = [torch.randn(32, 5, kit.WIDTH, generator=generator) for _ in range(8)]
    h = [(x - x[:, :1]) @ mix for x in u]  # relative to the first slot, as latents are
    valid = [torch.ones(32, 5, dtype=torch.bool) for _ in u]
    substitute = Substitute(kit.WIDTH, 6)
    assert substitute.fit(u, h, valid, held=2) > 0.9
    error = (substitute(u[-1]) - h[-1]).square().mean() / h[-1].square().mean()
    assert error < 0.1
    noise = [torch.randn(x.shape, generator=generator) for x in h]
    assert Substitute(kit.WIDTH, 6).fit(u, noise, valid, held=2) < 0.2


def test_heads_come_back_from_a_run_and_nothing_else_passes_for_them(tmp_path: Path) -> None:
    align = heads(text_weight=0.25)
    align.gain_C[0] = 3.0
    with pytest.raises(FileNotFoundError, match="--features"):
        load_heads(tmp_path)
    save_file({f"align.{name}": t for name, t in align.state_dict().items()}, tmp_path / "heads.safetensors")
    found, given, h = load_heads(tmp_path), seen(), torch.randn(2, 3, 6)
    torch.testing.assert_close(found.action(h), align.action(h), rtol=0, atol=0)
    torch.testing.assert_close(found.of(given), align.of(given), rtol=0, atol=0)
    views, mask, text = given.views_BMVW, given.view_mask_BMV, given.text_BMW
    torch.testing.assert_close(found.teacher(views, mask, text), align.of(given), rtol=0, atol=0)
    assert found.to_latent(views, mask, text).shape == (4, 5, 6)
    save_file({"codes.x": torch.zeros(1)}, tmp_path / "heads.safetensors")
    with pytest.raises(ValueError, match="no alignment"):
        load_heads(tmp_path)
    (tmp_path / "heads.safetensors").write_bytes(b"no")
    with pytest.raises(ValueError, match="damaged"):
        load_heads(tmp_path)


def test_the_shipped_heads_fit_the_shipped_tokenizer_and_are_no_part_of_it() -> None:
    tokenizer = Tokenizer.from_pretrained("arms26")
    align = load_heads(storage.shipped("arms26"))
    assert align.action_head[0].in_features == tokenizer.codec.latent_dim
    assert not [name for name in storage.tensors_of(tokenizer.codec) if "align" in name or "predict" in name]
    latents = torch.randn(2, 4, tokenizer.codec.latent_dim, generator=torch.Generator().manual_seed(0))
    assert align.action(latents).shape[:2] == (2, 4)
