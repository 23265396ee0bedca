"""h of whole sets of chunks and motion from it, as plain arrays, for the measures of meaning, which see no codec.

# N chunks, T frames, D channels, M slots, C latent channels
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from xtok.actions.types import ChunkBatch, Context
from xtok.codec.load import AnyTokenizer
from xtok.codec.words import WordTokenizer
from xtok.data.origins import Origins, Words
from xtok.semantics.word_latents import WordLatents

BATCH_SIZE = 256


@torch.no_grad()
def latents(tokenizer: AnyTokenizer, chunks: ChunkBatch) -> np.ndarray:
    """[N, M, C] float32: what q0 or a word quantises, before it does. Same errors as `encode`."""
    if isinstance(tokenizer, WordTokenizer):
        return WordLatents(tokenizer).latents(chunks).numpy()
    codec = tokenizer.codec
    parts = []
    for i in range(0, len(chunks), BATCH_SIZE):
        batch = chunks[slice(i, i + BATCH_SIZE)]
        batch_context = codec.batch_context(batch.context)
        parts.append(codec.latents(codec.motion(batch, batch_context), batch_context).float())
    return torch.cat(parts).numpy()


@torch.no_grad()
def decode_latents(tokenizer: AnyTokenizer, h_NMC: np.ndarray, context: Context) -> np.ndarray:
    """[N, T, D] float32: deltas, physical units, that given latents decode to through quantisation; masked channels 0.

    Of a Gaussian codec latents tell the first level alone, and of motion words the words, since the others code what
    these left of the true motion; of a perceiver they tell all levels.
    """
    if isinstance(tokenizer, WordTokenizer):
        return WordLatents(tokenizer).decode_latents(torch.from_numpy(h_NMC), context).numpy()
    codec, parts = tokenizer.codec, []
    for i in range(0, len(context), BATCH_SIZE):
        part = context[slice(i, i + BATCH_SIZE)]
        batch_context = codec.batch_context(part)
        h = torch.from_numpy(h_NMC[i : i + BATCH_SIZE]).float()
        delta = codec.delta(codec.decode(codec.encode_latents(h, batch_context), batch_context), batch_context)
        parts.append(torch.where(part.mask_BD[:, None], delta, 0.0).float())
    return torch.cat(parts).numpy()


def origins_of(episode_N: Sequence[tuple[str, int]], start_N: np.ndarray, last_N: np.ndarray) -> Origins:
    """Where chunks cut at the recorded rate come from, for `gather_features`. start_N: first target frame; last_N: the
    episode's last one. What was said is not in it: equal words are for training."""
    N, silent = len(start_N), Words(torch.zeros(1, dtype=torch.long), torch.zeros(1, dtype=torch.long))
    return Origins(
        tuple(episode_N),
        torch.from_numpy(np.asarray(start_N)) - 1,
        torch.ones(N),
        torch.from_numpy(np.asarray(last_N)),
        torch.zeros(N, dtype=torch.bool),
        (silent,) * N,
    )
