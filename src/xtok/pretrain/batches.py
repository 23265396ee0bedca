"""What a codec learns from in a step, decided by recipe, seed and number of the step alone, in whatever process.

# B batch, T frames, D channels, K tangent channels
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from xtok.actions.delta import to_delta
from xtok.actions.types import ChunkBatch, slots
from xtok.codec.base import Member, rows_by_robot
from xtok.codec.config import CodecConfig, WordsConfig
from xtok.codec.words.grammar import longest
from xtok.data.origins import EpisodeKey
from xtok.data.sampler import Drawn, generator_of
from xtok.pretrain.condition_dropout import draw_levels, draw_withheld
from xtok.pretrain.corpus import REVERSED, Corpus
from xtok.pretrain.recipe import Recipe
from xtok.semantics.cotemporal import CoTemporal, FrameFeatures, gather_features
from xtok.semantics.masked import Masking, draw_hidden_of, draw_masking


@dataclass(frozen=True)
class CodecBatch:
    """Chunks with all that is random in a step but dropout, and what can be known of them without the codec.

    delta_BTD: relative to their anchors. groups: rows of each robot. seen: by the teacher, where the recipe asks for
    it. levels: that the decoder sees. withheld_2B: see `draw_withheld`. masking, hidden_BTK: of masked modelling in
    both forms, None where it is off.
    """

    drawn: Drawn
    delta_BTD: Float[Tensor, "B T D"]
    groups: dict[Member, list[int]]
    seen: CoTemporal | None
    withheld_2B: Float[Tensor, "2 B"]
    levels: int | None
    masking: Masking | None
    hidden_BTK: Bool[Tensor, "B T K"] | None


@dataclass(frozen=True)
class CodecBatches:
    """A `BatchSource` over a corpus. known: episodes of which one chunk is drawn where possible."""

    recipe: Recipe
    corpus: Corpus
    features: FrameFeatures | None
    known: frozenset[EpisodeKey]

    def part(self, step: int, index: int, count: int) -> CodecBatch:
        """Random numbers are drawn for the whole batch, motion and features are read for the part."""
        recipe, B = self.recipe, self.recipe.data.batch_size
        rows = slice(B // count * index, B // count * (index + 1))
        low, high = recipe.data.horizons
        generator = generator_of(recipe.seed, step)
        horizon = int(torch.randint(low, high + 1, (), generator=generator))
        drawn = self.corpus.draw(
            horizon,
            B,
            generator,
            one_chunk_each=self.known,
            # A chunk that is played backwards teaches nothing of what was seen and said.
            backwards=REVERSED if recipe.reconstructs else 0.0,
            cells=recipe.alignment.hard_negative_groups if step % 2 else None,
            rows=rows,
        )
        withheld_2B = draw_withheld(B, generator)[:, rows]
        levels = draw_levels(recipe, generator) if recipe.reconstructs else None
        masking, hidden_BTK = self._hidden(step, horizon)
        return CodecBatch(
            drawn,
            delta_of(drawn.chunks),
            rows_by_robot(drawn.chunks.context),
            self._seen(drawn),
            withheld_2B,
            levels,
            None if masking is None else masking[rows],
            None if hidden_BTK is None else hidden_BTK[rows],
        )

    def _hidden(self, step: int, horizon: int) -> tuple[Masking | None, Bool[Tensor, "B T K"] | None]:
        recipe, B = self.recipe, self.recipe.data.batch_size
        forms = recipe.mam_forms(step)
        # A generator of its own: with and without masking a run sees the same chunks.
        generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + step)
        masking = hidden_BTK = None
        if "mam_codes" in forms:
            masking = draw_masking((B, masked_places(recipe.codec, horizon)), recipe.codec.codebook_size, generator)
        if "mam_actions" in forms:
            hidden_BTK = draw_hidden_of(B, horizon, self.corpus.layout, generator)
        return masking, hidden_BTK

    def _seen(self, drawn: Drawn) -> CoTemporal | None:
        if not self.recipe.alignment.keys:
            return None
        assert self.features is not None
        return gather_features(self.features, drawn.origins, drawn.chunks.context.horizon)


def masked_places(config: CodecConfig, horizon: int) -> int:
    """Places of a chunk whose codes may be masked: slots, or tokens of the longest sequence of motion words."""
    return longest(horizon) if isinstance(config, WordsConfig) else slots(horizon)


def delta_of(chunks: ChunkBatch) -> Float[Tensor, "B T D"]:
    """float64, as `Codec.motion` takes it."""
    anchor_BD = chunks.context.anchor_BD
    assert anchor_BD is not None
    return to_delta(chunks.context.layout, chunks.target_BTD.double(), anchor_BD.double(), chunks.context.mask_BD)
