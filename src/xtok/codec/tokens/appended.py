"""What vocabularies of codes behind a text vocabulary have in common: where their ids are, and how they get there.

# B sequences, L tokens of a sequence, N ids of the language model
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Self, TypeVar

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from xtok.actions.entrance import integers_of, whole_of


class AppendedVocabulary(ABC):
    """Ids `offset` .. `offset + size - 1`.

    offset: the size of the text vocabulary, so that no text id is ever touched (openpi #708 overwrote some).
    """

    offset: int

    @property
    @abstractmethod
    def size(self) -> int:
        """Ids in all."""

    @abstractmethod
    def tokens(self) -> list[str]:
        """All token strings, by id."""

    @property
    def end(self) -> int:
        """One more than the last id: rows that the model's embedding needs at least."""
        return self.offset + self.size

    def owns(self, token_id: int) -> bool:
        """Whether an id is of this vocabulary, and no text."""
        return self.offset <= token_id < self.end

    def place_of(self, token_id: int) -> int:
        """Which of this vocabulary's ids it is, from 0.

        Raises:
            ValueError: text.
        """
        if not self.owns(token_id):
            raise ValueError(f"id {token_id} is no code; ids of codes are {self.offset} to {self.end - 1}")
        return token_id - self.offset

    def check_text(self, ids: Iterable[int]) -> None:
        """Look whether text has ids of codes: then the offset lies inside the text vocabulary.

        Raises:
            ValueError: it has.
        """
        for token_id in ids:
            if self.owns(token_id):
                raise ValueError(
                    f"text has id {token_id}, and ids of codes are {self.offset} to {self.end - 1}: they overlap. "
                    "offset is the size of the text vocabulary, added tokens included"
                )

    def written(self, row: int, ids: Sequence[int]) -> list[int]:
        """The ids of sequence `row` from its first code to its last one; text before and after is passed over.

        Raises:
            ValueError: no code at all.
        """
        ours = [at for at, token_id in enumerate(ids) if self.owns(token_id)]
        if not ours:
            raise ValueError(f"sequence {row} has no code; ids of codes are {self.offset} to {self.end - 1}")
        return list(ids[ours[0] : ours[-1] + 1])

    def mask(self, ranges: Iterable[tuple[int, int]], size: int | None = None) -> Bool[Tensor, " N"]:
        """True for the ids of half-open ranges. size: N, ids of the language model; None: as few as there can be.

        Raises:
            ValueError: a language model without room for all codes.
        """
        size = self.end if size is None else whole_of(size, "size", 1)
        if size < self.end:
            raise ValueError(
                f"the language model has {size} ids, the codes need {self.end}; "
                f"resize it: model.resize_token_embeddings({self.end})"
            )
        out = torch.zeros(size, dtype=torch.bool)
        for low, high in ranges:
            out[low:high] = True
        return out


V = TypeVar("V", bound=AppendedVocabulary)
G = TypeVar("G")


@dataclass(frozen=True)
class GrammarVocabulary(AppendedVocabulary, Generic[G]):
    """Ids in the order of a grammar, which says what may follow what.

    Raises:
        ValueError: a negative offset, or one that is no whole number; no grammar.
    """

    offset: int
    grammar: G

    grammar_type: ClassVar[type]
    given_by: ClassVar[str]  # what has such a grammar

    def __post_init__(self) -> None:
        object.__setattr__(self, "offset", whole_of(self.offset, "offset", 0))
        if not isinstance(self.grammar, self.grammar_type):
            raise ValueError(
                f"grammar is a {type(self.grammar).__name__}; expected a {self.grammar_type.__name__}: "
                f"{self.given_by}.grammar"
            )

    @classmethod
    def append_to(cls, text_tokenizer: Any, grammar: G) -> Self:
        """Add all tokens to a `tokenizers.Tokenizer` or a transformers tokenizer, in place, after its last id.

        Resize the model too: `model.resize_token_embeddings(vocabulary.end)`, if it has fewer rows than that.

        Raises:
            ValueError: the tokenizer already has some of the tokens, or does not number new ones from its end.
        """
        return append_tokens(text_tokenizer, lambda offset: cls(offset, grammar))

    def shifted(self, ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
        """Ranges of the grammar's ids as ranges of the language model's."""
        return [(self.offset + low, self.offset + high) for low, high in ranges]


def append_tokens(text_tokenizer: Any, behind: Callable[[int], V]) -> V:
    """Add all tokens of a vocabulary to a `tokenizers.Tokenizer` or a transformers tokenizer, in place.

    behind: the vocabulary from its offset.

    Raises:
        ValueError: the tokenizer already has some of the tokens, or does not number new ones from its end.
    """
    if not hasattr(text_tokenizer, "get_vocab"):
        kind = type(text_tokenizer).__name__
        raise ValueError(f"a {kind} has no get_vocab(); expected a tokenizers.Tokenizer or one of transformers")
    known = text_tokenizer.get_vocab()
    vocabulary = behind(max(known.values(), default=-1) + 1)
    tokens = vocabulary.tokens()
    if taken := [token for token in tokens if token in known]:
        raise ValueError(
            f"this tokenizer already has {taken[0]} ({len(taken)} such tokens); it was extended before: "
            f"use {type(vocabulary).__name__}(offset={known[taken[0]]}, ...) of the time"
        )
    if hasattr(text_tokenizer, "add_special_tokens") and not hasattr(text_tokenizer, "convert_ids_to_tokens"):
        text_tokenizer.add_special_tokens(tokens)  # tokenizers.Tokenizer
    else:
        text_tokenizer.add_tokens(tokens, special_tokens=True)
    found = text_tokenizer.get_vocab()
    if any(found.get(token) != vocabulary.offset + i for i, token in enumerate(tokens)):
        raise ValueError("the tokenizer gave the new tokens other ids than the next ones; add them by hand")
    return vocabulary


def rows_of(ids: Iterable[Sequence[int] | Int[Tensor, " L"]]) -> list[list[int]]:
    """What people pass as ids of several sequences, as lists.

    Raises:
        ValueError: one sequence alone, text, or what is no whole number.
    """
    if isinstance(ids, (str, bytes, Mapping)) or not hasattr(ids, "__iter__") or getattr(ids, "ndim", 2) < 2:
        raise ValueError(f"ids are a {type(ids).__name__}; expected a list of ids for each sequence, [B, L]")
    return [
        integers_of(given, f"ids of sequence {row}", "in one row", 1).tolist() if _any(given) else []
        for row, given in enumerate(ids)
    ]


def _any(given: Any) -> bool:
    """False for a sequence without ids, whose dtype says nothing."""
    return not hasattr(given, "__len__") or getattr(given, "ndim", 1) != 1 or len(given) > 0
