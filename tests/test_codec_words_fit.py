"""How books of motion words are placed."""

from __future__ import annotations

import pytest
import torch

from words_kit import CHANNELS, QUICK, SMALL, small_model, waves
from xtok.codec.words import fit
from xtok.codec.words.fit_segments import left_open
from xtok.codec.words.kmeans import kmeans, nearest


def sample(rows: int, seed: int, width: int = 6) -> torch.Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))


def test_what_a_book_leaves_open_is_told_as_for_vectors_that_it_has_not_seen() -> None:
    seen, unseen = sample(3000, 0), sample(3000, 1)
    book = kmeans(seen, 600, 8, torch.Generator().manual_seed(0))
    honest = float((unseen - book[nearest(unseen, book)]).square().mean())
    flattering = float((seen - book[nearest(seen, book)]).square().mean())
    index, left = left_open(seen, book)
    assert flattering < 0.85 * honest
    assert 0.88 * honest < float(left.square().mean()) < 1.05 * honest
    alone = torch.bincount(nearest(seen, book), minlength=600)[nearest(seen, book)] == 1
    assert alone.any() and (left[alone].square().sum(dim=1) > 0).all()
    assert (index[alone] != nearest(seen, book)[alone]).all()


def test_k_means_has_no_twins_and_uses_its_codes() -> None:
    few = sample(40, 2).repeat(5, 1)
    book = kmeans(few, 64, 5, torch.Generator().manual_seed(0))
    assert book.shape == (64, 6)
    assert len(torch.unique(book, dim=0)) == 64
    many = sample(4000, 3)
    placed = kmeans(many, 64, 8, torch.Generator().manual_seed(0))
    assert len(nearest(many, placed).unique()) == 64
    drawn = many[:64]
    assert (many - placed[nearest(many, placed)]).square().mean() < (many - drawn[nearest(many, drawn)]).square().mean()


def test_k_means_leaves_out_what_vectors_lack() -> None:
    x = sample(2000, 4)
    valid = torch.ones(2000, 6, dtype=torch.bool)
    valid[1000:, 3:] = False
    wild = torch.where(valid, x, 1e6)
    book = kmeans(torch.where(valid, x, 0.0), 32, 6, torch.Generator().manual_seed(0), valid)
    assert book.abs().max() < 10
    assert torch.equal(nearest(wild, book, valid), nearest(torch.where(valid, x, 0.0), book, valid))


def test_codes_keep_apart_if_they_are_to() -> None:
    x = torch.cat([sample(3000, 5), 0.01 * sample(3000, 6)])  # half of it is all but still
    close = kmeans(x, 200, 8, torch.Generator().manual_seed(0))
    apart = kmeans(x, 200, 8, torch.Generator().manual_seed(0), apart=0.5)

    def still(book: torch.Tensor) -> int:
        return int((book.norm(dim=1) < 0.1).sum())

    assert still(close) > 50 and still(apart) == 1
    used = apart[torch.bincount(nearest(x, apart), minlength=200) > 0]
    distance = torch.cdist(used, used) + 10 * torch.eye(len(used))
    assert float((distance.amin(dim=1) < 0.45).double().mean()) < 0.1
    assert apart.norm(dim=1).max() < 1.3 * x.norm(dim=1).max()


def test_the_same_windows_and_seed_give_the_same_model() -> None:
    again = fit(waves(900, 0), torch.full((CHANNELS,), 0.2), SMALL, QUICK)
    for length, coder in small_model().coders.items():
        assert torch.equal(coder.weight_HFX, again.coders[length].weight_HFX)
        for mine, other in zip(coder.books, again.coders[length].books, strict=True):
            assert all(torch.equal(a.codes_VC, b.codes_VC) for a, b in zip(mine, other, strict=True))


def test_windows_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match=r"lengths .* are longer than the windows, 32 frames"):
        fit(waves(3, 0)[:, :32], torch.ones(CHANNELS), SMALL, QUICK)
