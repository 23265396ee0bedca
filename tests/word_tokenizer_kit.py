"""A small tokenizer of motion words for a robot of joints, for what is built on its grammar and its codes alone.

# B chunks, T frames, X channels of the layout, K of the robot
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch

import evaluate_kit as kit
from words_kit import QUICK, SMALL
from xtok.actions.layout import JOINTS
from xtok.actions.statistics import Statistics
from xtok.actions.types import Actions, ChunkBatch, Codes, Context
from xtok.baselines.common import normalised_chunks, to_actions
from xtok.codec.words import Grammar, WordModel, encode, fit, repair


@dataclass
class WordCoder:
    """An `ActionTokenizer`. rate: what a token costs."""

    statistics: dict[str, Statistics]
    model: WordModel
    rate: float = 0.3
    name: str = "words"

    @property
    def grammar(self) -> Grammar:
        return self.model.grammar

    @property
    def vocab_size(self) -> int:
        return self.grammar.total

    def encode(self, chunks: ChunkBatch) -> Codes:
        motion_BTK = motion(self.statistics, chunks)
        return Codes(tuple(encode(self.model, motion_BTK, self.rate).ids(self.grammar)), self.vocab_size)

    def decode(self, codes: Codes, context: Context, on_invalid: str = "raise") -> Actions:
        rows, whole_B = [ids.tolist() for ids in codes.tokens], torch.ones(len(codes), dtype=torch.bool)
        if on_invalid == "repair":
            found = [repair(self.grammar, ids, context.horizon) for ids in rows]
            if any(not set(each.ids) & set(ids) for each, ids in zip(found, rows, strict=True)):
                raise ValueError("a sequence has no token that can be kept")
            for row, each in enumerate(found):
                for remark in each.remarks:
                    warnings.warn(f"sequence {row}: {remark}", stacklevel=2)
                whole_B[row] = not each.remarks
            rows = [list(each.ids) for each in found]
        motion_BTK = self.model.decode(rows, context.horizon)
        values_BTX = np.zeros((*motion_BTK.shape[:2], context.mask_BD.shape[1]))
        values_BTX[:, :, context.mask_BD[0].numpy()] = motion_BTK.numpy()
        actions = to_actions(self.statistics, context, values_BTX, np.zeros(len(rows), dtype=bool), "tangent")
        complete_BT = whole_B[:, None].expand(-1, context.horizon)
        return Actions(actions.delta_BTD, actions.absolute_BTD, actions.failed_B, complete_BT)


def motion(statistics: dict[str, Statistics], chunks: ChunkBatch) -> torch.Tensor:
    """[B, T, K], normalised."""
    values_BTX = normalised_chunks(statistics, chunks, "tangent")
    return torch.from_numpy(values_BTX[:, :, chunks.context.mask_BD[0].numpy()])


@cache
def word_coder() -> WordCoder:
    statistics = kit.statistics(JOINTS)
    train = kit.chunks(JOINTS, 64, episodes=12, stride=1)
    return WordCoder(statistics, fit(motion(statistics, train), torch.full((7,), 0.2), SMALL, QUICK))
