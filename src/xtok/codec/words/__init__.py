"""Motion words: one word for every 16 frames, and residuals of free depth behind it."""

from xtok.codec.words.action_stream import ActionStream
from xtok.codec.words.codec import WordCodec
from xtok.codec.words.encode import encode, encode_fixed
from xtok.codec.words.fit import FitSettings, fit, own_words, ridge_for
from xtok.codec.words.fit_shared import Taught, fit_shared, measure
from xtok.codec.words.grammar import Grammar
from xtok.codec.words.model import WordModel
from xtok.codec.words.repair import Repaired, repair
from xtok.codec.words.robot import WordRobot
from xtok.codec.words.sequences import Sequences
from xtok.codec.words.settings import CodingSettings
from xtok.codec.words.shared_books import LevelMap, MeasuredRobot, SharedBooks, SharedLevel, with_shared_books
from xtok.codec.words.stream import WordStream
from xtok.codec.words.tokenizer import WordTokenizer
from xtok.codec.words.word import NearestWords, Words

__all__ = [
    "ActionStream",
    "CodingSettings",
    "FitSettings",
    "Grammar",
    "LevelMap",
    "MeasuredRobot",
    "NearestWords",
    "Repaired",
    "Sequences",
    "SharedBooks",
    "SharedLevel",
    "Taught",
    "WordCodec",
    "WordModel",
    "WordRobot",
    "WordStream",
    "WordTokenizer",
    "Words",
    "encode",
    "encode_fixed",
    "fit",
    "fit_shared",
    "measure",
    "own_words",
    "repair",
    "ridge_for",
    "with_shared_books",
]
