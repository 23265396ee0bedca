"""What a chunk would cost behind an entropy coder that knows how often each token occurs, and nothing else.

# B chunks, M slots, Q levels, V tokens
The frequencies are those of train episodes; the evaluated chunks only pay by them.
"""

from __future__ import annotations

import numpy as np

from xtok.actions.types import Codes
from xtok.evaluate.codebook import by_level

SMOOTHING = 0.5  # added to every token's count (Krichevsky and Trofimov): one never seen costs bits, not infinity


def entropy_bits_mean(train: Codes, codes: Codes) -> float:
    """Mean bits a chunk of `codes`, by cross-entropy with the token frequencies of `train`.

    Levels are vocabularies of their own, because a code's place in the sequence tells its level.
    """
    bits = 0.0
    for seen, paid in zip(by_level(train), by_level(codes), strict=True):
        counts = np.bincount(seen, minlength=codes.vocab_size) + SMOOTHING
        bits -= float(np.log2(counts / counts.sum())[paid].sum())
    return bits / len(codes)
