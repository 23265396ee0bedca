"""The codec that ships: closed forms and k-means. docs/method.md#the-gaussian-codec."""

from __future__ import annotations

from xtok.codec.gaussian.model import GaussianCodec

__all__ = ["GaussianCodec"]
