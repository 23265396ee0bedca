"""The old home of `CodeVocabulary` and `CodeMask`, which are `xtok.codec.tokens` now; both stay importable here."""

from __future__ import annotations

from xtok.codec.tokens import CodeMask, CodeVocabulary

__all__ = ["CodeMask", "CodeVocabulary"]
