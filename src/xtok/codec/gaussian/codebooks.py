"""Which codebook codes which robot: shared ones, and those of single robots. Decision 0003.

# B batch, M slots, C code dimension, Q levels of these books
In `arms26` all robots share the books: a code is a physical motion, whichever arm makes it. Joint spaces have no shared
meaning, and a book shared by smooth and jerky robots serves the smooth ones badly, so in `joints` a robot has books of
its own; robots that training did not see, and "none", use the shared ones until `xtok adapt` gives them theirs.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from xtok import ranks
from xtok.codec.precision import KeepsPrecision
from xtok.codec.quantizer import Health, Quantized, ResidualQuantizer


class Codebooks(KeepsPrecision):
    """A shared residual quantizer, and those of single robots. Rows of a batch go to the books of their robot."""

    def __init__(self, dim: int, codebook_size: int, levels: int, decay: float) -> None:
        super().__init__()
        self.dim, self.codebook_size, self.levels, self.decay = dim, codebook_size, levels, decay
        self.shared = ResidualQuantizer(dim, codebook_size, levels, decay)
        self.per_robot = nn.ModuleDict()

    def add(self, robot: str) -> ResidualQuantizer:
        """Books of its own for a robot, empty until they are initialised."""
        if robot not in self.per_robot:
            self.per_robot[robot] = ResidualQuantizer(self.dim, self.codebook_size, self.levels, self.decay)
            self.per_robot[robot].train(self.training)
        return self.of(robot)

    def of(self, robot: str) -> ResidualQuantizer:
        if robot not in self.per_robot:
            return self.shared
        found = self.per_robot[robot]
        assert isinstance(found, ResidualQuantizer)
        return found

    def forward(
        self, x_BMC: Float[Tensor, "B M C"], robots: tuple[str, ...], valid_BMC: Bool[Tensor, "B M C"] | None = None
    ) -> Quantized:
        """Quantise greedily; rows in the order B, M. See ResidualQuantizer."""
        groups = self._groups(robots) if ranks.world() == 1 else self._groups_of_all(robots)
        B, M, C = x_BMC.shape
        if len(groups) == 1:
            ((quantizer, _, _),) = groups
            return quantizer(x_BMC.flatten(0, 1), None if valid_BMC is None else valid_BMC.flatten(0, 1))
        latents, partial = torch.empty_like(x_BMC), x_BMC.new_empty(self.levels, B, M, C)
        codes = torch.empty(B, M, self.levels, dtype=torch.long, device=x_BMC.device)
        commitment = x_BMC.new_zeros(())
        for quantizer, rows, share in groups:
            valid = None if valid_BMC is None else valid_BMC[rows].flatten(0, 1)
            found = quantizer(x_BMC[rows].flatten(0, 1), valid)
            latents[rows] = found.latents_NC.view(-1, M, C)
            partial[:, rows] = found.partial_QNC.view(self.levels, -1, M, C)
            codes[rows] = found.codes_NQ.view(-1, M, self.levels)
            commitment = commitment + found.commitment * share
        return Quantized(latents.flatten(0, 1), codes.flatten(0, 1), commitment, partial.flatten(1, 2))

    def search(self, x_BMC: Float[Tensor, "B M C"], robots: tuple[str, ...], beam: int) -> Int[Tensor, "B M Q"]:
        """Codes by beam search. See ResidualQuantizer."""
        out = torch.empty(*x_BMC.shape[:2], self.levels, dtype=torch.long, device=x_BMC.device)
        for quantizer, rows, _ in self._groups(robots):
            out[rows] = quantizer.search(x_BMC[rows].flatten(0, 1), beam).view(len(rows), -1, self.levels)
        return out

    def lookup(self, codes_BMq: Int[Tensor, "B M q"], robots: tuple[str, ...]) -> Float[Tensor, "B M C"]:
        """Sum of the first q levels' codes."""
        out = self.shared.books_QVC.new_empty(*codes_BMq.shape[:2], self.dim)
        for quantizer, rows, _ in self._groups(robots):
            out[rows] = quantizer.lookup(codes_BMq[rows].flatten(0, 1)).view(len(rows), -1, self.dim)
        return out

    def health(self) -> list[Health]:
        """Of each level, mean over the books that were used since the last call."""
        reports = [q.health() for q in (self.shared, *map(self.of, self.per_robot)) if q.hits_QV.any()]
        return [
            Health(
                usage=sum(level.usage for level in levels) / len(levels),
                perplexity=sum(level.perplexity for level in levels) / len(levels),
                resets=sum(level.resets for level in levels),
            )
            for levels in zip(*reports, strict=True)
        ]

    def _groups(self, robots: tuple[str, ...]) -> list[tuple[ResidualQuantizer, Int[Tensor, " b"], float]]:
        """Books, the rows that they code, and the share of those in the batch."""
        rows: dict[str, list[int]] = {}
        for row, name in enumerate(robots):
            rows.setdefault(name if name in self.per_robot else "", []).append(row)
        device = self.shared.books_QVC.device
        return [
            (self.of(name), torch.tensor(index, device=device), len(index) / len(robots))
            for name, index in rows.items()
        ]

    def _groups_of_all(self, robots: tuple[str, ...]) -> list[tuple[ResidualQuantizer, Int[Tensor, " b"], float]]:
        """The same, for the robots of all ranks in one order: a rank that has none of a robot's rows must yet take part
        in the update of its books, or the others would wait for it."""
        device = self.shared.books_QVC.device
        own = [name if name in self.per_robot else "" for name in robots]
        rows = [
            torch.tensor([row for row, name in enumerate(own) if name == book], dtype=torch.long, device=device)
            for book in ("", *self.per_robot)
        ]
        (counted,) = ranks.summed([torch.tensor([len(index) for index in rows], device=device)])
        counts = counted.tolist()
        books = (self.shared, *map(self.of, self.per_robot))
        return [(book, index, n / sum(counts)) for book, index, n in zip(books, rows, counts, strict=True) if n]
