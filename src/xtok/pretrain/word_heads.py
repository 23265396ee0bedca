"""Heads for a frozen tokenizer of motion words, as a task of the engine: alignment, prediction, masked ids.

docs/method.md#losses, decision 0021.

# B batch, L tokens of the longest sequence
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from xtok.actions.types import ChunkBatch, Codes
from xtok.codec.words import WordTokenizer
from xtok.engine import Parts
from xtok.engine.average import WeightAverage
from xtok.engine.checkpoint import prefixed, under
from xtok.engine.task import Figures
from xtok.pretrain.batches import CodecBatch, masked_places
from xtok.pretrain.chunk_task import ChunkTask
from xtok.pretrain.corpus import Corpus
from xtok.pretrain.recipe import Recipe
from xtok.pretrain.semantic import MASK_LAYERS, semantic_heads, semantic_losses
from xtok.semantics.cotemporal import FrameFeatures
from xtok.semantics.masked import draw_masking
from xtok.semantics.masked_words import WordMasking, WordSequences, foretell, word_masking_loss
from xtok.semantics.word_latents import SlotLatents, WordLatents

_VALIDATION_CHUNKS = 128  # a horizon


class WordHeadsTask(ChunkTask):
    """Nothing but the heads learns: ids and digest of the tokenizer stay, and it runs on the CPU whatever they run on.

    `align` and `predict` see latents of slots (`WordLatents`), `codes` the sequences of ids (`WordMasking`).
    """

    def __init__(
        self,
        recipe: Recipe,
        corpus: Corpus,
        tokenizer: WordTokenizer,
        out: Path,
        features: FrameFeatures | None = None,
        device: torch.device | None = None,
    ) -> None:
        super().__init__(recipe, corpus, out, features, device)
        self.tokenizer, self.latents = tokenizer, WordLatents(tokenizer)
        torch.manual_seed(recipe.seed)
        heads: dict[str, nn.Module] = {}
        if recipe.masking.forms == "codes":
            config = recipe.codec
            heads["codes"] = WordMasking(tokenizer.vocab_size, config.hidden, config.heads, MASK_LAYERS, config.dropout)
        heads |= semantic_heads(recipe, self.latents, corpus, features)
        self.heads = nn.ModuleDict(heads).to(self.device)
        self.module = nn.ModuleDict({"heads": self.heads})
        self.low_precision = list(self.heads.values())
        self.optimizer = torch.optim.AdamW(
            [parameter for parameter in self.heads.parameters() if parameter.requires_grad],
            lr=recipe.optimiser.learning_rate,
            weight_decay=recipe.optimiser.weight_decay,
        )
        self.average = WeightAverage(self.heads, recipe.optimiser.average_decay)
        fixed = recipe.validation_horizons
        self.watched: dict[int, ChunkBatch] = {T: corpus.validate(T, _VALIDATION_CHUNKS) for T in fixed}

    # -- a step ---------------------------------------------------------------------------------------------------

    def losses(self, batch: CodecBatch, step: int) -> dict[str, Tensor]:
        chunks, losses = batch.drawn.chunks, dict[str, Tensor]()
        codes = self.tokenizer.encode(chunks)
        if batch.masking is not None:
            sequences = self._sequences(codes, chunks)
            head, masking = self._masking_head(), batch.masking.to(self.device)
            losses["mam_codes"] = word_masking_loss(head, self.tokenizer.grammar, sequences, masking)
        if self.recipe.alignment.keys:
            assert batch.seen is not None
            z_BMX = self.latents.decoded(codes, chunks.context)
            seen = SlotLatents(
                self.latents.latents(chunks).to(self.device), z_BMX.to(self.device), chunks.context.horizon
            )
            origins, shown = batch.drawn.origins, batch.seen.to(self.device)
            losses |= semantic_losses(self.recipe, self.latents, self.heads, seen, origins, shown)
        return losses

    def _sequences(self, codes: Codes, chunks: ChunkBatch) -> WordSequences:
        grammar, horizon = self.tokenizer.grammar, chunks.context.horizon
        return WordSequences.of(grammar, codes.tokens, horizon).to(self.device)

    def _masking_head(self) -> WordMasking:
        head = self.heads["codes"]
        assert isinstance(head, WordMasking)
        return head

    def train(self) -> None:
        self.heads.train()

    def stepped(self, step: int) -> None:
        self.average.update(step)

    # -- what is told ---------------------------------------------------------------------------------------------

    def figures(self, step: int) -> Figures:
        return Figures({"learning_rate": self.rates(step - 1)[0]})

    @torch.no_grad()
    def validate(self, prefix: str = "") -> Figures:
        """Of masked ids, on fixed chunks of validation episodes: nats each, and the share that is foretold."""
        if "codes" not in self.heads:
            return Figures()
        self.heads.eval()
        generator, loss, right = torch.Generator().manual_seed(self.recipe.seed), {}, {}
        for T, chunks in self.watched.items():
            sequences = self._sequences(self.tokenizer.encode(chunks), chunks)
            places = masked_places(self.recipe.codec, T)
            masking = draw_masking((len(chunks), places), self.tokenizer.vocab_size, generator).to(self.device)
            found = foretell(self._masking_head(), self.tokenizer.grammar, sequences, masking)
            loss[T], right[T] = float(found.loss_n.mean()), float(found.right_n.float().mean())
        self.heads.train()
        mean = sum(loss.values()) / len(loss)
        logged = {f"{prefix}masked_nats": loss, f"{prefix}masked_right": right}
        return Figures(logged, {f"{prefix}masked_nats": f"{mean:.2f}"})

    # -- what is kept ---------------------------------------------------------------------------------------------

    def state(self) -> Parts:
        return {"heads": self.heads.state_dict(), "training": prefixed("heads_average", self.average.tensors)}

    def load(self, parts: Parts) -> None:
        self.heads.load_state_dict(parts["heads"])
        self.average.load(under("heads_average", parts["training"]))

    def finish(self) -> list[Figures]:
        """Average the heads, write them and the tokenizer as it was given."""
        self.average.copy_to_module()
        figures = [self.validate("released_"), *self.substituted(self.heads, self.latents)]
        self.tokenizer.save_pretrained(self.out)
        self.write_heads(self.heads)
        return figures
