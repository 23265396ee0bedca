"""Measure how D channels of unknown meaning move, from chunks alone: no state, no robot. Decision 0010.

# B chunks, T frames, D channels of the data, S = 64 frames
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from xtok.actions.types import FRAMES_PER_SLOT, HORIZON_MAX, HORIZON_MIN, ChunkBatch
from xtok.codec import Tokenizer
from xtok.codec.anchor import StateCode
from xtok.codec.batch import BatchContext
from xtok.codec.channel_input import fitting_data, pad_last_frame
from xtok.codec.channels import CHANNELS, ChannelCodec, batch_of, ranges
from xtok.codec.gaussian import GaussianCodec
from xtok.codec.gaussian.prior import fit_prior
from xtok.codec.gaussian.slot_predictor import PAST
from xtok.pretrain.corpus import HORIZONS, VALIDATION_EVERY
from xtok.pretrain.initialise import calibrate
from xtok.pretrain.measurement import gaussian_copy
from xtok.pretrain.slotwise import draw_details, place_slotwise, samples_of

TRIED = 40_000  # slots that both ways of coding details are tried on
WINDOWS = 2048  # that the motion prior is taken from
BATCH = 256
VALIDATED = 256  # chunks
Sequences = Sequence[Float[np.ndarray, "N D"]]


@torch.no_grad()
def fit_channels(
    tokenizer: Tokenizer, sequences: Sequences, vectors: int = 100_000, iterations: int = 10, seed: int = 0
) -> ChannelCodec:
    """A channel codec with prior and books of its own for this motion; the tokenizer's robots are left out of it.

    sequences: chunks or whole episodes [N, D] in [-1, 1]; longer ones are cut anywhere. Chunks up to the length of the
    longest can be coded. Every fifth is kept to choose how details are coded (decision 0007). vectors: slots that books
    are placed on; under a minute for 100,000.

    Raises:
        ValueError: no sequence of 8 frames, different widths, or too little motion for books.
    """
    base = ChannelCodec(tokenizer)
    checked = [base.checked(sequence) for sequence in sequences]
    long = fitting_data(checked, HORIZON_MIN)
    frames = sum(len(sequence) for sequence in long)
    if frames < tokenizer.codebook_size:
        raise ValueError(
            f"there are {frames} frames; books of {tokenizer.codebook_size} codes need {tokenizer.codebook_size} at "
            "the very least: give more chunks, or use the codec unfitted"
        )
    kept = [s for i, s in enumerate(long) if i % VALIDATION_EVERY == VALIDATION_EVERY - 1] or long
    train = [s for i, s in enumerate(long) if i % VALIDATION_EVERY != VALIDATION_EVERY - 1] or long
    longest = min(HORIZON_MAX, max(len(sequence) for sequence in long))
    state = StateCode.fit(np.concatenate(train), tokenizer.levels, tokenizer.codebook_size)
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)

    codec = gaussian_copy(tokenizer)
    for name in list(codec.statistics):
        codec.forget_robot(name)
        codec.ranges.pop(name, None)
    statistics = replace(ranges(codec.layout, state.channels), horizon_max=longest, count=frames)
    windows = pad_last_frame(_draw(train, longest, WINDOWS, rng), HORIZON_MAX)
    relative = windows - state.decode(state.encode(windows[:, 0]))[:, None]
    codec.add_robot(fit_prior(codec.layout, statistics, torch.from_numpy(relative), codec.config.prior_rank))
    batches = list(_batches(codec, state, train, longest, vectors, rng))
    for books in codec.codebooks:
        books.add(CHANNELS)
    codec.coarse.of(CHANNELS).initialise(_latents(codec, batches), iterations=iterations, seed=seed)
    calibrate(codec, CHANNELS, batches)
    validation = [_batch(codec, state, _draw(kept, T, VALIDATED, rng)) for T in sorted({HORIZON_MIN, longest})]
    _choose_details(codec, batches, validation, vectors, iterations, seed, generator)
    return ChannelCodec(Tokenizer(codec.eval(), tokenizer.name), state, fitted=True)


def _choose_details(
    codec: GaussianCodec,
    batches: Sequence[ChunkBatch],
    validation: Sequence[ChunkBatch],
    vectors: int,
    iterations: int,
    seed: int,
    generator: torch.Generator,
) -> None:
    """Detail books for the chunk as a whole or slot by slot, whichever errs less on validation chunks.

    The two are tried with few vectors; the books of the better one are then placed on all.
    """
    book, tried = codec.residual.of(CHANNELS), min(vectors, TRIED)
    details = torch.cat([codec.residuals(*_motion(codec, chunks)).flatten(0, 1).float() for chunks in batches])
    by_chunk, by_slot = codec.robots[CHANNELS], False
    book.initialise(details[:tried], iterations=iterations, seed=seed)
    # Only long chunks show a slot predictor all the histories that it looks at.
    if any(chunks.context.horizon >= (PAST + 1) * FRAMES_PER_SLOT for chunks in batches):
        error, books = _error(codec, validation), book.books_QVC.clone()
        fitted = place_slotwise(codec, CHANNELS, samples_of(codec, batches), generator, tried, seed, iterations)
        by_slot = _error(codec, validation) <= error
        if by_slot:
            details = draw_details([fitted], vectors, generator)
        else:
            codec.add_robot(by_chunk)
            book.books_QVC.copy_(books)
            book.restart_from_books()
    if vectors > tried:
        book.initialise(details, iterations=iterations, seed=seed)


def _error(codec: GaussianCodec, batches: Sequence[ChunkBatch]) -> float:
    total = 0.0
    for chunks in batches:
        motion, batch_context = _motion(codec, chunks)
        total += float(
            (codec.decode(codec.encode(motion, batch_context), batch_context) - motion).abs().sum(dim=2).mean()
        )
    return total


def _latents(codec: GaussianCodec, batches: Sequence[ChunkBatch]) -> Tensor:
    return torch.cat([codec.latents(*_motion(codec, chunks)).flatten(0, 1).float() for chunks in batches])


def _motion(codec: GaussianCodec, chunks: ChunkBatch) -> tuple[Tensor, BatchContext]:
    batch_context = codec.batch_context(chunks.context)
    return codec.motion(chunks, batch_context), batch_context


def _batches(
    codec: GaussianCodec, state: StateCode, sequences: Sequences, longest: int, vectors: int, rng: np.random.Generator
) -> Iterator[ChunkBatch]:
    """Chunks of mixed lengths until they have that many slots, the longest first."""
    lengths = [T for T in HORIZONS if T < longest] + [longest]
    seen, horizon = 0, longest
    while seen < vectors:
        yield _batch(codec, state, _draw(sequences, horizon, BATCH, rng))
        seen += BATCH * -(-horizon // 4)
        horizon = int(rng.choice(lengths))


def _batch(codec: GaussianCodec, state: StateCode, actions_BTD: np.ndarray) -> ChunkBatch:
    return batch_of(codec.layout, actions_BTD, state.decode(state.encode(actions_BTD[:, 0])))


def _draw(sequences: Sequences, horizon: int, count: int, rng: np.random.Generator) -> Float[np.ndarray, "B T D"]:
    """Chunks that start anywhere, chances equal over all starts."""
    room = np.array([max(0, len(sequence) - horizon + 1) for sequence in sequences], dtype=np.float64)
    if room.sum() == 0:  # the validation part may have shorter ones only
        return pad_last_frame(_draw(sequences, max(len(sequence) for sequence in sequences), count, rng), horizon)
    chosen = rng.choice(len(sequences), count, p=room / room.sum())
    starts = [int(rng.integers(int(room[i]))) for i in chosen]
    return np.stack([sequences[i][s : s + horizon] for i, s in zip(chosen, starts, strict=True)])
