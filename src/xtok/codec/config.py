"""What fixes the shapes of a codec: one configuration a kind, presets for each. docs/method.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Literal

# A configuration may come from anywhere: these keep a wrong one from asking for all memory there is.
_MOST = {
    "hidden": 8192,
    "heads": 128,
    "encoder_layers": 64,
    "decoder_layers": 64,
    "levels": 16,
    "codebook_size": 1 << 20,
    "code_dim": 4096,
    "coarse_dim": 4096,
    "prior_rank": 4096,
    "beam": 1024,
}
_SEMANTIC_MAX = 4096
# Fields younger than the oldest files of format 2, as those files mean them.
_ADDED: dict[str, dict[str, object]] = {"perceiver": {"linear_path": False}}
CoarseSpace = Literal["physical", "principal"]


@dataclass(frozen=True)
class CodecConfig:
    """What both kinds have.

    hidden, heads, encoder_layers, dropout: of the networks. code_dim: width of what a code stands for.
    codebook_decay: of the codebooks' moving average in training. beam: width of the search over levels; 1 is greedy.
    """

    kind: ClassVar[str] = ""

    layout: str = "arms26"
    hidden: int = 128
    heads: int = 4
    encoder_layers: int = 2
    dropout: float = 0.1
    levels: int = 4
    codebook_size: int = 2048
    code_dim: int = 32
    codebook_decay: float = 0.8
    beam: int = 8

    def __post_init__(self) -> None:
        for name, most in _MOST.items():
            value = getattr(self, name, 1)
            if type(value) is not int or not 1 <= value <= most:
                raise ValueError(f"{name} is {value!r}; expected a whole number from 1 to {most}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}; expected [0, 1)")
        if self.levels < 2:
            raise ValueError(f"levels is {self.levels}; a coarse level and at least one residual level are needed")

    def to_dict(self) -> dict[str, str | int | float | bool]:
        """JSON types."""
        return {"kind": self.kind, **asdict(self)}

    @staticmethod
    def from_dict(content: Mapping[str, Any]) -> CodecConfig:
        """Inverse of `to_dict`.

        Raises:
            ValueError: an unknown kind, unknown or missing fields, or values out of bounds.
        """
        kind = content.get("kind") if isinstance(content, dict) else None
        if kind not in KINDS:
            raise ValueError(f"the codec's kind is {kind!r}; expected one of {sorted(KINDS)}")
        cls = KINDS[kind]
        content = {**_ADDED.get(kind, {}), **content}
        expected = {"kind", *(field.name for field in fields(cls))}
        if content.keys() != expected:
            raise ValueError(
                f"codec configuration differs from the expected fields in {sorted(expected ^ set(content))}"
            )
        return cls(**{name: value for name, value in content.items() if name != "kind"})


@dataclass(frozen=True)
class GaussianConfig(CodecConfig):
    """Closed forms and k-means, no decoder network: docs/method.md#the-gaussian-codec, decision 0003.

    code_dim: of the residual levels. coarse_space: "physical", where a code is the same motion on every robot, or
    "principal" for layouts whose channels mean another thing on every robot; coarse_dim: width of the latter.
    per_robot: each robot has codebooks of its own. prior_rank: of a robot's covariance. coarse_noise: physical sigma
    (m, rad, native unit) that the first level is smoothed against.
    semantic_dims: dimensions of the first level that carry no motion and are taught by a teacher (decision 0009);
    semantic_scale: their length at most, in units of its space. hidden, heads, encoder_layers, dropout are those of the
    small encoder that fills them.
    """

    kind: ClassVar[str] = "gaussian"

    coarse_space: CoarseSpace = "physical"
    coarse_dim: int = 32
    per_robot: bool = False
    prior_rank: int = 256
    coarse_noise: float = 0.004
    semantic_dims: int = 0
    semantic_scale: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.coarse_noise < 1:
            raise ValueError(f"coarse_noise is {self.coarse_noise}; expected (0, 1)")
        if type(self.semantic_dims) is not int or not 0 <= self.semantic_dims <= _SEMANTIC_MAX:
            raise ValueError(
                f"semantic_dims is {self.semantic_dims!r}; expected a whole number from 0 to {_SEMANTIC_MAX}"
            )
        if not 0 < self.semantic_scale < 100:
            raise ValueError(f"semantic_scale is {self.semantic_scale!r}; expected (0, 100)")
        if self.coarse_space not in ("physical", "principal"):
            raise ValueError(f"coarse_space is {self.coarse_space!r}; expected 'physical' or 'principal'")


@dataclass(frozen=True)
class PerceiverConfig(CodecConfig):
    """The published model: encoder, residual quantizer and decoder.

    linear_path: beside the networks, the four frames of a slot reach its latent by one matrix, and come back by another
    (not the paper's). Both begin as principal components and the networks at zero: training starts at a codec that
    works, where from noise a CPU would not come in days. Decision 0019.
    """

    kind: ClassVar[str] = "perceiver"

    beam: int = 1
    decoder_layers: int = 2
    linear_path: bool = False


@dataclass(frozen=True)
class WordsConfig(CodecConfig):
    """Motion words as heads of a frozen tokenizer need to know them; their own shapes are in the tokenizer's folder.

    hidden, heads, dropout: of the heads. codebook_size: ids in all. No folder of a codec holds this.
    """

    kind: ClassVar[str] = "words"

    def to_dict(self) -> dict[str, str | int | float | bool]:
        names = ("layout", "hidden", "heads", "dropout", "codebook_size")
        return {"kind": self.kind, **{name: getattr(self, name) for name in names}}


KINDS: dict[str, type[CodecConfig]] = {"gaussian": GaussianConfig, "perceiver": PerceiverConfig}


def small(layout: str = "arms26") -> GaussianConfig:
    """What ships; made for a CPU."""
    if layout == "joints":
        return GaussianConfig(layout=layout, hidden=64, coarse_space="principal", per_robot=True, codebook_decay=0.99)
    return GaussianConfig(layout=layout, codebook_decay=0.99)


def small_perceiver(layout: str = "arms26") -> PerceiverConfig:
    """The published design at a size that a CPU trains, with a linear path that it starts from."""
    return PerceiverConfig(layout=layout, dropout=0.0, codebook_decay=0.99, code_dim=64, linear_path=True)


def paper(layout: str = "arms26") -> PerceiverConfig:
    """The published codec: 12 layers, H 1024, 8 heads, Q 4, V 2048. Code dimension is unspecified; decision 0004."""
    return PerceiverConfig(layout=layout, hidden=1024, heads=8, encoder_layers=12, decoder_layers=4, code_dim=256)


PRESETS = {"small": small, "small_perceiver": small_perceiver, "paper": paper}
