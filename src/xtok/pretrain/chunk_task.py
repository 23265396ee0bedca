"""What tasks that learn from chunks of a corpus have in common: batches, weights of losses, what a batch is on disk.

# B batch
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from xtok.atomic import atomic_file
from xtok.codec.base import rows_by_robot
from xtok.engine import Kept, Task
from xtok.engine.checkpoint import under
from xtok.engine.task import Figures
from xtok.pretrain.batch_files import keep_drawn, restore_drawn
from xtok.pretrain.batches import CodecBatch, CodecBatches, delta_of
from xtok.pretrain.corpus import Corpus
from xtok.pretrain.recipe import Recipe
from xtok.pretrain.semantic import Subject, fit_substitute, known_episodes
from xtok.semantics.align import HEADS, Alignment
from xtok.semantics.cotemporal import CoTemporal, FrameFeatures, TeacherFeatures
from xtok.semantics.masked import Masking


class ChunkTask(Task[CodecBatch]):
    """On the corpus of a recipe. features: see `CodecTask`."""

    def __init__(
        self,
        recipe: Recipe,
        corpus: Corpus,
        out: Path,
        features: FrameFeatures | None = None,
        device: torch.device | None = None,
    ) -> None:
        self.recipe, self.corpus, self.out, self.features = recipe, corpus, out, features
        self.device = device or torch.device("cpu")
        self.name, self.batch_size, self.config = recipe.name, recipe.data.batch_size, recipe.to_dict()
        self.data_order = (
            f"every step has a global batch of {self.batch_size} chunks, drawn from seed {recipe.seed} and its number "
            "alike in every process; of R processes the r-th takes the r-th part of it"
        )
        self.known = known_episodes(corpus, features)
        self.batches = CodecBatches(recipe, corpus, features, self.known)

    def weights(self, step: int) -> Mapping[str, float]:
        return self.recipe.weights(step)

    def rates(self, step: int) -> list[float]:
        return [self.recipe.optimiser.rate_at(step, self.recipe.steps)]

    def substituted(self, heads: nn.ModuleDict, codec: Subject) -> list[Figures]:
        """The map from features back to latents is solved; how much it tells. Nothing where nothing is aligned."""
        if not self.recipe.alignment.align:
            return []
        align = heads["align"]
        assert isinstance(align, Alignment)
        assert self.features is not None
        told = fit_substitute(align, codec, self.corpus, self.features, self.recipe.seed)
        return [Figures({"substitute_variance": told})]

    def write_heads(self, heads: nn.ModuleDict) -> None:
        """Into the run's folder."""
        with atomic_file(self.out / HEADS) as draft:
            save_file(heads.cpu().state_dict(), draft)

    def keep(self, batch: CodecBatch) -> Kept:
        kept = keep_drawn(batch.drawn)
        tensors = {**kept.tensors, "withheld_2B": batch.withheld_2B}
        if batch.masking is not None:
            tensors |= {f"masking/{name}": tensor for name, tensor in vars(batch.masking).items()}
        if batch.hidden_BTK is not None:
            tensors["hidden_BTK"] = batch.hidden_BTK
        if batch.seen is not None:
            tensors |= {
                f"seen/{when}/{name}": tensor
                for when, features in vars(batch.seen).items()
                for name, tensor in vars(features).items()
            }
        return Kept(tensors, {**kept.about, "levels": batch.levels})

    def restore(self, kept: Kept) -> CodecBatch:
        masking, seen = under("masking", kept.tensors), under("seen", kept.tensors)
        levels = kept.about["levels"]
        assert levels is None or isinstance(levels, int)
        drawn = restore_drawn(kept)
        return CodecBatch(
            drawn,
            delta_of(drawn.chunks),
            rows_by_robot(drawn.chunks.context),
            CoTemporal(*(TeacherFeatures(**under(when, seen)) for when in ("slots", "after"))) if seen else None,
            kept.tensors["withheld_2B"],
            levels,
            Masking(**masking) if masking else None,
            kept.tensors.get("hidden_BTK"),
        )
