"""Masked action modelling in both forms. docs/method.md#losses.

Codes: BERT on the q0 codes (the paper's L_mam). Actions: hide parts of the input, reconstruct the whole continuous
chunk (the project page). Heads live here, are saved as heads.safetensors, and never reach a released tokenizer.

# B batch, T frames, M slots, C dimensions of a q0 code, V codes, K tangent channels, H hidden
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from xtok import ranks
from xtok.actions.layout import Layout
from xtok.actions.types import FRAMES_PER_SLOT, slots
from xtok.codec.base import Codec
from xtok.codec.batch import BatchContext
from xtok.codec.layers import Block
from xtok.codec.output import CodecOutput

# docs/method.md#losses (L_mam): of all positions 15 % are predicted; of these 80 % show [MASK], 10 % a random code, 10
# % their own.
PREDICTED, SHOWN_MASK, SHOWN_RANDOM = 0.15, 0.8, 0.1
HIDDEN_SLOTS, HIDDEN_PARTS = 0.15, 0.15  # unspecified for the action form: BERT's share for time and for channels
_POSE_KINDS = ("position", "rotation6d", "velocity")  # hidden whole: one axis alone is nearly told by the others


@dataclass(frozen=True)
class Masking:
    """Which positions are predicted, and of these which show [MASK] or a random code; the rest show their own."""

    predicted_BM: Bool[Tensor, "B M"]
    mask_BM: Bool[Tensor, "B M"]
    random_BM: Bool[Tensor, "B M"]
    codes_BM: Int[Tensor, "B M"]  # the random codes

    def __getitem__(self, rows: slice) -> Masking:
        return Masking(self.predicted_BM[rows], self.mask_BM[rows], self.random_BM[rows], self.codes_BM[rows])

    def to(self, device: torch.device) -> Masking:
        return Masking(*(t.to(device) for t in (self.predicted_BM, self.mask_BM, self.random_BM, self.codes_BM)))


def draw_masking(shape: tuple[int, int], codebook_size: int, generator: torch.Generator) -> Masking:
    """On the generator's device, so that a run can be repeated."""
    predicted = torch.rand(shape, generator=generator) < PREDICTED
    show = torch.rand(shape, generator=generator)
    random = predicted & (show >= SHOWN_MASK) & (show < SHOWN_MASK + SHOWN_RANDOM)
    codes = torch.randint(codebook_size, shape, generator=generator)
    return Masking(predicted, predicted & (show < SHOWN_MASK), random, codes)


class CodeMasking(nn.Module):
    """A small transformer over q0's codes says which codes are hidden.

    Targets are hard codes. Inputs are straight-through embeddings (`CodecOutput.coarse_BMC`), not rows of the book:
    codes come from an argmin, so through plain rows the loss would train this head and nothing else.
    """

    def __init__(
        self, code_dim: int, codebook_size: int, hidden: int, heads: int, layers: int = 2, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.embed = nn.Linear(code_dim, hidden)
        self.mask = nn.Parameter(0.02 * torch.randn(hidden))
        self.blocks = nn.ModuleList(Block(hidden, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(hidden)
        self.predict = nn.Linear(hidden, codebook_size)

    def forward(
        self, coarse_BMC: Float[Tensor, "B M C"], random_BMC: Float[Tensor, "B M C"], masking: Masking
    ) -> Float[Tensor, "B M V"]:
        """Logits at all positions. random_BMC: embeddings of `masking.codes_BM`."""
        shown = torch.where(masking.random_BM[..., None], random_BMC, coarse_BMC)
        x = torch.where(masking.mask_BM[..., None], self.mask, self.embed(shown))
        time_M = torch.arange(x.shape[1], device=x.device, dtype=x.dtype) * FRAMES_PER_SLOT
        for block in self.blocks:
            x = block(x, time_M)
        return self.predict(self.norm(x))


def code_masking_loss(
    head: CodeMasking, codec: Codec, output: CodecOutput, batch_context: BatchContext, masking: Masking
) -> Float[Tensor, ""]:
    """Cross-entropy of the hidden q0 codes, mean over the predicted positions (0 if there is none)."""
    masking = masking.to(output.codes_BMQ.device)
    random_BMC = codec.first_codes(masking.codes_BM, batch_context)
    logits = head(output.coarse_BMC.float(), random_BMC, masking).float()
    loss_BM = F.cross_entropy(logits.flatten(0, 1), output.codes_BMQ[..., 0].flatten(), reduction="none")
    predicted = masking.predicted_BM.flatten()
    return torch.where(predicted, loss_BM, 0.0).sum() / ranks.divisor(predicted.sum())


def draw_hidden(batch_context: BatchContext, layout: Layout, generator: torch.Generator) -> Bool[Tensor, "B T K"]:
    """True at what the encoder may not see: whole slots and, through all frames, whole parts of the robot."""
    B, K = batch_context.conditions.mask_BK.shape
    hidden_BTK = draw_hidden_of(B, batch_context.horizon, layout, generator)
    assert hidden_BTK.shape[2] == K
    return hidden_BTK.to(batch_context.conditions.mask_BK.device)


def draw_hidden_of(B: int, T: int, layout: Layout, generator: torch.Generator) -> Bool[Tensor, "B T K"]:
    """The same for B chunks of T frames, before anything else is known of them."""
    slot_BM = torch.rand(B, slots(T), generator=generator) < HIDDEN_SLOTS
    slot_BT = slot_BM.repeat_interleave(FRAMES_PER_SLOT, dim=1)[:, :T]
    part_K = _parts(layout)
    part_BK = (torch.rand(B, int(part_K[-1]) + 1, generator=generator) < HIDDEN_PARTS)[:, part_K]
    return slot_BT[..., None] | part_BK[:, None]


def reconstruct_hidden(
    codec: Codec, motion_BTK: Float[Tensor, "B T K"], batch_context: BatchContext, hidden_BTK: Bool[Tensor, "B T K"]
) -> CodecOutput:
    """The chunk from q0 of what is visible. Books stay as they are.

    One level only: the detail levels code what q0 left of the *true* motion, so they would tell what is hidden.
    """
    with still_books(codec):
        return codec(motion_BTK, batch_context, levels=1, hidden_BTK=hidden_BTK)


@contextmanager
def still_books(codec: Codec) -> Iterator[None]:
    """A training forward within neither moves books nor counts as use: masked motion is no motion to learn codes of."""
    quantizers = codec.quantizers
    training = [quantizer.training for quantizer in quantizers]
    for quantizer in quantizers:
        quantizer.eval()
    try:
        yield
    finally:
        for quantizer, mode in zip(quantizers, training, strict=True):
            quantizer.train(mode)


def _parts(layout: Layout) -> Int[Tensor, " K"]:
    """Number of the part that each tangent channel belongs to: a hand's position, its rotation, one joint, ..."""
    part: list[int] = []
    for group in layout.groups:
        size = 3 if group.kind == "rotation6d" else group.size
        first = part[-1] + 1 if part else 0
        part += [first] * size if group.kind in _POSE_KINDS else range(first, first + size)
    return torch.tensor(part)
