"""What a run of pretraining is: one frozen dataclass of a few parts. The runs themselves are in xtok.recipes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from math import cos, pi
from typing import Any, Literal

from typing_extensions import Self

from xtok.actions.types import HORIZON_MAX, HORIZON_MIN
from xtok.codec.config import CodecConfig, GaussianConfig, PerceiverConfig
from xtok.data.episode import ActionSource
from xtok.pretrain.losses import WEIGHTS
from xtok.semantics.align import SameText

Trainable = Literal["all", "extra", "heads"]
MaskedForms = Literal["none", "codes", "actions", "both"]
GradScope = Literal["extra", "latents", "nothing"]
_OF_MOTION = ("actions", "both")  # forms that reconstruct motion
_SEMANTIC = {
    "align": ("align_global", "align_local"),
    "predict": ("predict",),
    "text_alignment": ("words_global", "words_local"),
    "unlabelled_l2": ("quiet",),
    "cosine": ("align_cosine",),
}
_SEMANTIC_KEYS = frozenset(key for keys in _SEMANTIC.values() for key in keys)


def _check(part: object, name: str, allowed: tuple[str, ...]) -> None:
    value = getattr(part, name.split(".")[1])
    if value not in allowed:
        raise ValueError(f"{name} is {value!r}; expected one of {allowed}")


@dataclass(frozen=True)
class Data:
    """Which chunks a run sees.

    action_sources: what the robot reached, what it was told, or both, where a set has both. horizons: drawn uniformly,
    both ends included. sampling_weights: of the chunks, by robot; None: by frames, one arm and two arms alike (see
    Corpus).
    """

    batch_size: int = 256
    action_sources: tuple[ActionSource, ...] = ("achieved",)
    horizons: tuple[int, int] = (HORIZON_MIN, HORIZON_MAX)
    sampling_weights: Mapping[str, float] | None = None


@dataclass(frozen=True)
class Optimiser:
    """AdamW. learning_rate: at the end of the warm-up; then a cosine to 0. average_decay: of the running average of the
    networks that is released, its books refitted."""

    learning_rate: float = 5e-5
    weight_decay: float = 0.01
    warmup_steps: int = 100
    gradient_clip: float = 1.0
    average_decay: float = 0.999

    def rate_at(self, step: int, steps: int) -> float:
        """Learning rate of one of `steps` steps."""
        warm = min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else 1.0
        return self.learning_rate * warm * 0.5 * (1 + cos(pi * step / steps))


@dataclass(frozen=True)
class Masking:
    """What a training step hides from the codec. docs/method.md#losses

    forms: of masked action modelling; start: share of the steps before it begins (the paper: 10 of 100 epochs).
    state_dropout: share of chunks whose state is zeroed. embodiment_dropout: share whose robot is withheld (the paper
    has .2 dropped and .1 swapped to "none"; with us both are the slot of "none", so it is their sum).
    level_dropout: share of batches in which the decoder sees 1 .. Q levels, drawn, instead of Q. The books see all.
    """

    forms: MaskedForms = "none"
    start: float = 0.1
    state_dropout: float = 0.2
    embodiment_dropout: float = 0.3
    level_dropout: float = 0.5

    def __post_init__(self) -> None:
        _check(self, "masking.forms", ("none", "codes", "actions", "both"))


@dataclass(frozen=True)
class Alignment:
    """What a teacher's features (--features) teach. docs/method.md#losses

    align, predict: the paper's heads. ramp: share of the steps over which their weights grow.
    text_alignment: one more alignment, of q0's semantic dimensions alone with the words alone (not the paper's).
    cosine: the alignment also draws pairs together by themselves: contrast alone ranks well at a low temperature, with
    cosines that say little (not the paper's).
    unlabelled_l2: the semantic dimensions are drawn to zero in chunks that no teacher has seen: else what the encoder
    happens to say of them would cost codes and tell nothing.
    hard_negative_groups: every second batch comes from so many pairs of robot and task, so that negatives are of the
    same task and arm: else naming the robot is enough to tell most of them apart. None: never.
    grad_scope: how far the gradient of align and predict goes: q0's semantic dimensions ("extra"), all of h
    ("latents": the paper), or "nothing" (the heads alone learn). input_dims: what of h the head of align looks at.
    same_text: see `alignment_losses`. text_weight: .5 the paper; 0 image-only, 1 text-only teacher.
    """

    align: bool = False
    predict: bool = False
    text_alignment: bool = False
    cosine: bool = False
    unlabelled_l2: bool = False
    hard_negative_groups: int | None = None
    ramp: float = 0.1
    grad_scope: GradScope = "extra"
    input_dims: Literal["extra", "latents"] = "extra"
    head_dim: int = 64
    head_hidden: int = 256
    same_text: SameText = "mask"
    text_weight: float = 0.5

    def __post_init__(self) -> None:
        _check(self, "alignment.grad_scope", ("extra", "latents", "nothing"))
        _check(self, "alignment.input_dims", ("extra", "latents"))
        _check(self, "alignment.same_text", ("mask", "keep", "soft"))
        if self.cosine and not self.align:
            raise ValueError("cosine is a part of the alignment: it needs align=True")

    @property
    def wanted(self) -> bool:
        """Whether features are looked at."""
        return self.align or self.predict or self.text_alignment

    @property
    def keys(self) -> frozenset[str]:
        """Loss keys of what is on."""
        return frozenset(key for head, keys in _SEMANTIC.items() if getattr(self, head) for key in keys)


@dataclass(frozen=True)
class Codebooks:
    """How codebooks are placed. vectors, iterations: k-means sample and rounds. own: robots that get residual codebooks
    of their own, and leave the shared ones to the others (q0's is for all). half: what is released is rounded to
    values that float16 holds: half the bytes (see `round_to_half`)."""

    vectors: int = 150_000
    iterations: int = 15
    own: tuple[str, ...] = ()
    half: bool = False


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a run, besides its data.

    steps, *_every: optimiser steps. steps 0: closed forms and codebooks alone.
    trainable: "all" of a perceiver; "extra": the encoder of a Gaussian codec's semantic dimensions;
    "heads" leaves a whole frozen tokenizer, which `train` is given, as it is: its codes and its digest stay.

    Raises:
        ValueError: parts that do not fit each other, or a negative number of steps.
    """

    name: str
    codec: CodecConfig
    steps: int
    trainable: Trainable = "all"
    data: Data = Data()
    optimiser: Optimiser = Optimiser()
    masking: Masking = Masking()
    alignment: Alignment = Alignment()
    codebooks: Codebooks = Codebooks()
    log_every: int = 20
    validate_every: int = 200
    validation_horizons: tuple[int, ...] = (8, 16, 32, 64)
    checkpoint_every: int = 500
    seed: int = 0

    def __post_init__(self) -> None:
        if self.trainable not in ("all", "extra", "heads"):
            raise ValueError(f"trainable is {self.trainable!r}; expected 'all', 'extra' or 'heads'")
        if self.steps < 0:
            raise ValueError(f"steps is {self.steps}; expected 0 (closed forms and books alone) or more")
        masked, taught = self.masking.forms, self.alignment
        if self.trainable == "all" and self.steps and not isinstance(self.codec, PerceiverConfig):
            raise ValueError(
                "a Gaussian codec is placed in closed form: steps=0, or trainable='extra' for its semantic dimensions; "
                "trainable='all' is for the perceiver"
            )
        if self.trainable == "extra":
            if not isinstance(self.codec, GaussianConfig):
                raise ValueError(
                    "trainable='extra' is for the Gaussian codec's semantic dimensions; the perceiver learns 'all'"
                )
            if masked in _OF_MOTION:
                raise ValueError(
                    f"masking of {masked!r} shapes more of the encoder than trainable={self.trainable!r} lets it"
                )
            reached = (
                taught.text_alignment
                or masked == "codes"
                or (taught.grad_scope == "extra" and (taught.align or taught.predict))
            )
            late = self.masking.start and masked == "codes" and not taught.wanted
            if taught.grad_scope == "latents" or late or not reached:
                raise ValueError(
                    "trainable='extra' needs text_alignment, align or predict (grad_scope='extra') or masked codes, "
                    "from the first step"
                )
        if self.trainable == "heads" and (
            taught.grad_scope != "nothing"
            or masked in _OF_MOTION
            or taught.text_alignment
            or taught.unlabelled_l2
            or not (taught.wanted or masked == "codes")
        ):
            raise ValueError(
                "trainable='heads' needs align, predict or masked codes, grad_scope='nothing', no masked actions, no "
                "text_alignment, no unlabelled_l2"
            )
        semantic_dims = getattr(self.codec, "semantic_dims", 0)
        if (taught.text_alignment or taught.unlabelled_l2) and not semantic_dims:
            raise ValueError(
                "text_alignment and unlabelled_l2 are about q0's semantic dimensions: codec.semantic_dims is 0"
            )
        if (taught.align or taught.predict) and not semantic_dims and "extra" in (taught.grad_scope, taught.input_dims):
            raise ValueError(
                "grad_scope or input_dims is 'extra' and codec.semantic_dims is 0; give dimensions, or both as "
                "'latents'"
            )
        if self.codebooks.own and (not isinstance(self.codec, GaussianConfig) or self.codec.per_robot):
            raise ValueError("codebooks.own are for a Gaussian codec with shared books; others share all books or none")

    def varied(self, **changes: Any) -> Self:
        """Another recipe: fields of this one, or of its parts: varied(steps=4, masking={"forms": "codes"}).

        Raises:
            TypeError: no such field. ValueError: as a new one.
        """
        parts = {
            key: replace(getattr(self, key), **value) if isinstance(value, dict) else value
            for key, value in changes.items()
        }
        return replace(self, **parts)

    def mam_forms(self, step: int) -> frozenset[str]:
        """Loss keys of the forms of masked action modelling that are on at a step."""
        forms = self.masking.forms
        if step < self.masking.start * self.steps or forms == "none":
            return frozenset()
        return frozenset({"mam_codes", "mam_actions"} if forms == "both" else {f"mam_{forms}"})

    def weights(self, step: int) -> dict[str, float]:
        """Weight of every loss that a step has."""
        on = self.mam_forms(step) | self.alignment.keys
        ramp = self.alignment.ramp * self.steps
        grown = min(1.0, (step + 1) / ramp) if ramp else 1.0
        return {
            key: w * grown if key in _SEMANTIC_KEYS else w
            for key, w in WEIGHTS.items()
            if key in on or (self.reconstructs and not key.startswith("mam_") and key not in _SEMANTIC_KEYS)
        }

    @property
    def reconstructs(self) -> bool:
        """Whether steps decode motion; else they stop at q0."""
        return self.trainable == "all"

    def to_dict(self) -> dict[str, object]:
        """JSON types only."""
        content: dict[str, object] = json.loads(json.dumps({**asdict(self), "codec": self.codec.to_dict()}))
        return content
