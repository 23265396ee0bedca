"""What a run of pretraining is: one frozen dataclass. METHOD 3 and 4. The runs themselves are in xtok.recipes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from math import cos, pi
from typing import Any, Literal

from xtok.actions.types import HORIZON_MAX, HORIZON_MIN
from xtok.codec.config import CodecConfig, GaussianConfig, PerceiverConfig
from xtok.data.episode import ActionSource
from xtok.pretrain.losses import WEIGHTS
from xtok.semantics.align import SameText

Learns = Literal["all", "extra", "heads"]
Mam = Literal["none", "codes", "actions", "both"]
Reach = Literal["extra", "latents", "nothing"]
_OF_MOTION = ("actions", "both")  # forms that reconstruct motion
_SEMANTIC = {
    "align": ("align_global", "align_local"),
    "predict": ("predict",),
    "words": ("words_global", "words_local"),
    "quiet": ("quiet",),
    "cosine": ("align_cosine",),
}
_SEMANTIC_KEYS = frozenset(key for keys in _SEMANTIC.values() for key in keys)


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a run, besides its data.

    steps, warmup_steps, *_every: optimiser steps. learning_rate: at the end of the warm-up; then a cosine to 0.
    learns: "all" of a perceiver; "extra": the encoder of a Gaussian codec's semantic dimensions;
    "heads" leaves a whole frozen tokenizer, which `train` is given, as it is: its codes and its digest stay.
    mam: forms of masked action modelling; mam_start: share of the steps before it begins (METHOD 4: 10 of 100 epochs).
    align, predict: the heads that look at a teacher's features (--features). semantics_start: share of the steps before
    they begin; semantics_ramp: share over which their weights then grow.
    words: one more alignment, of q0's dimensions without motion alone with the words alone (not METHOD's).
    cosine: the alignment also draws pairs together by themselves: contrast alone ranks well at a low temperature, with
    cosines that say little (not METHOD's).
    cells: every second batch comes from so many pairs of robot and task, so that negatives are of the same task and
    arm: else naming the robot is enough to tell most of them apart. None: never.
    quiet: q0's dimensions without motion are drawn to zero in chunks that no teacher has seen: else what the encoder
    happens to say of them would cost codes and tell nothing.
    reach: how far the gradient of align and predict goes: q0's dimensions without motion ("extra"), all of h
    ("latents": METHOD), or "nothing" (the heads alone learn). head_sees: what of h the head of align looks at.
    same_text: see `alignment_losses`. text_weight: .5 METHOD; 0 image-only, 1 text-only teacher.
    level_dropout: share of batches in which the decoder sees 1 .. Q levels, drawn, instead of Q. The books see all.
    state_dropout: share of chunks whose state is zeroed. embodiment_dropout: share whose robot is withheld. METHOD has
    .2 dropped and .1 swapped to "none"; with us both are the slot of "none", so it is their sum.
    average_decay: of the running average of the networks that is released, its books refitted.
    book_vectors, book_iterations: k-means sample and rounds.
    shares: of the chunks, by robot; None: by frames, one arm and two arms alike (see Corpus).
    own_details: robots that get detail books of their own, and leave the shared ones to the others (q0's is for all).
    half: what is released is rounded to values that float16 holds: half the bytes (see `round_to_half`).

    Raises:
        ValueError: an unknown form of masked action modelling or of alignment, or a negative number of steps.
    """

    name: str
    codec: CodecConfig
    steps: int
    batch_size: int = 256
    learning_rate: float = 5e-5
    weight_decay: float = 0.01
    warmup_steps: int = 100
    gradient_clip: float = 1.0
    learns: Learns = "all"
    action_sources: tuple[ActionSource, ...] = ("achieved",)  # or what was commanded, or both, where a set has both
    horizons: tuple[int, int] = (HORIZON_MIN, HORIZON_MAX)  # drawn uniformly, both ends included
    mam: Mam = "none"
    mam_start: float = 0.1
    mam_layers: int = 2
    align: bool = False
    predict: bool = False
    words: bool = False
    quiet: bool = False
    cosine: bool = False
    cells: int | None = None
    semantics_start: float = 0.0
    semantics_ramp: float = 0.1
    reach: Reach = "extra"
    head_sees: Literal["extra", "latents"] = "extra"
    head_dim: int = 64
    head_hidden: int = 256
    same_text: SameText = "mask"
    text_weight: float = 0.5
    level_dropout: float = 0.5
    state_dropout: float = 0.2
    embodiment_dropout: float = 0.3
    average_decay: float = 0.999
    book_vectors: int = 150_000
    book_iterations: int = 15
    own_details: tuple[str, ...] = ()
    half: bool = False
    shares: Mapping[str, float] | None = None
    log_every: int = 20
    validate_every: int = 200
    validation_horizons: tuple[int, ...] = (8, 16, 32, 64)
    checkpoint_every: int = 500
    seed: int = 0
    loss_weights: Mapping[str, float] = field(default_factory=lambda: dict(WEIGHTS))

    def __post_init__(self) -> None:
        if self.mam not in ("none", "codes", "actions", "both"):
            raise ValueError(f"mam is {self.mam!r}; expected 'none', 'codes', 'actions' or 'both'")
        if self.learns not in ("all", "extra", "heads"):
            raise ValueError(f"learns is {self.learns!r}; expected 'all', 'extra' or 'heads'")
        if self.learns == "all" and self.steps and not isinstance(self.codec, PerceiverConfig):
            raise ValueError(
                "a Gaussian codec is placed in closed form: steps=0, or learns='extra' for its semantic dimensions; "
                "learns='all' is for the perceiver"
            )
        if self.learns == "extra" and not isinstance(self.codec, GaussianConfig):
            raise ValueError(
                "learns='extra' is for the Gaussian codec's semantic dimensions; the perceiver learns 'all'"
            )
        if self.learns == "extra" and self.mam in _OF_MOTION:
            raise ValueError(f"mam {self.mam!r} shapes more of the encoder than learns={self.learns!r} lets it")
        taught = self.words or self.mam == "codes" or (self.reach == "extra" and (self.align or self.predict))
        starts = self.semantics_start or (self.mam_start and self.mam == "codes" and not self.looks_at_features)
        if self.learns == "extra" and (self.reach == "latents" or starts or not taught):
            raise ValueError(
                "learns='extra' needs words, align or predict (reach='extra') or masked codes, from the first step"
            )
        if self.learns == "heads" and (
            self.reach != "nothing" or self.mam != "none" or self.words or self.quiet or not self.looks_at_features
        ):
            raise ValueError("learns='heads' needs align or predict, reach='nothing', mam='none'; no words, no quiet")
        if self.cosine and not self.align:
            raise ValueError("cosine is a part of the alignment: it needs align=True")
        for name, allowed in (
            ("reach", ("extra", "latents", "nothing")),
            ("head_sees", ("extra", "latents")),
            ("same_text", ("mask", "keep", "soft")),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected one of {allowed}")
        semantic_dims = getattr(self.codec, "semantic_dims", 0)
        if (self.words or self.quiet) and not semantic_dims:
            raise ValueError("words and quiet are about q0's dimensions without motion: codec.semantic_dims is 0")
        if (self.align or self.predict) and not semantic_dims and "extra" in (self.reach, self.head_sees):
            raise ValueError(
                "reach or head_sees is 'extra' and codec.semantic_dims is 0; give dimensions, or both as 'latents'"
            )
        if self.own_details and (not isinstance(self.codec, GaussianConfig) or self.codec.per_robot):
            raise ValueError("own_details are for a Gaussian codec with shared books; others share all books or none")
        if self.steps < 0:
            raise ValueError(f"steps is {self.steps}; expected 0 (closed forms and books alone) or more")

    def mam_forms(self, step: int) -> frozenset[str]:
        """Loss keys of the forms that are on at a step."""
        if step < self.mam_start * self.steps or self.mam == "none":
            return frozenset()
        return frozenset({"mam_codes", "mam_actions"} if self.mam == "both" else {f"mam_{self.mam}"})

    def weights(self, step: int) -> dict[str, float]:
        """Weight of every loss that a step has."""
        on = self.mam_forms(step)
        on |= self.semantic_keys(step)
        taught = self.semantics_ramp * self.steps
        grown = min(1.0, (step + 1 - self.semantics_start * self.steps) / taught) if taught else 1.0
        return {
            key: w * grown if key in _SEMANTIC_KEYS else w
            for key, w in self.loss_weights.items()
            if key in on or (self.reconstructs and not key.startswith("mam_") and key not in _SEMANTIC_KEYS)
        }

    def semantic_keys(self, step: int) -> frozenset[str]:
        """Loss keys of the heads that look at features, at a step."""
        if step < self.semantics_start * self.steps:
            return frozenset()
        return frozenset(key for head, keys in _SEMANTIC.items() if getattr(self, head) for key in keys)

    @property
    def reconstructs(self) -> bool:
        """Whether steps decode motion; else they stop at q0."""
        return self.learns == "all"

    @property
    def looks_at_features(self) -> bool:
        return self.align or self.predict or self.words

    def learning_rate_at(self, step: int) -> float:
        warm = min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else 1.0
        return self.learning_rate * warm * 0.5 * (1 + cos(pi * step / self.steps))

    def to_dict(self) -> dict[str, Any]:
        """JSON types only."""
        content = {**asdict(self), "codec": self.codec.to_dict()}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in content.items()}
