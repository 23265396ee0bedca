"""Chunks of channels as ids behind a text vocabulary, and back: what hosts of language models need.

# B chunks, T frames, D channels, L ids of a chunk
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from xtok.actions.types import Codes
from xtok.codec.channels import ChannelCodec
from xtok.codec.tokens.vocabulary import CodeVocabulary


def vocabulary_of(codec: ChannelCodec, offset: int, marker: bool = False) -> CodeVocabulary:
    """Every level's codes as words of their own, from `offset` on."""
    return CodeVocabulary(offset, codec.levels, codec.codebook_size, marker)


def chunk_to_ids(codec: ChannelCodec, vocabulary: CodeVocabulary, actions_BTD: Any) -> list[list[int]]:
    """Ids of each chunk; a tensor, an array or lists.

    Raises:
        ValueError: as `ChannelCodec.encode`.
    """
    grid = codec.encode(actions_BTD)
    return vocabulary.ids(Codes(tuple(grid.reshape(len(grid), -1)), codec.codebook_size))


def ids_to_chunk(
    codec: ChannelCodec, vocabulary: CodeVocabulary, ids: Sequence[Sequence[int]], horizon: int, channels: int
) -> Float[np.ndarray, "B T D"]:
    """Actions of generations; text before and after the codes is passed over.

    Raises:
        ValueError: no codes, codes out of order or too few, or what `ChannelCodec.decode` refuses.
    """
    return codec.decode(vocabulary.codes(ids).tokens, horizon, channels)
