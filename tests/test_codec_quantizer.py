"""The residual quantizer, with vector-quantize-pytorch as its oracle.

# N vectors, C code dimension, Q levels, V codes a level
"""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from vector_quantize_pytorch import ResidualVQ

from xtok.codec.quantizer import ResidualQuantizer

C, V, Q, DECAY = 6, 16, 3, 0.8


def vectors(count: int, seed: int = 0, dim: int = C) -> Tensor:
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))


def placed(levels: int = Q, codes: int = V, dead_share: float = 0.0, seed: int = 0) -> ResidualQuantizer:
    """Books on k-means of normal vectors; with dead_share 0 no code is ever reset. EMA state as at the first step."""
    quantizer = ResidualQuantizer(C, codes, levels, DECAY, dead_share)
    quantizer.initialise(vectors(40 * codes, seed), iterations=4, seed=seed)
    quantizer.count_QV.fill_(1.0)
    quantizer.weight_QVC.fill_(1.0)
    quantizer.sum_QVC.copy_(quantizer.books_QVC)
    return quantizer.eval()


def oracle_of(quantizer: ResidualQuantizer) -> ResidualVQ:
    """The same books and EMA state; no smoothing of counts, no resets, plain straight-through."""
    oracle = ResidualVQ(
        dim=C,
        num_quantizers=quantizer.levels,
        codebook_size=quantizer.codebook_size,
        decay=DECAY,
        eps=1e-12,
        threshold_ema_dead_code=0,
        kmeans_init=False,
        rotation_trick=False,
    )
    for level, layer in enumerate(oracle.layers):
        layer._codebook.embed.data.copy_(quantizer.books_QVC[level][None])
        layer._codebook.embed_avg.data.copy_(quantizer.sum_QVC[level][None])
        layer._codebook.cluster_size.data.copy_(quantizer.count_QV[level][None])
    return oracle.eval()


def test_same_books_give_the_oracles_codes_and_sums() -> None:
    quantizer = placed()
    x_NC = vectors(500, seed=1)
    latents, codes, _ = oracle_of(quantizer)(x_NC[None])
    ours = quantizer(x_NC)
    assert torch.equal(ours.codes_NQ, codes[0])
    torch.testing.assert_close(ours.latents_NC, latents[0])
    torch.testing.assert_close(ours.partial_QNC[-1], ours.latents_NC)
    torch.testing.assert_close(quantizer.lookup(codes[0][:, :2]), ours.partial_QNC[1])


def test_two_training_steps_move_the_books_as_the_oracles() -> None:
    quantizer = placed().train()
    oracle = oracle_of(quantizer).train()
    before = quantizer.books_QVC.clone()
    for seed in (1, 2):
        x_NC = vectors(300, seed)
        _, codes, _ = oracle(x_NC[None])
        assert torch.equal(quantizer(x_NC).codes_NQ, codes[0])
    books = torch.stack([layer._codebook.embed[0] for layer in oracle.layers])
    assert (books - before).abs().max() > 0.05
    torch.testing.assert_close(quantizer.books_QVC, books, atol=1e-5, rtol=1e-4)


def test_one_ema_step_by_hand() -> None:
    quantizer = ResidualQuantizer(dim=1, codebook_size=2, levels=1, decay=DECAY, dead_share=0.0).train()
    quantizer.books_QVC.copy_(torch.tensor([[[0.0], [10.0]]]))
    quantizer.sum_QVC.copy_(quantizer.books_QVC)
    quantizer(torch.tensor([[1.0], [3.0], [9.0]]))
    # Code 0: (.8 * 0 + .2 * 4) / (.8 * 1 + .2 * 2); code 1: (.8 * 10 + .2 * 9) / (.8 + .2).
    torch.testing.assert_close(quantizer.books_QVC.flatten(), torch.tensor([0.8 / 1.2, 9.8]))
    torch.testing.assert_close(quantizer.count_QV.flatten(), torch.tensor([1.2, 1.0]))


def test_evaluation_changes_nothing() -> None:
    quantizer = placed()
    before = {name: value.clone() for name, value in quantizer.state_dict().items()}
    quantizer(vectors(100, seed=3))
    quantizer.search(vectors(100, seed=3), beam=4)
    assert all(torch.equal(before[name], value) for name, value in quantizer.state_dict().items())


def test_commitment_and_its_gradient() -> None:
    """Each level adds mean |r - c|^2; codes are constants, so the gradient is 2 r' / (N C) for every residual left."""
    quantizer = placed()
    x_NC = vectors(50, seed=4).requires_grad_()
    found = quantizer(x_NC)
    left_QNC = x_NC.detach() - found.partial_QNC.detach()
    torch.testing.assert_close(found.commitment, left_QNC.square().mean(dim=(1, 2)).sum())
    found.commitment.backward()
    assert x_NC.grad is not None
    torch.testing.assert_close(x_NC.grad, 2 * left_QNC.sum(dim=0) / x_NC.numel())


def test_codes_carry_no_gradient_of_their_own() -> None:
    """Straight-through is the caller's: x + (code - x).detach() passes the gradient on unchanged."""
    x_NC = vectors(20, seed=5).requires_grad_()
    found = placed()(x_NC)
    assert not found.latents_NC.requires_grad
    through = x_NC + (found.latents_NC - x_NC).detach()
    (3.0 * through).sum().backward()
    assert x_NC.grad is not None
    torch.testing.assert_close(x_NC.grad, torch.full_like(x_NC, 3.0))


@pytest.mark.parametrize("training", [False, True])
def test_masked_dimensions_have_no_influence(training: bool) -> None:
    valid_NC = torch.rand(200, C, generator=torch.Generator().manual_seed(0)) < 0.6
    valid_NC[:, 0] = True
    one, other = placed().train(training), placed().train(training)
    x_NC = vectors(200, seed=6)
    noisy_NC = torch.where(valid_NC, x_NC, 100 * vectors(200, seed=7))
    a, b = one(x_NC, valid_NC), other(noisy_NC, valid_NC)
    assert torch.equal(a.codes_NQ, b.codes_NQ)
    torch.testing.assert_close(a.commitment, b.commitment)
    assert (a.latents_NC[~valid_NC] == 0).all()
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def test_distance_counts_valid_dimensions_only() -> None:
    quantizer = ResidualQuantizer(dim=2, codebook_size=2, levels=1).eval()
    quantizer.books_QVC.copy_(torch.tensor([[[0.0, 50.0], [3.0, 0.0]]]))
    x_NC = torch.tensor([[1.0, 0.0]])
    assert quantizer(x_NC).codes_NQ.item() == 1
    assert quantizer(x_NC, torch.tensor([[True, False]])).codes_NQ.item() == 0


def test_a_dimension_that_no_vector_has_keeps_its_book_values() -> None:
    quantizer = placed().train()
    before = quantizer.books_QVC.clone()
    valid_NC = torch.ones(300, C, dtype=torch.bool)
    valid_NC[:, -1] = False
    quantizer(vectors(300, seed=8), valid_NC)
    torch.testing.assert_close(quantizer.books_QVC[..., -1], before[..., -1])
    assert not torch.allclose(quantizer.books_QVC[..., 0], before[..., 0])


@pytest.mark.parametrize("training", [False, True])
def test_books_are_placed_by_an_explicit_call_alone(training: bool) -> None:
    """A forward may move codes by EMA, but never runs k-means over its batch."""
    quantizer = ResidualQuantizer(C, V, Q, DECAY, dead_share=0.0).train(training)
    x_NC = vectors(400, seed=9)
    assert (quantizer(x_NC).codes_NQ == 0).all()  # books of zeros: all codes are equal, the first is taken
    assert (quantizer.books_QVC[:, 1:] == 0).all()
    quantizer.initialise(x_NC, iterations=5)
    assert quantizer.eval()(x_NC).codes_NQ[:, 0].unique().numel() == V


def test_kmeans_finds_separate_clusters_and_is_repeatable() -> None:
    """Residual levels of exact clusters hold nothing. Vectors repeat, so that k-means has to move its empty codes."""
    centres = torch.cartesian_prod(*[torch.tensor([-4.0, 4.0])] * 3)
    books = []
    for _ in range(2):
        quantizer = ResidualQuantizer(3, 8, levels=2).eval()
        quantizer.initialise(centres.repeat(20, 1), iterations=30, seed=1)
        books.append(quantizer.books_QVC)
    assert torch.equal(*books)
    assert {tuple(code) for code in books[0][0].tolist()} == set(product((-4.0, 4.0), repeat=3))
    torch.testing.assert_close(quantizer(centres).latents_NC, centres)


def test_kmeans_refuses_fewer_vectors_than_codes() -> None:
    with pytest.raises(ValueError, match=r"16 codes needs at least as many vectors, there are 15; give more data"):
        ResidualQuantizer(C, V).initialise(vectors(15))


def test_a_dead_code_is_revived_and_live_ones_are_not_touched() -> None:
    share = 0.02
    quantizer, control = placed(1, dead_share=share).train(), placed(1).train()
    for either in (quantizer, control):
        either.books_QVC[0, 5] = 1000.0  # where no vector ever comes
        either.sum_QVC[0, 5] = 1000.0
    x_NC = vectors(320, seed=10)
    even = len(x_NC) / V
    needed = math.ceil(math.log(1.0 / (share * even)) / math.log(1 / DECAY))  # steps until its count is under .02 N / V
    for step in range(1, needed + 1):
        assert quantizer.resets_Q.item() == 0, f"reset before step {step} of {needed}"
        quantizer(x_NC)
        control(x_NC)
    assert quantizer.resets_Q.item() == 1
    revived = quantizer.books_QVC[0, 5]
    assert (x_NC == revived).all(dim=1).any(), "a revived code lies on a vector of the batch"
    assert quantizer.count_QV[0, 5] == even
    alive = torch.arange(V) != 5
    assert torch.equal(quantizer.books_QVC[0, alive], control.books_QVC[0, alive])
    quantizer(x_NC)
    assert quantizer.resets_Q.item() == 1, "a revived code is given time"


def test_the_threshold_is_relative_to_vectors_over_codes() -> None:
    """Even use is never dead, however small the batch: the published two hits a batch would reset every code here."""
    quantizer = ResidualQuantizer(1, 64, levels=1).train()
    x_NC = torch.arange(64.0)[:, None]
    quantizer.books_QVC.copy_(x_NC[None])
    quantizer.sum_QVC.copy_(x_NC[None])
    for _ in range(60):
        quantizer(x_NC)
    assert quantizer.resets_Q.item() == 0
    torch.testing.assert_close(quantizer.books_QVC[0], x_NC)


@given(count=st.integers(1, 12), seed=st.integers(0, 50))
@settings(max_examples=20, deadline=None)
def test_no_more_codes_are_reset_than_the_batch_has_vectors(count: int, seed: int) -> None:
    quantizer = placed(1, dead_share=0.02).train()
    quantizer.count_QV.zero_()
    before = quantizer.books_QVC.clone()
    x_NC = vectors(count, seed)
    quantizer(x_NC)
    assert 1 <= quantizer.resets_Q.item() <= count
    moved = quantizer.books_QVC[0][(quantizer.books_QVC != before).any(dim=-1)[0]]
    assert len(moved.unique(dim=0)) == len(moved), "no two codes on one vector"


@given(beam=st.integers(2, 12), seed=st.integers(0, 20))
@settings(max_examples=20, deadline=None)
def test_a_wider_search_is_never_worse_on_average_and_codes_are_real(beam: int, seed: int) -> None:
    quantizer = placed()
    x_NC = vectors(200, seed).double()
    greedy, found = quantizer.search(x_NC, beam=1), quantizer.search(x_NC, beam)
    assert torch.equal(greedy, quantizer(x_NC).codes_NQ)
    assert found.shape == greedy.shape and found.min() >= 0 and found.max() < V

    def error(codes: Tensor) -> float:
        return float((quantizer.lookup(codes) - x_NC).square().sum(dim=1).mean())

    assert error(found) < error(greedy)


def test_a_search_over_everything_is_exhaustive() -> None:
    quantizer = placed(levels=2, codes=8)
    x_NC = vectors(60, seed=11).double()
    pairs = torch.cartesian_prod(torch.arange(8), torch.arange(8))
    best = pairs[torch.cdist(x_NC, quantizer.lookup(pairs).double()).argmin(dim=1)]
    assert torch.equal(quantizer.search(x_NC, beam=64), best)


def test_search_of_a_training_quantizer_is_no_training_step() -> None:
    quantizer = placed().train()
    before = quantizer.books_QVC.clone()
    quantizer.search(vectors(100, seed=12), beam=1)
    assert quantizer.training and torch.equal(quantizer.books_QVC, before) and quantizer.hits_QV.sum() == 0


def test_health_of_known_use() -> None:
    quantizer = ResidualQuantizer(1, 4, levels=1, decay=1.0, dead_share=0.0).train()
    quantizer.books_QVC.copy_(torch.tensor([[[0.0], [10.0], [20.0], [30.0]]]))
    quantizer.sum_QVC.copy_(quantizer.books_QVC)
    quantizer(torch.tensor([[0.0], [0.1], [10.0], [20.0]]))
    (health,) = quantizer.health()
    assert health.usage == 0.75 and health.resets == 0
    assert health.perplexity == pytest.approx(math.exp(0.5 * math.log(2) + 2 * 0.25 * math.log(4)))
    quantizer(torch.tensor([[30.0]]))
    assert quantizer.health()[0].usage == 0.25, "counted anew since the last report"


def test_books_stay_float32_for_low_precision_latents() -> None:
    quantizer = placed().train()
    quantizer(vectors(64, seed=13).bfloat16())
    assert quantizer.books_QVC.dtype == quantizer.sum_QVC.dtype == torch.float32
