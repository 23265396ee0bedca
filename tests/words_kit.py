"""A small fitted model of motion words, and its decoder anew in plain numpy, from the files' description alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor

from xtok.codec.words import FitSettings, Grammar, WordModel, fit
from xtok.codec.words.grammar import LENGTHS, LEVELS
from xtok.codec.words.shared_books import LevelMap, Maps, SharedBooks, SharedLevel
from xtok.codec.words.word import NearestWords

CHANNELS = 5
SMALL = Grammar(48, tuple(((length, level), 24) for length in LENGTHS for level in range(1, LEVELS + 1)))
QUICK = FitSettings(
    word_dim=16,
    dim=12,
    rank=32,
    word_sample=3000,
    sample=3000,
    rough_sample=2000,
    open_rows=600,
    closed=120,
    windows=900,
)


def waves(count: int, seed: int, channels: int = CHANNELS) -> Tensor:
    """Smooth motions [N, 64, K] that begin at 0, about one unit large; half of them rest for a while."""
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(1, 65)[None, :, None] / 20
    rest = (2 * torch.rand(count, 1, 1, generator=generator) - 1).clamp_min(0)
    time = (time - rest).clamp_min(0)
    speed, phase, size = (torch.rand(count, 1, channels, generator=generator) for _ in range(3))
    return (size * (torch.sin(2 * speed * time + 6 * phase) - torch.sin(6 * phase))).double()


@cache
def small_model() -> WordModel:
    return fit(waves(900, 0), torch.full((CHANNELS,), 0.2), SMALL, QUICK)


def random_ids(grammar: Grammar, horizon: int, generator: np.random.Generator) -> list[int]:
    """Any sequence that the automaton allows, each next id drawn evenly over the ranges."""
    state, ids = grammar.start(horizon), list[int]()
    while True:
        allowed = grammar.allowed(state)
        if not allowed.ranges or (allowed.end and generator.random() < 0.1):
            return ids
        low, high = allowed.ranges[generator.integers(len(allowed.ranges))]
        ids.append(int(generator.integers(low, high)))
        state = grammar.step(state, ids[-1], len(ids) - 1)


NumpyBooks = Mapping[int, Sequence[Sequence[tuple[np.ndarray, np.ndarray]]]]  # codes, spreads: by length, group, level


def numpy_books(model: WordModel) -> NumpyBooks:
    """A robot's own books."""
    return {
        length: [[(level.codes_VC.numpy(), level.spread_V.numpy()) for level in group] for group in coder.books]
        for length, coder in model.coders.items()
    }


def numpy_mapped(shared: SharedBooks, maps: Maps) -> NumpyBooks:
    """A robot's books from the shared ones and its maps, as their description says."""
    return {
        length: [
            [_mapped(level, mine) for level, mine in zip(group, maps[length][number], strict=True)]
            for number, group in enumerate(groups)
        ]
        for length, groups in shared.levels.items()
    }


def _mapped(shared: SharedLevel, mine: LevelMap) -> tuple[np.ndarray, np.ndarray]:
    codes = []
    for code, number in zip(shared.code_VC.numpy().astype(float), shared.class_V.tolist(), strict=True):
        map_Dc = mine.map_RDc[number].numpy().astype(float)
        codes.append((code[:, None] * map_Dc[:-1]).sum(axis=0) + map_Dc[-1])
    return np.array(codes).astype(np.float32), shared.spread_V.numpy() * np.float32(mine.factor)


def numpy_decode(model: WordModel, ids: Sequence[int], horizon: int, books: NumpyBooks | None = None) -> np.ndarray:
    """[T, K] of one chunk. Nothing of the package's decoder is called; ids are read off the books' sizes. books: in
    place of the model's."""
    books = numpy_books(model) if books is None else books
    assert isinstance(model.words, NearestWords)
    book = model.words.book_VFK.numpy().astype(float)
    K, slots = book.shape[2], -(-horizon // 4)
    starts = [len(book)]
    for _, size in model.grammar.residuals:
        starts.append(starts[-1] + size)
    frames = [np.zeros(K)] * 9
    blocks: list[tuple[int, list[tuple[int, list[int]]]]] = []
    for token in ids:
        if token < len(book):
            blocks.append((token, []))
            continue
        number = next(i for i in range(12) if token < starts[i + 1])
        length, level = (1, 2, 4)[number // 4], number % 4
        if level == 0:
            blocks[-1][1].append((length, []))
        blocks[-1][1][-1][1].append(token - starts[number])
    for number, (word, segments) in enumerate(blocks):
        room = min(4, slots - 4 * number)
        tail = room - sum(length for length, _ in segments)
        base, path = frames[-1], np.concatenate([np.zeros((1, K)), book[word]])
        inside = 0
        for length, codes in [*segments, *([(tail, [])] if tail else [])]:
            frames += list(_segment(model, books, length, codes, frames[-9:], base, path, inside, 4 * number + inside))
            inside += length
    return np.array(frames[9 : 9 + horizon])


def _segment(
    model: WordModel,
    books: NumpyBooks,
    length: int,
    codes: Sequence[int],
    past: Sequence[np.ndarray],
    base: np.ndarray,
    path: np.ndarray,
    inside: int,
    slot: int,
) -> np.ndarray:
    coder = model.coders[length]
    history, group = min(slot, 2), min(slot, 1)
    before, last = np.array(past), past[-1]
    word = path[4 * inside + 1 : 4 * (inside + length) + 1] - path[4 * inside]
    moved = before[:-1] - last
    feature = np.concatenate([moved.ravel(), last, last - base - path[4 * inside], word.ravel(), [1.0]])
    predicted = feature @ coder.weight_HFX[history].numpy().astype(float)
    active = np.log(np.sqrt((predicted**2).mean() + (moved**2).mean() + 1e-8))
    edges = coder.edge_HA[history].numpy().astype(float)
    size = coder.size_HA[history].numpy().astype(float)[int((edges < active).sum())]
    if codes:
        total, unit = np.zeros(coder.direction_GXC.shape[2]), 1.0
        for number, code in enumerate(codes):
            code_VC, spread_V = books[length][group][min(number, 3)]
            total += unit * code_VC[code].astype(float)
            unit *= float(spread_V[code])
        predicted = predicted + size * (coder.direction_GXC[group].numpy().astype(float) @ total)
    return last + predicted.reshape(4 * length, -1)
