"""Masked modelling of sequences of motion words: which ids are hidden, among those that the grammar lets stand there.

docs/method.md#losses (L_mam); decision 0021. The tokenizer is frozen, so the loss teaches the head and nothing else.

# B chunks, L places of the longest sequence, n predicted places, V ids of the grammar, H hidden
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from xtok import ranks
from xtok.actions.types import FRAMES_PER_SLOT
from xtok.codec.layers import Block
from xtok.codec.tokens.word_vocabulary import WordVocabulary
from xtok.codec.words import Grammar
from xtok.codec.words.grammar import BLOCK_SLOTS, DEPTH, Allowed
from xtok.semantics.masked import Masking


@dataclass(frozen=True)
class WordSequences:
    """Sequences of one batch, of different lengths. ids: 0 behind the end. valid: there is a token. frame: where what a
    token stands for begins. depth: codes of its segment before it, 0 of a word. allowed: which of `masks_SV` says what
    may stand there, behind what stands before it."""

    ids_BL: Int[Tensor, "B L"]
    valid_BL: Bool[Tensor, "B L"]
    frame_BL: Float[Tensor, "B L"]
    depth_BL: Int[Tensor, "B L"]
    allowed_BL: Int[Tensor, "B L"]
    masks_SV: Bool[Tensor, "S V"]

    @staticmethod
    def of(grammar: Grammar, tokens: Sequence[np.ndarray], horizon: int) -> WordSequences:
        """Of encoded chunks of `horizon` frames.

        Raises:
            ValueError: a sequence that does not follow the grammar.
        """
        B, L = len(tokens), max((len(each) for each in tokens), default=0)
        ids_BL, depth_BL, allowed_BL = (torch.zeros(B, L, dtype=torch.long) for _ in range(3))
        frame_BL, valid_BL = torch.zeros(B, L), torch.zeros(B, L, dtype=torch.bool)
        seen: dict[Allowed, int] = {}
        for row, ids in enumerate(tokens):
            state = grammar.start(horizon)
            for place, token in enumerate(ids.tolist()):
                allowed_BL[row, place] = seen.setdefault(grammar.allowed(state), len(seen))
                state = grammar.step(state, token, place)
                begins = state.filled - state.length  # slots of the block before this segment
                frame_BL[row, place] = (state.block * BLOCK_SLOTS + begins) * FRAMES_PER_SLOT
                depth_BL[row, place] = state.depth
            ids_BL[row, : len(ids)], valid_BL[row, : len(ids)] = torch.from_numpy(ids), True
        vocabulary = WordVocabulary(0, grammar)
        masks = [vocabulary.mask(allowed.ranges) for allowed in seen]
        masks_SV = torch.stack(masks) if masks else torch.zeros(0, grammar.total, dtype=torch.bool)
        return WordSequences(ids_BL, valid_BL, frame_BL, depth_BL, allowed_BL, masks_SV)

    def to(self, device: torch.device) -> WordSequences:
        return WordSequences(*(tensor.to(device) for tensor in vars(self).values()))

    def shown(self, grammar: Grammar, masking: Masking) -> tuple[Tensor, Tensor]:
        """ids_BL with random ones put in, each of the book of the id that it hides; and which places are predicted.
        masking: of at least L places."""
        L = self.ids_BL.shape[1]
        books = torch.tensor([grammar.range_of(*key) for key in ((0, 0), *grammar.size_of)], device=self.ids_BL.device)
        low_BL, high_BL = books[torch.bucketize(self.ids_BL, books[:, 1].contiguous(), right=True)].unbind(dim=-1)
        other_BL = low_BL + masking.codes_BM[:, :L] % (high_BL - low_BL)
        random_BL = masking.random_BM[:, :L] & self.valid_BL
        return torch.where(random_BL, other_BL, self.ids_BL), masking.predicted_BM[:, :L] & self.valid_BL


class WordMasking(nn.Module):
    """A small transformer over a sequence's tokens says which ids are hidden.

    Logits are those of the embedding's own rows; what the grammar does not let stand at a place is never said there.
    """

    def __init__(self, ids: int, hidden: int, heads: int, layers: int = 2, dropout: float = 0.1) -> None:
        super().__init__()
        self.embed = nn.Embedding(ids, hidden)
        nn.init.normal_(self.embed.weight, std=0.02)
        self.depth = nn.Embedding(DEPTH + 1, hidden)
        self.mask = nn.Parameter(0.02 * torch.randn(hidden))
        self.blocks = nn.ModuleList(Block(hidden, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(hidden)
        self.bias = nn.Parameter(torch.zeros(ids))

    def forward(
        self, ids_BL: Int[Tensor, "B L"], hidden_BL: Bool[Tensor, "B L"], sequences: WordSequences
    ) -> Float[Tensor, "B L H"]:
        """What is told of each place. hidden_BL: places that show [MASK]."""
        x_BLH = torch.where(hidden_BL[..., None], self.mask, self.embed(ids_BL)) + self.depth(sequences.depth_BL)
        for block in self.blocks:
            x_BLH = block(x_BLH, sequences.frame_BL, valid_BS=sequences.valid_BL)
        return self.norm(x_BLH)

    def logits(self, told_nH: Float[Tensor, "n H"], allowed_nV: Bool[Tensor, "n V"]) -> Float[Tensor, "n V"]:
        """-inf where the grammar forbids."""
        return (told_nH @ self.embed.weight.T + self.bias).float().masked_fill(~allowed_nV, -torch.inf)


@dataclass(frozen=True)
class Foretold:
    """Of n hidden ids: cross-entropy of each in nats, and whether it was the likeliest."""

    loss_n: Float[Tensor, " n"]
    right_n: Bool[Tensor, " n"]


def foretell(head: WordMasking, grammar: Grammar, sequences: WordSequences, masking: Masking) -> Foretold:
    """What the head makes of the places that `masking` wants predicted."""
    shown_BL, predicted_BL = sequences.shown(grammar, masking)
    told_BLH = head(shown_BL, masking.mask_BM[:, : shown_BL.shape[1]] & predicted_BL, sequences)
    ids_n, allowed_n = sequences.ids_BL[predicted_BL], sequences.allowed_BL[predicted_BL]
    logits_nV = head.logits(told_BLH[predicted_BL], sequences.masks_SV[allowed_n])
    return Foretold(F.cross_entropy(logits_nV, ids_n, reduction="none"), logits_nV.argmax(dim=1) == ids_n)


def word_masking_loss(
    head: WordMasking, grammar: Grammar, sequences: WordSequences, masking: Masking
) -> Float[Tensor, ""]:
    """Mean over the predicted places of all ranks; 0 if there is none."""
    loss_n = foretell(head, grammar, sequences, masking).loss_n
    return loss_n.sum() / ranks.divisor(torch.tensor(len(loss_n), device=loss_n.device))
