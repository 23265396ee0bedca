"""Motion to words and residuals: a beam over the slots of a chunk, in the closed loop.

# B chunks, P paths, n candidates of a path, s in all, T frames, M slots, K channels, X values of a segment, Q = 8 codes

The words come first and depend on the motion alone. Then segments: from every slot that paths reach, every length and
depth is tried, and the paths of least |error| + rate x tokens go on. Errors are in normalised units, summed over frames
and channels, so `rate` is what a token has to save.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from xtok.actions.steady import exact
from xtok.actions.types import FRAMES_PER_SLOT, slots
from xtok.codec.words.grammar import BLOCK_SLOTS, DEPTH
from xtok.codec.words.levels import search
from xtok.codec.words.model import TAILS, WordModel, check_horizon, paths
from xtok.codec.words.segment import Past, SegmentCoder, features
from xtok.codec.words.sequences import Sequences

PATHS, BEAM = 2, 2
_ROWS = 256  # chunks at a time

Observe = Callable[
    [int, int, Tensor, Tensor], None
]  # length, slot, features [B, F], wanted [B, X], along the best path


@dataclass(frozen=True)
class _Node:
    """Paths that have reached a slot, the best first. spent_BP: residual tokens in this block. from_BP, parent_BP: slot
    and path that each came from; codes_BPQ: of the segment in between."""

    frames_BPNK: Float[Tensor, "B P 9 K"]
    base_BPK: Float[Tensor, "B P K"]
    cost_BP: Float[Tensor, "B P"]
    spent_BP: Int[Tensor, "B P"]
    from_BP: Int[Tensor, "B P"]
    parent_BP: Int[Tensor, "B P"]
    codes_BPQ: Int[Tensor, "B P Q"]

    def take(self, index_BP: Int[Tensor, "B P"]) -> _Node:
        return _Node(**{name: _gather(value, index_BP) for name, value in vars(self).items()})

    def at_block(self) -> _Node:
        """The same, where a block begins: what the one before spent no longer tells paths apart."""
        return replace(self, base_BPK=self.frames_BPNK[:, :, -1], spent_BP=torch.zeros_like(self.spent_BP))


@dataclass(frozen=True)
class _Tried:
    """Candidates s of a segment: of row N the n-th is at at_Nn, errs by error_Nn (inf: there is none) and takes
    tokens_n. value_sX: over the row's size."""

    at_Nn: Int[Tensor, "N n"]
    error_Nn: Float[Tensor, "N n"]
    tokens_n: Int[Tensor, " n"]
    value_sX: Float[Tensor, "s x"]
    codes_sQ: Int[Tensor, "s Q"]


@exact
def encode(
    model: WordModel,
    motion_BTK: Float[Tensor, "B T K"],
    rate: float | Float[Tensor, " B"],
    paths_kept: int = PATHS,
    beam: int = BEAM,
    observe: Observe | None = None,
) -> Sequences:
    """Sequences of chunks; how many tokens each has follows from `rate`, one for all or one a chunk.

    Args:
        motion_BTK: normalised motion relative to the anchor, the robot's channels.
        rate: the error that one token has to save, summed over frames and channels; 0 and more.
        paths_kept: paths that go on from a slot. beam: candidates from level to level. More err less and take longer.

    Raises:
        ValueError: a shape, rate or value that is not as said, or T outside 8 to 64.
    """
    _check(model, motion_BTK)
    rate_B = torch.as_tensor(rate, dtype=torch.float64).expand(len(motion_BTK))
    if not (rate_B >= 0).all() or not torch.isfinite(rate_B).all():
        raise ValueError("rate: expected finite numbers of 0 and more, the error that one token has to save")
    return _in_parts(model, motion_BTK, lambda part, rows: _Beam(model, part, rate_B[rows], paths_kept, beam, observe))


@exact
def encode_fixed(
    model: WordModel, motion_BTK: Float[Tensor, "B T K"], residuals: int, paths_kept: int = 1, beam: int = BEAM
) -> Sequences:
    """Sequences of one length for all chunks of one length: a word and `residuals` tokens a block (a last block of
    fewer slots: at most 8 a slot).

    Raises:
        ValueError: as `encode`, or residuals outside 0 to 32.
    """
    _check(model, motion_BTK)
    if not 0 <= residuals <= DEPTH * BLOCK_SLOTS:
        raise ValueError(f"residuals is {residuals}; expected 0 to {DEPTH * BLOCK_SLOTS} tokens a block")
    none_B = torch.zeros(len(motion_BTK), dtype=torch.float64)
    return _in_parts(
        model, motion_BTK, lambda part, rows: _Beam(model, part, none_B[rows], paths_kept, beam, None, residuals)
    )


def _check(model: WordModel, motion_BTK: Tensor) -> None:
    if motion_BTK.ndim != 3 or motion_BTK.shape[2] != model.channels:
        raise ValueError(f"motion has shape {list(motion_BTK.shape)}; expected [B, T, {model.channels}]")
    check_horizon(motion_BTK.shape[1])
    if not torch.isfinite(motion_BTK).all():
        raise ValueError("motion holds NaN or inf; expected finite values")


def _in_parts(model: WordModel, motion_BTK: Tensor, beam_of: Callable[[Tensor, slice], _Beam]) -> Sequences:
    if not len(motion_BTK):
        return Sequences.of_blocks([], motion_BTK.shape[1])
    found = []
    for start in range(0, len(motion_BTK), _ROWS):
        rows = slice(start, start + _ROWS)
        found.append(beam_of(motion_BTK[rows].double(), rows).run())
    return Sequences(*(torch.cat(parts) for parts in zip(*(vars(each).values() for each in found), strict=True)))


class _Beam:
    """The search over one part of a batch. residuals: of every block, in the fixed form; None: as the rate says."""

    def __init__(
        self,
        model: WordModel,
        motion_BTK: Tensor,
        rate_B: Tensor,
        paths_kept: int,
        beam: int,
        observe: Observe | None,
        residuals: int | None = None,
    ) -> None:
        self.model, self.rate_B, self.paths_kept, self.beam = model, rate_B, paths_kept, beam
        self.observe, self.residuals = observe, residuals
        B, self.horizon, K = motion_BTK.shape
        self.M = slots(self.horizon)
        held = motion_BTK[:, -1:].expand(-1, self.M * FRAMES_PER_SLOT - self.horizon, -1)
        self.target_BEK = torch.cat([motion_BTK, held], dim=1)
        self.words_BN = model.words.encode(motion_BTK)
        self.path_BNFK = paths(model.words, self.words_BN)
        past = Past.none(B, K)
        none = torch.zeros(B, 1, dtype=torch.long)
        self.nodes: list[_Node] = [
            _Node(
                past.frames_NPK[:, None],
                past.base_NK[:, None],
                none.double(),
                none,
                none,
                none,
                torch.full((B, 1, DEPTH), -1),
            )
        ]

    def run(self) -> Sequences:
        waiting: list[list[_Node]] = [[] for _ in range(self.M + 1)]
        for slot in range(self.M):
            for length in TAILS:
                end = self._block_end(slot)
                if slot + length <= end and (self.model.coders[length].levels or slot + length == end):
                    waiting[slot + length].append(self._extend(slot, length))
            self.nodes.append(self._arrive(slot + 1, waiting[slot + 1]))
        return self._read_back()

    def _block_end(self, slot: int) -> int:
        return min(self.M, (slot // BLOCK_SLOTS + 1) * BLOCK_SLOTS)

    def _extend(self, slot: int, length: int) -> _Node:
        """Every path at `slot`, longer by a segment of `length`, at every depth; the best of them."""
        node, coder = self.nodes[slot], self.model.coders[length]
        block, in_block = divmod(slot, BLOCK_SLOTS)
        B, P = node.cost_BP.shape
        past = Past(node.frames_BPNK.flatten(0, 1), node.base_BPK.flatten(0, 1))
        path_NFK = self.path_BNFK[:, block].repeat_interleave(P, dim=0)
        features_NF = features(past, path_NFK, in_block, length)
        first = slot * FRAMES_PER_SLOT
        frames = length * FRAMES_PER_SLOT
        goal_BfK = self.target_BEK[:, first : first + frames]
        want_NX = (goal_BfK.repeat_interleave(P, dim=0) - past.last_N1K).flatten(1)
        if self.observe is not None:
            best = torch.arange(B) * P
            self.observe(length, slot, features_NF[best], want_NX[best])
        predicted_NX, size_N1 = coder.predict(features_NF, slot)
        left_NX = (want_NX - predicted_NX) / size_N1
        counted = min(frames, self.horizon - first) * coder.channels
        tried = self._candidates(coder, slot, left_NX, size_N1, counted)
        n = tried.at_Nn.shape[1]
        cost_BPn = node.cost_BP[..., None] + tried.error_Nn.view(B, P, n) + self.rate_B[:, None, None] * tried.tokens_n
        spent_BPn = node.spent_BP[..., None] + tried.tokens_n
        if slot + length < self._block_end(slot):
            cost_BPn = torch.where(tried.tokens_n == 0, torch.inf, cost_BPn)  # only a tail has no token
        cost_BPn = self._only_possible(cost_BPn, spent_BPn, slot + length)
        index_Bp, cost_Bp = self._best(cost_BPn.flatten(1), spent_BPn.flatten(1))
        source_Bp = torch.arange(B)[:, None] * P + index_Bp // n
        at_Bp = tried.at_Nn.view(B, P * n).gather(1, index_Bp)
        value_BpX = predicted_NX[source_Bp] + tried.value_sX[at_Bp] * size_N1[source_Bp]
        segment_BpfK = past.last_N1K[source_Bp] + value_BpX.unflatten(2, (frames, coder.channels))
        frames_BpNK = torch.cat([past.frames_NPK[source_Bp], segment_BpfK], dim=2)[:, :, -past.frames_NPK.shape[1] :]
        return _Node(
            frames_BpNK,
            past.base_NK[source_Bp],
            cost_Bp,
            spent_BPn.flatten(1).gather(1, index_Bp),
            torch.full_like(index_Bp, slot),
            index_Bp // n,
            tried.codes_sQ[at_Bp],
        )

    def _candidates(self, coder: SegmentCoder, slot: int, left_NX: Tensor, size_N1: Tensor, counted: int) -> _Tried:
        """What may be coded of a segment: nothing, and at every depth some codes, where they can be worth their tokens:
        the error that is left, about sqrt(X) times its length, is more than a token's rate."""
        N, X = left_NX.shape
        error_N = left_NX[:, :counted].abs().sum(dim=1) * size_N1[:, 0]
        if not coder.levels:
            none = torch.full((1, DEPTH), -1)
            return _Tried(torch.zeros(N, 1).long(), error_N[:, None], torch.zeros(1).long(), left_NX[:1] * 0, none)
        rate_N = self.rate_B.repeat_interleave(N // len(self.rate_B))
        enough_N = rate_N / (X**0.5 * size_N1[:, 0])
        depths = search(coder, slot, coder.analyse(left_NX, slot), self.beam, enough_N)
        n = 1 + DEPTH * self.beam
        at_Nn = torch.zeros(N, n, dtype=torch.long)
        error_Nn = torch.full((N, n), torch.inf, dtype=torch.float64)
        error_Nn[:, 0] = error_N
        values, codes, count = [torch.zeros(1, X, dtype=torch.float64)], [torch.full((1, DEPTH), -1)], 1
        for number, depth in enumerate(depths):
            value_nbX = coder.synthesise(depth.sum_nbC, slot)
            rows_n, b = depth.rows_n, value_nbX.shape[1]
            off_nb = (value_nbX - left_NX[rows_n, None])[..., :counted].abs().sum(dim=2) * size_N1[rows_n]
            here = slice(1 + number * self.beam, 1 + number * self.beam + b)
            error_Nn[rows_n, here] = off_nb
            at_Nn[rows_n, here] = count + torch.arange(len(rows_n) * b).view(-1, b)
            values.append(value_nbX.flatten(0, 1))
            codes.append(depth.codes_nbQ.flatten(0, 1))
            count += len(rows_n) * b
        tokens_n = torch.cat([torch.zeros(1).long(), torch.arange(1, DEPTH + 1).repeat_interleave(self.beam)])
        return _Tried(at_Nn, error_Nn, tokens_n, torch.cat(values), torch.cat(codes))

    def _only_possible(self, cost_BPn: Tensor, spent_BPn: Tensor, slot: int) -> Tensor:
        """In the fixed form, inf where a block could no longer come out at its number of tokens."""
        if self.residuals is None:
            return cost_BPn
        end = self._block_end(slot - 1)
        due = min(self.residuals, DEPTH * (end - (slot - 1) // BLOCK_SLOTS * BLOCK_SLOTS))
        open_BPn = due - spent_BPn
        possible_BPn = (open_BPn >= 0) & (open_BPn <= DEPTH * (end - slot))
        return torch.where(possible_BPn, cost_BPn, torch.inf)

    def _best(self, cost_BC: Tensor, spent_BC: Tensor) -> tuple[Int[Tensor, "B p"], Float[Tensor, "B p"]]:
        """Places of the least costs, and these; in the fixed form, of the least for each number of tokens."""
        if self.residuals is None:
            index_Bp = cost_BC.argsort(dim=1, stable=True)[:, : self.paths_kept]
            return index_Bp, cost_BC.gather(1, index_Bp)
        found = []
        for spent in range(self.residuals + 1):
            only_BC = torch.where(spent_BC == spent, cost_BC, torch.inf)
            index_Bp = only_BC.argsort(dim=1, stable=True)[:, : self.paths_kept]
            found.append((index_Bp, only_BC.gather(1, index_Bp)))
        return torch.cat([index for index, _ in found], dim=1), torch.cat([cost for _, cost in found], dim=1)

    def _arrive(self, slot: int, nodes: list[_Node]) -> _Node:
        """The best of all paths that end at `slot`."""
        every = _Node(*(torch.cat(parts, dim=1) for parts in zip(*(vars(n).values() for n in nodes), strict=True)))
        if slot == self.M or slot % BLOCK_SLOTS == 0:
            return every.take(every.cost_BP.argsort(dim=1, stable=True)[:, : self.paths_kept]).at_block()
        index_BP, cost_BP = self._best(every.cost_BP, every.spent_BP)
        return replace(every.take(index_BP), cost_BP=cost_BP)

    def _read_back(self) -> Sequences:
        B = len(self.words_BN)
        length_BM = torch.zeros(B, self.M, dtype=torch.long)
        codes_BMQ = torch.full((B, self.M, DEPTH), -1)
        at_B, path_B = torch.full((B,), self.M), torch.zeros(B, dtype=torch.long)
        for slot in range(self.M, 0, -1):
            rows = (at_B == slot).nonzero()[:, 0]
            node, path = self.nodes[slot], path_B[rows]
            begin = node.from_BP[rows, path]
            length_BM[rows, begin] = slot - begin
            codes_BMQ[rows, begin] = node.codes_BPQ[rows, path]
            at_B[rows], path_B[rows] = begin, node.parent_BP[rows, path]
        return Sequences(self.words_BN, length_BM, codes_BMQ)


def _gather(value_BPx: Tensor, index_BP: Tensor) -> Tensor:
    shape = (*index_BP.shape, *value_BPx.shape[2:])
    return value_BPx.gather(1, index_BP.view(*index_BP.shape, *[1] * (value_BPx.ndim - 2)).expand(shape))
