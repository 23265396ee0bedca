"""The heads that look at a teacher's features, in a run of pretraining.

docs/method.md#losses (L_align, L_pred); decision 0009.

# B chunks, T frames, M slots, C latent width, X width of z~, E dimensions of q0 without motion
"""

from __future__ import annotations

from typing import Literal, Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from xtok import ranks
from xtok.actions.types import ChunkBatch, slots
from xtok.codec.base import Codec
from xtok.data.origins import EpisodeKey, Origins, word_key
from xtok.pretrain.corpus import HORIZONS, Corpus
from xtok.pretrain.recipe import GradScope, Recipe
from xtok.semantics.align import Alignment, alignment_losses
from xtok.semantics.cotemporal import CoTemporal, FrameFeatures, gather_features, present
from xtok.semantics.masked import CodeMasking
from xtok.semantics.predict import NextFrame, next_frame_loss
from xtok.semantics.word_latents import WordLatents

MASK_LAYERS = 2  # of the head that foretells masked codes
SCALE_CHUNKS, SCALE_HORIZON = 256, 32  # that units of latents and features are taken from
SUBSTITUTE_BATCHES = 320  # of 64 chunks; the last fifth of them chooses the ridge


Subject = Codec | WordLatents  # whose latents heads look at


class HasLatents(Protocol):
    """`CodecOutput` or `SlotLatents`."""

    @property
    def h_BMC(self) -> Tensor: ...

    @property
    def z_BMX(self) -> Tensor: ...

    @property
    def horizon(self) -> int: ...


def known_episodes(corpus: Corpus, features: FrameFeatures | None) -> frozenset[EpisodeKey]:
    """Episodes of the corpus that the store has features of."""
    if features is None:
        return frozenset()
    return present(features, (key for source in (*corpus.train, *corpus.validation) for key in source.episode_E))


def code_head(recipe: Recipe, codec: Codec) -> dict[str, nn.Module]:
    """`codes`, if the recipe masks them."""
    if recipe.masking.forms not in ("codes", "both"):
        return {}
    config = recipe.codec
    head = CodeMasking(codec.latent_dim, config.codebook_size, config.hidden, config.heads, MASK_LAYERS, config.dropout)
    return {"codes": head}


def semantic_heads(
    recipe: Recipe, codec: Subject, corpus: Corpus, features: FrameFeatures | None
) -> dict[str, nn.Module]:
    """`align`, `predict` and `words` as the recipe wants them, in the units of this corpus and this store.

    Raises:
        ValueError: the recipe needs features and there are none, or none of these episodes.
    """
    taught = recipe.alignment
    if not taught.wanted:
        return {}
    known = known_episodes(corpus, features)
    if features is None or not any(key in known for source in corpus.train for key in source.episode_E):
        raise ValueError(
            f"recipe {recipe.name!r} aligns with a teacher, and there are no features of any train episode; make them "
            "with `xtok features DATA --teacher T -o STORE` and give --features STORE"
        )
    generator = torch.Generator().manual_seed(recipe.seed)
    with torch.no_grad():
        drawn = corpus.draw(SCALE_HORIZON, SCALE_CHUNKS, generator, augment=False, one_chunk_each=known)
        seen = gather_features(features, drawn.origins, SCALE_HORIZON).slots
    heads: dict[str, nn.Module] = {}
    V, W = len(features.views), features.width
    if taught.align:
        align = Alignment(codec.latent_dim, W, taught.head_dim, V, taught.head_hidden, taught.text_weight)
        align.fusion.fit(seen)
        align.gain_C.copy_(_gain(taught.input_dims, codec, corpus, generator))
        heads["align"] = align
    if taught.text_alignment:
        heads["words"] = words = Alignment(codec.latent_dim, W, taught.head_dim, V, taught.head_hidden, text_weight=1.0)
        words.fusion.fit(seen)
        words.gain_C.copy_(_gain("extra", codec, corpus, generator))
    if taught.predict:
        config = recipe.codec
        heads["predict"] = predictor = NextFrame(codec.slot_dim, W, V, config.hidden, config.heads, taught.text_weight)
        predictor.fusion.fit(seen)
    return heads


def semantic_losses(
    recipe: Recipe, codec: Subject, heads: nn.ModuleDict, output: HasLatents, origins: Origins, seen: CoTemporal
) -> dict[str, Tensor]:
    """Those of `align_*` (global, local, cosine), `words_*` (global, local), `predict`, `quiet` that are wanted."""
    losses: dict[str, Tensor] = {}
    taught = recipe.alignment
    extra = codec.semantic_dims
    episode_B = episode_numbers(origins, output.h_BMC.device)
    for name, reach in (("align", taught.grad_scope), ("words", "extra")):
        if name in heads:
            head = heads[name]
            assert isinstance(head, Alignment)
            h_BMC = reached(output.h_BMC, reach, extra)
            cosine = taught.cosine and name == "align"
            found = alignment_losses(head, h_BMC, seen.slots, episode_B, taught.same_text, cosine)
            losses |= {key.replace("align", name): loss for key, loss in found.items()}
    if taught.unlabelled_l2:
        losses["quiet"] = quiet_loss(output.h_BMC, extra, codec.semantic_scale, seen.slots.valid_BM)
    if "predict" in heads:
        predictor = heads["predict"]
        assert isinstance(predictor, NextFrame)
        losses["predict"] = next_frame_loss(
            predictor, reached(output.z_BMX, taught.grad_scope, extra), output.horizon, seen.after
        )
    return losses


def quiet_loss(
    h_BMC: Float[Tensor, "B M C"], extra: int, scale: float, valid_BM: Bool[Tensor, "B M"]
) -> Float[Tensor, ""]:
    """Mean squared length of the extra dimensions, in units of their limit, over chunks of which nothing was seen."""
    unseen_B = ~valid_BM.any(dim=1)
    size_B = (h_BMC[..., -extra:] / scale).square().sum(dim=-1).mean(dim=1)
    return torch.where(unseen_B, size_B, 0.0).sum() / ranks.divisor(unseen_B.sum())


def reached(latent_BMC: Float[Tensor, "B M C"], reach: GradScope, extra: int) -> Float[Tensor, "B M C"]:
    """The same values; the gradient goes no further than `reach` lets it. The extra dimensions come last."""
    if reach == "latents":
        return latent_BMC
    if reach == "nothing":
        return latent_BMC.detach()
    motion, semantic = latent_BMC.split([latent_BMC.shape[-1] - extra, extra], dim=-1)
    return torch.cat([motion.detach(), semantic], dim=-1)


def episode_numbers(origins: Origins, device: torch.device) -> Int[Tensor, " B"]:
    """Equal numbers, equal episodes; on every rank."""
    return torch.tensor([word_key(f"{dataset}\n{index}") for dataset, index in origins.episode_B], device=device)


@torch.no_grad()
def latents_of(codec: Subject, chunks: ChunkBatch) -> Float[Tensor, "B M C"]:
    """h of chunks."""
    if isinstance(codec, WordLatents):
        return codec.latents(chunks)
    batch_context = codec.batch_context(chunks.context)
    return codec.latents(codec.motion(chunks, batch_context), batch_context)


@torch.no_grad()
def fit_substitute(
    align: Alignment,
    codec: Subject,
    corpus: Corpus,
    features: FrameFeatures,
    seed: int,
) -> float:
    """The map from features back to latents, on chunks of the train part; its share of variance on the last of them."""
    if isinstance(codec, Codec):
        codec.eval()
    device = align.gain_C.device
    known = known_episodes(corpus, features)
    generator = torch.Generator().manual_seed(seed + 2)
    u, h, valid = [], [], []
    for i in range(SUBSTITUTE_BATCHES):
        horizon = HORIZONS[i % len(HORIZONS)]
        drawn = corpus.draw(horizon, 64, generator, augment=False, one_chunk_each=known)
        seen = gather_features(features, drawn.origins, horizon).slots.to(device)
        h.append(latents_of(codec, drawn.chunks).to(device))
        u.append(align.fusion(seen))
        valid.append(align.fusion.valid(seen))
    return align.substitute.fit(u, h, valid, held=max(1, SUBSTITUTE_BATCHES // 5))


@torch.no_grad()
def _gain(
    sees: Literal["extra", "latents"], codec: Subject, corpus: Corpus, generator: torch.Generator
) -> Float[Tensor, " C"]:
    """1 / root mean square of each motion dimension (0 if the head may not see it), 1 / length of the extra ones."""
    gain_C = torch.zeros(codec.latent_dim)
    if sees == "latents":
        chunks = corpus.sample(SCALE_HORIZON, SCALE_CHUNKS, generator, augment=False)
        h_BMC = latents_of(codec, chunks).cpu()
        assert h_BMC.shape[1] == slots(SCALE_HORIZON)
        size_C = h_BMC.flatten(0, 1).square().mean(dim=0).sqrt()
        gain_C = torch.where(size_C > 1e-3, 1 / size_C.clamp_min(1e-3), 0.0).float()
    if codec.semantic_dims:
        gain_C[-codec.semantic_dims :] = 1 / codec.semantic_scale
    return gain_C
