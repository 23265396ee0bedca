"""A tokenizer of whatever kind, from shipped weights, a folder or a hub id."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypeAlias

from xtok.codec import storage
from xtok.codec.tokenizer import Tokenizer
from xtok.codec.words import WordTokenizer

AnyTokenizer: TypeAlias = Tokenizer | WordTokenizer


def load_tokenizer(path_or_id: str | Path | None = None) -> AnyTokenizer:
    """A folder written by `save_pretrained`, shipped weights by name, or a hub id: a `WordTokenizer` where it holds
    motion words, else a `Tokenizer`.

    Raises:
        FileNotFoundError: no such tokenizer. ValueError: a damaged or altered one.
    """
    folder = storage.resolve(path_or_id)
    return WordTokenizer.from_pretrained(folder) if holds_words(folder) else Tokenizer.from_pretrained(folder)


def holds_words(folder: Path) -> bool:
    """Whether a tokenizer's folder says that it holds motion words; whoever opens it looks closer."""
    try:
        config = json.loads((folder / storage.CONFIG).read_text(encoding="utf-8"))
        return bool(config["codec"]["kind"] == "words")
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        return False
