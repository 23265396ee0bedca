"""Motion words: one word for every 16 frames, and residuals of free depth behind it."""

from xtok.codec.words.encode import encode, encode_fixed
from xtok.codec.words.fit import FitSettings, fit, own_words, ridge_for
from xtok.codec.words.grammar import Grammar
from xtok.codec.words.model import WordModel
from xtok.codec.words.repair import Repaired, repair
from xtok.codec.words.sequences import Sequences
from xtok.codec.words.stream import WordStream
from xtok.codec.words.word import NearestWords, Words

__all__ = [
    "FitSettings",
    "Grammar",
    "NearestWords",
    "Repaired",
    "Sequences",
    "WordModel",
    "WordStream",
    "Words",
    "encode",
    "encode_fixed",
    "fit",
    "own_words",
    "repair",
    "ridge_for",
]
