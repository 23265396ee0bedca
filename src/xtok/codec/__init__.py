"""The codec: motion into codes and back. `Tokenizer` is the product, the rest is how it is made."""

from __future__ import annotations

from xtok.codec.config import CodecConfig, GaussianConfig, PerceiverConfig, paper, small, small_perceiver
from xtok.codec.tokenizer import Tokenizer

__all__ = ["CodecConfig", "GaussianConfig", "PerceiverConfig", "Tokenizer", "paper", "small", "small_perceiver"]
