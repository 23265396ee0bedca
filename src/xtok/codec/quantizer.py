"""Residual vector quantisation with EMA codebooks: ours, since it is what xtok exists for.

docs/method.md#encoder-quantizer-decoder.

# N vectors, C code dimension, Q levels, V codes a level
Books are float32 always (bfloat16 flips codes). Distances are taken in the dtype of the input: encoding passes float64,
so that codes do not depend on batch size, padding or threads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from safetensors.torch import load_file, save_file
from torch import Tensor

from xtok import ranks
from xtok.atomic import atomic_file
from xtok.codec.kept_kmeans import kept_path
from xtok.codec.kmeans import Refill, gathered, lloyd, nearest, random_vectors
from xtok.codec.precision import TRAINING_STATE, KeepsPrecision
from xtok.progress import phase

_PLACED = ("books_QVC", "count_QV", "sum_QVC", "weight_QVC")  # what `initialise` decides
_BEAM_ROWS, _BLOCK = 64, 64  # in a beam of eight a distance matrix that stays in the cache; see `_least`


def is_training_state(name: str) -> bool:
    """Whether an entry of a state dict belongs to a checkpoint, not to released weights."""
    return name.rsplit(".", 1)[-1] in ResidualQuantizer.TRAINING_STATE


@dataclass(frozen=True)
class Quantized:
    """latents_NC: sum of the chosen codes. codes_NQ. commitment: mean squared distance of each residual to its code,
    summed over levels, with gradient to the input. partial_QNC: running sums, for decoding from a prefix of levels."""

    latents_NC: Float[Tensor, "N C"]
    codes_NQ: Int[Tensor, "N Q"]
    commitment: Float[Tensor, ""]
    partial_QNC: Float[Tensor, "Q N C"]


@dataclass(frozen=True)
class Health:
    """Of one level since the last report: share of codes used, perplexity, codes reset."""

    usage: float
    perplexity: float
    resets: int


class ResidualQuantizer(KeepsPrecision):
    """Q books of V codes; level q codes what levels 0 .. q-1 left over, by Euclidean distance over valid dimensions.

    A vector may lack dimensions (`valid_NC`): they count neither in distances nor in book updates. Books are placed by
    an explicit `initialise` (k-means), never inside a forward.

    Dead codes: the published threshold of 2 hits a batch would reset half a book at small batches, so ours is relative:
    a code is dead when its EMA count is under `dead_share` of the even share N / V. Decision 0004.
    """

    def __init__(
        self, dim: int, codebook_size: int = 2048, levels: int = 4, decay: float = 0.8, dead_share: float = 0.02
    ) -> None:
        super().__init__()
        self.dim, self.codebook_size, self.levels = dim, codebook_size, levels
        self.decay, self.dead_share = decay, dead_share
        self.books_QVC: Tensor
        self.count_QV: Tensor
        self.sum_QVC: Tensor
        self.weight_QVC: Tensor
        self.hits_QV: Tensor
        self.resets_Q: Tensor
        self.register_buffer("books_QVC", torch.zeros(levels, codebook_size, dim, dtype=torch.float32))
        # Training state: it belongs to a checkpoint, not to released weights.
        self.register_buffer("count_QV", torch.ones(levels, codebook_size, dtype=torch.float32))
        self.register_buffer("sum_QVC", torch.zeros(levels, codebook_size, dim, dtype=torch.float32))
        self.register_buffer("weight_QVC", torch.ones(levels, codebook_size, dim, dtype=torch.float32))
        self.register_buffer("hits_QV", torch.zeros(levels, codebook_size, dtype=torch.float32))
        self.register_buffer("resets_Q", torch.zeros(levels, dtype=torch.long))
        # By level: hits, sums, counts and vectors of the batches of a step that has not ended (`ranks.step_ends`).
        self._waiting: dict[int, tuple[Tensor, Tensor, Tensor, int]] = {}

    TRAINING_STATE = TRAINING_STATE

    def forward(self, x_NC: Float[Tensor, "N C"], valid_NC: Bool[Tensor, "N C"] | None = None) -> Quantized:
        """Quantise greedily, level by level. In training mode the books follow by EMA."""
        residual = x_NC
        partial, codes = [], []
        commitment = x_NC.new_zeros(())
        valid = None if valid_NC is None else valid_NC.to(x_NC.dtype)
        counted = torch.tensor(x_NC.numel(), device=x_NC.device) if valid is None else valid.sum()
        n_valid = ranks.divisor(counted)
        place = ranks.rows(len(x_NC), x_NC.device) if self.training else ranks.Rows(0, len(x_NC), len(x_NC))
        total = torch.zeros_like(x_NC)
        for level in range(self.levels):
            index = self._nearest(level, residual.detach(), valid)
            code = self.books_QVC[level].to(x_NC.dtype)[index]
            if valid is not None:
                code = code * valid
                residual = residual * valid
            commitment = commitment + (residual - code).square().sum() / n_valid
            if self.training:
                self._update(level, residual.detach(), index, valid, place)
            total = total + code
            residual = residual - code
            partial.append(total)
            codes.append(index)
        return Quantized(total, torch.stack(codes, dim=-1), commitment, torch.stack(partial))

    @torch.no_grad()
    def search(self, x_NC: Float[Tensor, "N C"], beam: int) -> Int[Tensor, "N Q"]:
        """Codes by beam search over the levels: less error than greedy choice at the same bits; no update, no mask."""
        if beam == 1:
            with ranks.alone():
                return self.forward(x_NC).codes_NQ if not self.training else self._greedy(x_NC)
        return torch.cat([self._search(part, beam) for part in x_NC.split(_BEAM_ROWS)])

    def lookup(self, codes_NQ: Int[Tensor, "N q"]) -> Float[Tensor, "N C"]:
        """Sum of the first q levels' codes, q <= Q, float32."""
        total = self.books_QVC.new_zeros(codes_NQ.shape[0], self.dim)
        for level in range(codes_NQ.shape[1]):
            total = total + self.books_QVC[level][codes_NQ[:, level]]
        return total

    @torch.no_grad()
    def initialise(
        self,
        x_NC: Float[Tensor, "N C"],
        valid_NC: Bool[Tensor, "N C"] | None = None,
        iterations: int = 100,
        seed: int = 0,
    ) -> None:
        """Place all books by k-means on the residuals of a sample, level after level
        (docs/method.md#encoder-quantizer-decoder).

        Raises:
            ValueError: fewer vectors than codes.
        """
        if len(x_NC) < self.codebook_size:
            raise ValueError(
                f"k-means of {self.codebook_size} codes needs at least as many vectors, there are {len(x_NC)}; "
                "give more data or a smaller codebook_size"
            )
        path = kept_path(x_NC, valid_NC, self.codebook_size, self.levels, iterations, seed)
        if path is not None and path.is_file():
            self._set_placed(load_file(path))
            return
        generator = torch.Generator().manual_seed(seed)
        valid = None if valid_NC is None else valid_NC.to(x_NC.dtype)
        residual = x_NC.clone() if valid is None else x_NC * valid
        bar = phase(f"k-means of {len(residual)} vectors", self.levels * iterations)
        for level in range(self.levels):
            start = torch.randperm(len(residual), generator=generator)[: self.codebook_size]
            move = random_vectors(residual, generator)

            def refill(book: Tensor, count: Tensor, number: int, move: Refill = move) -> Tensor:
                bar.update()
                return move(book, count, number)

            self.books_QVC[level] = lloyd(residual, residual[start].float(), iterations, refill, valid)
            index = self._nearest(level, residual, valid)
            self._restart_ema(level, residual, index, valid)
            code = self.books_QVC[level][index]
            residual = residual - (code if valid is None else code * valid)
        bar.close()
        if path is not None:
            with atomic_file(path) as draft:
                save_file({name: getattr(self, name).cpu() for name in _PLACED}, draft)

    @torch.no_grad()
    def _set_placed(self, tensors: Mapping[str, Tensor]) -> None:
        for name in _PLACED:
            getattr(self, name).copy_(tensors[name])

    def health(self, reset: bool = True) -> list[Health]:
        """Use of each level over all training forwards since the last call."""
        out = []
        for hits, resets in zip(self.hits_QV, self.resets_Q, strict=True):
            share = hits / hits.sum().clamp_min(1)
            perplexity = torch.exp(-(share * share.clamp_min(1e-12).log()).sum())
            out.append(Health(float((hits > 0).float().mean()), float(perplexity), int(resets)))
        if reset:
            self.hits_QV.zero_()
            self.resets_Q.zero_()
        return out

    def _nearest(self, level: int, x_NC: Tensor, valid_NC: Tensor | None) -> Tensor:
        return nearest(x_NC, self.books_QVC[level], valid_NC)

    def _gather(self, x_NC: Tensor, index_N: Tensor, valid_NC: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Hits [V], sums [V, C] and valid counts [V, C] of one assignment."""
        found = gathered(x_NC, index_N, self.codebook_size, valid_NC)
        return found.count_V, found.sum_VC, found.weight_VC

    def _restart_ema(self, level: int, x_NC: Tensor, index_N: Tensor, valid_NC: Tensor | None) -> None:
        """EMA state as if batches of 8 V vectors like these had been seen for ever."""
        count, total, weight = self._gather(x_NC, index_N, valid_NC)
        scale = 8 * self.codebook_size / max(1, len(x_NC))
        self.count_QV[level] = count * scale
        self.weight_QVC[level] = weight * scale
        self.sum_QVC[level] = torch.where(weight > 0, total * scale, 0.0)

    @torch.no_grad()
    def restart_from_books(self) -> None:
        """EMA state for books that came without one (released weights): as if every code had just been hit 8 times."""
        self.count_QV.fill_(8)
        self.weight_QVC.fill_(8)
        self.sum_QVC.copy_(self.books_QVC * 8)

    @torch.no_grad()
    def _update(self, level: int, x_NC: Tensor, index_N: Tensor, valid_NC: Tensor | None, place: ranks.Rows) -> None:
        """One EMA step on the vectors of all ranks, then dead codes move onto some of them: the same on every rank."""
        count, total, weight = ranks.summed(self._gather(x_NC, index_N, valid_NC))
        self.hits_QV[level] += count
        seen = place.total
        if level in self._waiting:
            *before, earlier = self._waiting.pop(level)
            count, total, weight = (a + b for a, b in zip(before, (count, total, weight), strict=True))
            seen += earlier
        if not ranks.step_ends():
            self._waiting[level] = count, total, weight, seen
            return
        for state, new in ((self.count_QV, count), (self.sum_QVC, total), (self.weight_QVC, weight)):
            state[level].mul_(self.decay).add_(new, alpha=1 - self.decay)
        weight = self.weight_QVC[level]
        book = torch.where(weight > 1e-6, self.sum_QVC[level] / weight.clamp_min(1e-6), self.books_QVC[level])
        self.books_QVC[level] = book
        even = seen / self.codebook_size
        dead = (self.count_QV[level] < self.dead_share * even).nonzero().flatten()
        # Never more than the batch can replace without putting two codes on one vector.
        dead = dead[: place.total]
        if len(dead):
            chosen = ranks.from_first(torch.randperm(place.total, device=x_NC.device)[: len(dead)])
            moved = ranks.picked(x_NC.float(), chosen, place)
            valid = torch.ones_like(moved) if valid_NC is None else ranks.picked(valid_NC.float(), chosen, place)
            self.books_QVC[level, dead] = moved
            self.count_QV[level, dead] = even
            self.weight_QVC[level, dead] = valid * even
            self.sum_QVC[level, dead] = moved * even
            self.resets_Q[level] += len(dead)

    def _greedy(self, x_NC: Tensor) -> Tensor:
        self.eval()
        try:
            return self.forward(x_NC).codes_NQ
        finally:
            self.train()

    def _search(self, x_NC: Tensor, beam: int) -> Tensor:
        N, V = len(x_NC), self.codebook_size
        residual = x_NC[:, None]  # [N, b, C]
        codes = torch.zeros(N, 1, 0, dtype=torch.long, device=x_NC.device)
        for level in range(self.levels):
            book = self.books_QVC[level].to(x_NC.dtype)
            flat = residual.flatten(0, 1)
            error = torch.addmm(book.square().sum(dim=1), flat, book.T, alpha=-2)
            error += flat.square().sum(dim=-1, keepdim=True)
            found = _least(error.view(N, -1), min(beam, residual.shape[1] * V))
            parent, index = found // V, found % V
            residual = residual.gather(1, parent[..., None].expand(-1, -1, self.dim)) - book[index]
            codes = torch.cat([codes.gather(1, parent[..., None].expand(-1, -1, level)), index[..., None]], dim=-1)
        return codes[:, 0]


def _least(error_NE: Tensor, count: int) -> Tensor:
    """Places [N, count] of each row's least values, in order. topk of blocks' minima first: it is slow on long rows."""
    blocks = error_NE.shape[1] // _BLOCK
    if blocks * _BLOCK != error_NE.shape[1] or blocks <= count:
        return error_NE.topk(count, largest=False).indices
    by_block = error_NE.unflatten(1, (blocks, _BLOCK))
    near = by_block.amin(dim=2).topk(count, largest=False).indices.sort(dim=1).values  # no other block has one of them
    at = by_block.gather(1, near[..., None].expand(-1, -1, _BLOCK)).flatten(1).topk(count, largest=False).indices
    return near.gather(1, at // _BLOCK) * _BLOCK + at % _BLOCK
