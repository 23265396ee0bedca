"""What heads see of motion words: h, which a word quantises, and z~, which a sequence decodes to. Decision 0021.

# B chunks, b of one robot, T frames, M slots, N blocks, F = 16 frames of a block, K channels of a robot, D tangent
# channels of the layout, C latent width, X width of z~
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from xtok.actions.delta import tangent_width, to_delta
from xtok.actions.steady import exact
from xtok.actions.tangent import tangent_kinds
from xtok.actions.types import FRAMES_PER_SLOT, ChunkBatch, Codes, Context, slots
from xtok.codec.base import rows_by_robot
from xtok.codec.gaussian.basis import compand, expand
from xtok.codec.gaussian.prior import COARSE_UNIT
from xtok.codec.words import Sequences, WordRobot, WordTokenizer
from xtok.codec.words.grammar import BLOCK_SLOTS, DEPTH, blocks_of
from xtok.codec.words.robot import moving, scale_of
from xtok.codec.words.word import BEND, BLOCK_FRAMES


@dataclass(frozen=True)
class SlotLatents:
    """What heads look at: h and z~ of chunks of T frames."""

    h_BMC: Float[Tensor, "B M C"]
    z_BMX: Float[Tensor, "B M X"]
    horizon: int


class WordLatents:
    """Latents of a frozen tokenizer of motion words, slot by slot.

    h of a slot: the likely motion of the 16 frames of its block, relative to the frame before them, in the space that
    the book of words is in (`WordCodec.space`), and which of the block's four slots it is. z~ of a slot: its four
    frames as the whole sequence decodes them, relative to the chunk's anchor in half ranges, and its word in the space
    of h. Channels that a robot lacks are 0.
    """

    semantic_dims, semantic_scale = 0, 1.0  # dimensions without motion: words have none

    def __init__(self, tokenizer: WordTokenizer) -> None:
        self.tokenizer, codec = tokenizer, tokenizer.codec
        self._physical = codec.space == "physical"
        kinds = tangent_kinds(codec.layout)
        self._unit_D = torch.tensor([COARSE_UNIT.get(kind, 1.0) for kind in kinds], dtype=torch.float64)
        widths = [len(robot.words.space.spread_C) for robot in codec.robots.values()]
        self._dim = BLOCK_FRAMES * len(kinds) if self._physical else max(widths, default=1)

    @property
    def latent_dim(self) -> int:
        """C."""
        return self._dim + BLOCK_SLOTS

    @property
    def slot_dim(self) -> int:
        """X."""
        return FRAMES_PER_SLOT * tangent_width(self.tokenizer.layout) + self._dim

    @exact
    def latents(self, chunks: ChunkBatch) -> Float[Tensor, "B M C"]:
        """h, float32.

        Raises:
            ValueError: a robot that the tokenizer does not know, or chunks without an anchor.
        """
        h_BMC = torch.zeros(len(chunks), slots(chunks.context.horizon), self.latent_dim)
        delta_BTD = _delta_of(chunks)
        for robot, rows in self._robots(chunks.context):
            blocks = robot.words.space.motions(self.tokenizer.codec.motion(robot, delta_BTD[rows]))
            h_BMC[rows] = self._by_slot(robot, torch.stack([_whole(each) for each in blocks], dim=1), h_BMC.shape[1])
        return h_BMC

    @exact
    def decoded(self, codes: Codes, context: Context) -> Float[Tensor, "B M X"]:
        """z~, float32.

        Raises:
            ValueError: as `WordTokenizer.decode`.
        """
        codec, T, M = self.tokenizer.codec, context.horizon, slots(context.horizon)
        z_BMX = torch.zeros(len(codes), M, self.slot_dim)
        for robot, rows in self._robots(context):
            sequences = Sequences.of_ids(codec.grammar, [codes.tokens[row] for row in rows], T)
            motion_bTK = robot.model.decode_sequences(sequences, T)
            frames_bED = motion_bTK.new_zeros(len(rows), M * FRAMES_PER_SLOT, len(self._unit_D))
            held_bEK = torch.cat([motion_bTK, motion_bTK[:, -1:].expand(-1, M * FRAMES_PER_SLOT - T, -1)], dim=1)
            frames_bED[..., moving(robot.statistics)] = held_bEK
            word_bMC = self._by_slot(robot, robot.words.trajectories(sequences.words_BN), M)[..., : self._dim]
            z_BMX[rows] = torch.cat([frames_bED.reshape(len(rows), M, -1).float(), word_bMC], dim=-1)
        return z_BMX

    @exact
    def decode_latents(self, h_BMC: Float[Tensor, "B M C"], context: Context) -> Float[Tensor, "B T D"]:
        """Deltas in physical units, float32, that the words nearest to h decode to, without residuals, which code what
        words leave of the true motion. h of a block is the mean of its slots'. Masked channels are 0."""
        codec, T, M = self.tokenizer.codec, context.horizon, h_BMC.shape[1]
        delta_BTD = torch.zeros(len(context), T, codec.layout.width, dtype=torch.float64)
        for robot, rows in self._robots(context):
            words_bN = torch.stack([robot.words.nearest(part) for part in self._blocks(robot, h_BMC[rows])], dim=1)
            delta_BTD[rows] = codec.delta(robot, robot.model.decode_sequences(_words_alone(words_bN, M), T))
        return torch.where(context.mask_BD[:, None], delta_BTD, 0.0).float()

    # -- one robot ------------------------------------------------------------------------------------------------

    def _robots(self, context: Context) -> Iterator[tuple[WordRobot, list[int]]]:
        for (name, mask), rows in rows_by_robot(context).items():
            yield self.tokenizer.codec.robot(name, np.frombuffer(mask, dtype=bool)), rows

    def _by_slot(self, robot: WordRobot, blocks_bNFK: Float[Tensor, "b N F K"], M: int) -> Float[Tensor, "b M C"]:
        """Motions of whole blocks as latents of their slots."""
        flat_nFK = blocks_bNFK.double().flatten(0, 1)
        if self._physical:
            value_nFD = flat_nFK.new_zeros(len(flat_nFK), BLOCK_FRAMES, len(self._unit_D))
            value_nFD[..., moving(robot.statistics)] = flat_nFK * scale_of(robot.statistics)
            value_nC = compand(value_nFD / self._unit_D, BEND).flatten(1)
        else:
            value_nC = robot.words.space.whitened(flat_nFK)
            value_nC = torch.nn.functional.pad(value_nC, (0, self._dim - value_nC.shape[1]))
        value_bMC = value_nC.view(*blocks_bNFK.shape[:2], -1).repeat_interleave(BLOCK_SLOTS, dim=1)[:, :M]
        place_MP = torch.eye(BLOCK_SLOTS, dtype=value_bMC.dtype).repeat(blocks_of(M), 1)[:M]
        return torch.cat([value_bMC, place_MP.expand(len(value_bMC), -1, -1)], dim=-1).float()

    def _blocks(self, robot: WordRobot, h_bMC: Float[Tensor, "b M C"]) -> list[Float[Tensor, "b n K"]]:
        """Inverse of `_by_slot`: motions of blocks, the last one as long as the chunk has it."""
        blocks, M = [], h_bMC.shape[1]
        for start in range(0, M, BLOCK_SLOTS):
            mean_bC = h_bMC[:, start : start + BLOCK_SLOTS, : self._dim].double().mean(dim=1)
            if self._physical:
                value_bFD = expand(mean_bC.unflatten(1, (BLOCK_FRAMES, -1)), BEND) * self._unit_D
                motion_bFK = value_bFD[..., moving(robot.statistics)] / scale_of(robot.statistics)
            else:
                motion_bFK = robot.words.space.unwhitened(mean_bC).double()
            blocks.append(motion_bFK[:, : min(BLOCK_SLOTS, M - start) * FRAMES_PER_SLOT])
        return blocks


def _whole(part_bnK: Float[Tensor, "b n K"]) -> Float[Tensor, "b F K"]:
    """A block that the chunk's end cuts short holds its last frame."""
    return torch.cat([part_bnK, part_bnK[:, -1:].expand(-1, BLOCK_FRAMES - part_bnK.shape[1], -1)], dim=1)


def _words_alone(words_bN: Tensor, M: int) -> Sequences:
    length_bM = torch.zeros(len(words_bN), M, dtype=torch.long)
    for start in range(0, M, BLOCK_SLOTS):
        length_bM[:, start] = min(BLOCK_SLOTS, M - start)  # a tail over the whole block
    return Sequences(words_bN, length_bM, torch.full((len(words_bN), M, DEPTH), -1))


def _delta_of(chunks: ChunkBatch) -> Float[Tensor, "B T W"]:
    context = chunks.context
    if context.anchor_BD is None:
        raise ValueError("chunks have no anchor; motion words are relative to the state one step before a chunk")
    return to_delta(context.layout, chunks.target_BTD.double(), context.anchor_BD.double(), context.mask_BD)
