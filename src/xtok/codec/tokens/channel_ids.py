"""Chunks of channels as ids behind a text vocabulary, and back: what hosts of language models need.

Of either kind of codec: slots of levels, one length for all chunks of one T, or motion words of free length.

# B chunks, T frames, D channels, L ids of a chunk
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from xtok.actions.types import Codes
from xtok.codec.channels import ChannelCodec
from xtok.codec.tokens.channel_vocabulary import ChannelWordVocabulary
from xtok.codec.tokens.vocabulary import CodeVocabulary
from xtok.codec.words.channels import WordChannels

AnyChannels = ChannelCodec | WordChannels
ChannelVocabulary = CodeVocabulary | ChannelWordVocabulary


def vocabulary_of(codec: AnyChannels, offset: int, marker: bool = False) -> ChannelVocabulary:
    """Every level's codes, or every book's, as words of their own, from `offset` on.

    marker: of groups of codes, which motion words do not have.

    Raises:
        ValueError: a marker with motion words.
    """
    if isinstance(codec, ChannelCodec):
        return CodeVocabulary(offset, codec.levels, codec.codebook_size, marker)
    if marker:
        raise ValueError("motion words have no groups that a marker could begin; leave marker=True away")
    return ChannelWordVocabulary(offset, codec.grammar)


def chunk_to_ids(codec: AnyChannels, vocabulary: ChannelVocabulary, actions_BTD: Any) -> list[list[int]]:
    """Ids of each chunk; a tensor, an array or lists.

    Raises:
        ValueError: as the codec's `encode`.
    """
    if isinstance(codec, WordChannels):
        assert isinstance(vocabulary, ChannelWordVocabulary)
        return vocabulary.ids(codec.encode(actions_BTD))
    assert isinstance(vocabulary, CodeVocabulary)
    grid = codec.encode(actions_BTD)
    return vocabulary.ids(Codes(tuple(grid.reshape(len(grid), -1)), codec.codebook_size))


def ids_to_chunk(
    codec: AnyChannels, vocabulary: ChannelVocabulary, ids: Sequence[Sequence[int]], horizon: int, channels: int
) -> Float[np.ndarray, "B T D"]:
    """Actions of generations; text before and after the codes is passed over.

    Raises:
        ValueError: no codes, codes out of order or too few, or what the codec's `decode` refuses.
    """
    if isinstance(codec, WordChannels):
        assert isinstance(vocabulary, ChannelWordVocabulary)
        return codec.decode(vocabulary.codes(ids), horizon, channels)
    assert isinstance(vocabulary, CodeVocabulary)
    return codec.decode(vocabulary.codes(ids).tokens, horizon, channels)


def padded(
    ids: Sequence[Sequence[int]], vocabulary: ChannelVocabulary
) -> tuple[Int[Tensor, "B L"], Bool[Tensor, "B L"]]:
    """Ids of a batch, and True where there is one; behind a shorter row's end stands 0.

    Raises:
        ValueError: rows of several lengths where 0 is a code (offset 0).
    """
    longest = max(map(len, ids), default=0)
    if vocabulary.owns(0) and any(len(row) != longest for row in ids):
        raise ValueError(
            "chunks have several lengths, and with offset 0 there is no text id to fill up with: give offset, the size "
            "of the text vocabulary, or a codec of one length (`with_fixed`)"
        )
    tokens_BL = torch.zeros(len(ids), longest, dtype=torch.long)
    mask_BL = torch.zeros(len(ids), longest, dtype=torch.bool)
    for row, each in enumerate(ids):
        tokens_BL[row, : len(each)], mask_BL[row, : len(each)] = torch.tensor(each, dtype=torch.long), True
    return tokens_BL, mask_BL
