"""The old home of `CodeStream`, which is `xtok.codec.tokens` now; the name stays importable here."""

from __future__ import annotations

from xtok.codec.tokens import CodeStream

__all__ = ["CodeStream"]
