"""Codes as tokens of a language model: ids and strings, a mask for generation, decoding while they are written.

- `vocabulary`: codes as ids behind a text vocabulary, and back
- `word_vocabulary`: motion words likewise; `channel_vocabulary`: those of channels of unknown meaning
- `mask`: logits processors that let a model write whole chunks only
- `stream`: codes decoded while they are still being written
- `channel_ids`: chunks of channels of unknown meaning straight to ids, and back
"""

from __future__ import annotations

from xtok.codec.tokens.channel_vocabulary import ChannelWordVocabulary
from xtok.codec.tokens.mask import CodeMask, WordMask
from xtok.codec.tokens.stream import CodeStream
from xtok.codec.tokens.vocabulary import CodeVocabulary
from xtok.codec.tokens.word_vocabulary import WordVocabulary

__all__ = ["ChannelWordVocabulary", "CodeMask", "CodeStream", "CodeVocabulary", "WordMask", "WordVocabulary"]
