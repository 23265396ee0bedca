"""A codec's pretraining as a task of the engine: batches, losses, what is watched, what is released. docs/method.md.

# B batch, T frames, K tangent channels
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from xtok.actions.types import ChunkBatch
from xtok.codec import Tokenizer
from xtok.codec.base import Codec
from xtok.codec.batch import BatchContext
from xtok.codec.kept_kmeans import keep_kmeans
from xtok.codec.output import CodecOutput
from xtok.engine import Parts
from xtok.engine.average import WeightAverage
from xtok.engine.checkpoint import prefixed, under
from xtok.engine.task import Figures
from xtok.pretrain.batches import CodecBatch
from xtok.pretrain.chunk_task import ChunkTask
from xtok.pretrain.condition_dropout import withhold
from xtok.pretrain.corpus import Corpus
from xtok.pretrain.initialise import refit_codebooks
from xtok.pretrain.losses import motion_l1, reconstruction_losses
from xtok.pretrain.precision import round_to_half
from xtok.pretrain.recipe import Recipe
from xtok.pretrain.semantic import code_head, semantic_heads, semantic_losses
from xtok.semantics.cotemporal import FrameFeatures
from xtok.semantics.masked import CodeMasking, code_masking_loss, reconstruct_hidden

PLACING = "placing"  # in a run's folder: k-means that are done, until all are
_VALIDATION_CHUNKS = 128  # a horizon


class CodecTask(ChunkTask):
    """Codec, heads and their averages, on the corpus of a recipe.

    features: with them, batches have one chunk an episode where possible; also in a recipe that does not look at them,
    so that it can stand beside one that does.
    """

    def __init__(
        self,
        recipe: Recipe,
        corpus: Corpus,
        codec: Codec,
        out: Path,
        features: FrameFeatures | None = None,
        device: torch.device | None = None,
    ) -> None:
        super().__init__(recipe, corpus, out, features, device)
        self.codec = codec.to(self.device)
        torch.manual_seed(recipe.seed)
        heads = {**code_head(recipe, codec), **semantic_heads(recipe, self.codec, corpus, features)}
        self.heads = nn.ModuleDict(heads).to(self.device)
        self.codec.requires_grad_(recipe.trainable != "heads")
        self.module = nn.ModuleDict({"codec": self.codec, "heads": self.heads})
        self.low_precision = [*self.codec.networks.values(), *self.heads.values()]
        learned = [p for p in self.module.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            learned or [nn.Parameter(torch.zeros(0))],  # closed forms learn nothing, and an optimiser wants something
            lr=recipe.optimiser.learning_rate,
            weight_decay=recipe.optimiser.weight_decay,
        )
        self.average = WeightAverage(self.codec, recipe.optimiser.average_decay)
        self.heads_average = WeightAverage(self.heads, recipe.optimiser.average_decay)
        n, horizons = _VALIDATION_CHUNKS, recipe.validation_horizons
        fixed = torch.Generator().manual_seed(recipe.seed)
        self.watched = {
            "train": {T: corpus.sample(T, n, fixed, augment=False) for T in horizons},
            "validation": {T: corpus.validate(T, n) for T in horizons},
        }

    # -- a step ---------------------------------------------------------------------------------------------------

    def losses(self, batch: CodecBatch, step: int) -> dict[str, Tensor]:
        recipe, chunks = self.recipe, batch.drawn.chunks
        batch_context = self.codec.batch_context(chunks.context, batch.groups)
        delta_BTD = batch.delta_BTD.to(self.device, non_blocking=True)
        motion_BTK = self.codec.motion_of_delta(delta_BTD, batch_context)
        batch_context = replace(batch_context, conditions=withhold(batch_context.conditions, recipe, batch.withheld_2B))
        losses: dict[str, Tensor] = {}
        if not recipe.reconstructs:
            output = self.codec.first_level(motion_BTK, batch_context)
        else:
            output = self.codec(motion_BTK, batch_context, batch.levels)
            losses |= reconstruction_losses(self.codec, output, motion_BTK, batch_context)
        losses |= self._masked_losses(batch, output, motion_BTK, batch_context)
        if recipe.alignment.keys:
            assert batch.seen is not None
            seen = batch.seen.to(self.device)
            losses |= semantic_losses(recipe, self.codec, self.heads, output, batch.drawn.origins, seen)
        return losses

    def _masked_losses(
        self, batch: CodecBatch, output: CodecOutput, motion_BTK: Tensor, batch_context: BatchContext
    ) -> dict[str, Tensor]:
        losses = {}
        if batch.masking is not None:
            head = self.heads["codes"]
            assert isinstance(head, CodeMasking)
            losses["mam_codes"] = code_masking_loss(head, self.codec, output, batch_context, batch.masking)
        if batch.hidden_BTK is not None:
            hidden_BTK = batch.hidden_BTK.to(self.device, non_blocking=True)
            found = reconstruct_hidden(self.codec, motion_BTK, batch_context, hidden_BTK)
            losses["mam_actions"] = motion_l1(found.motion_BTK, motion_BTK, batch_context.conditions.mask_BK)
        return losses

    def train(self) -> None:
        self.codec.train(self.recipe.trainable != "heads")  # in training its books would move
        self.heads.train()

    def stepped(self, step: int) -> None:
        self.average.update(step)
        self.heads_average.update(step)

    def restart_averages(self) -> None:
        """At the values as they are, for what was loaded after this was made."""
        decay = self.recipe.optimiser.average_decay
        self.average, self.heads_average = WeightAverage(self.codec, decay), WeightAverage(self.heads, decay)

    # -- what is told ---------------------------------------------------------------------------------------------

    def figures(self, step: int) -> Figures:
        """How much of the codebooks is used, and the learning rate of the last step."""
        health = self.codec.health()
        logged = {
            "usage": [level.usage for level in health],
            "perplexity": [level.perplexity for level in health],
            "resets": [level.resets for level in health],
            "learning_rate": self.rates(step - 1)[0],
        }
        return Figures(logged, {f"q{q}": f"{level.usage:.0%}/{level.perplexity:.0f}" for q, level in enumerate(health)})

    def validate(self, prefix: str = "") -> Figures:
        """l1 by horizon on fixed chunks of both parts; the means to show. Neither part is the held-out split."""
        l1 = {
            f"{prefix}l1_{part}": {T: self.l1(chunks) for T, chunks in batches.items()}
            for part, batches in self.watched.items()
        }
        return Figures(l1, {name: f"{sum(values.values()) / len(values):.4f}" for name, values in l1.items()})

    @torch.no_grad()
    def l1(self, chunks: ChunkBatch) -> float:
        """Mean absolute error of the greedy reconstruction, normalised tangent units."""
        training = self.codec.training
        self.codec.eval()
        batch_context = self.codec.batch_context(chunks.context)
        motion_BTK = self.codec.motion(chunks, batch_context)
        l1 = motion_l1(self.codec(motion_BTK, batch_context).motion_BTK, motion_BTK, batch_context.conditions.mask_BK)
        self.codec.train(training)
        return float(l1)

    # -- what is kept ---------------------------------------------------------------------------------------------

    def state(self) -> Parts:
        training = {
            **prefixed("average", self.average.tensors),
            **prefixed("heads_average", self.heads_average.tensors),
        }
        return {"model": self.codec.state_dict(), "heads": self.heads.state_dict(), "training": training}

    def load(self, parts: Parts) -> None:
        self.codec.load_state_dict(parts["model"])
        self.heads.load_state_dict(parts["heads"])
        self.average.load(under("average", parts["training"]))
        self.heads_average.load(under("heads_average", parts["training"]))

    def finish(self) -> list[Figures]:
        """Average the networks, place the books anew under them, write the tokenizer and the heads."""
        self.average.copy_to_module()
        self.heads_average.copy_to_module()
        recipe = self.recipe
        if recipe.trainable in ("all", "extra") and recipe.steps:
            vectors, iterations = recipe.codebooks.vectors, recipe.codebooks.iterations
            with keep_kmeans(self.out / PLACING):
                refit_codebooks(self.codec, self.corpus, recipe.seed, vectors, iterations, own=recipe.codebooks.own)
        if recipe.codebooks.half:
            round_to_half(self.codec)
        figures = [self.validate("released_")]
        tqdm.write(f"{recipe.name}: released: {dict(figures[0].shown)}")
        figures += self.substituted(self.heads, self.codec)
        Tokenizer(self.codec.cpu()).save_pretrained(self.out)
        self.write_heads(self.heads)
        shutil.rmtree(self.out / PLACING, ignore_errors=True)
        return figures
