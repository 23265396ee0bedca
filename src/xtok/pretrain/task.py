"""A codec's pretraining as a task of the engine: batches, losses, what is watched, what is released. docs/method.md.

# B batch, T frames, K tangent channels
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

from xtok.actions.types import ChunkBatch
from xtok.atomic import atomic_file
from xtok.codec import Tokenizer
from xtok.codec.base import Codec, rows_by_robot
from xtok.codec.batch import BatchContext
from xtok.codec.kept_kmeans import keep_kmeans
from xtok.codec.output import CodecOutput
from xtok.engine import Kept, Parts, Task
from xtok.engine.average import WeightAverage
from xtok.engine.checkpoint import prefixed, under
from xtok.engine.task import Figures
from xtok.pretrain.batch_files import keep_drawn, restore_drawn
from xtok.pretrain.batches import CodecBatch, CodecBatches, delta_of
from xtok.pretrain.condition_dropout import withhold
from xtok.pretrain.corpus import Corpus
from xtok.pretrain.initialise import refit_codebooks
from xtok.pretrain.losses import motion_l1, reconstruction_losses
from xtok.pretrain.precision import round_to_half
from xtok.pretrain.recipe import Recipe
from xtok.pretrain.semantic import code_head, fit_substitute, known_episodes, semantic_heads, semantic_losses
from xtok.semantics.align import Alignment
from xtok.semantics.cotemporal import CoTemporal, FrameFeatures, TeacherFeatures
from xtok.semantics.masked import CodeMasking, Masking, code_masking_loss, reconstruct_hidden

PLACING = "placing"  # in a run's folder: k-means that are done, until all are
_VALIDATION_CHUNKS = 128  # a horizon


class CodecTask(Task[CodecBatch]):
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
        self.recipe, self.corpus, self.out, self.features = recipe, corpus, out, features
        self.device = device or torch.device("cpu")
        self.name, self.batch_size, self.config = recipe.name, recipe.data.batch_size, recipe.to_dict()
        self.data_order = (
            f"every step has a global batch of {self.batch_size} chunks, drawn from seed {recipe.seed} and its number "
            "alike in every process; of R processes the r-th takes the r-th part of it"
        )
        self.codec = codec.to(self.device)
        torch.manual_seed(recipe.seed)
        self.known = known_episodes(corpus, features)
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
        self.batches = CodecBatches(recipe, corpus, features, self.known)
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

    def weights(self, step: int) -> Mapping[str, float]:
        return self.recipe.weights(step)

    def rates(self, step: int) -> list[float]:
        return [self.recipe.optimiser.rate_at(step, self.recipe.steps)]

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
        if recipe.alignment.align:
            align = self.heads["align"]
            assert isinstance(align, Alignment)
            assert self.features is not None
            told = fit_substitute(align, self.codec, self.corpus, self.features, recipe.seed)
            figures.append(Figures({"substitute_variance": told}))
        Tokenizer(self.codec.cpu()).save_pretrained(self.out)
        with atomic_file(self.out / "heads.safetensors") as draft:
            save_file(self.heads.cpu().state_dict(), draft)
        shutil.rmtree(self.out / PLACING, ignore_errors=True)
        return figures

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
