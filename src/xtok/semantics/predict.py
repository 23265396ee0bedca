"""What the teacher will see right after the chunk, foretold from its codes. docs/method.md#losses (L_pred).

# B chunks, M slots, X width of a slot's latent z~, W width of the teacher, H hidden
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from xtok import ranks
from xtok.codec.encoder import slot_times
from xtok.codec.layers import Block
from xtok.semantics.align import Fusion
from xtok.semantics.cotemporal import TeacherFeatures


class NextFrame(nn.Module):
    """G: one query, at the time of the next frame, looks at the slots' z~.

    Its target fuses the views that are there evenly: weights that learn would make the target easy instead of foretold.
    """

    def __init__(
        self, slot_dim: int, width: int, views: int = 3, hidden: int = 128, heads: int = 4, text_weight: float = 0.5
    ) -> None:
        super().__init__()
        self.fusion = Fusion(width, views, text_weight).requires_grad_(False)
        self.slot = nn.Linear(slot_dim, hidden)
        self.query = nn.Parameter(0.02 * torch.randn(1, hidden))
        self.read = Block(hidden, heads, dropout=0.0, cross=True)
        self.out = nn.Sequential(nn.LayerNorm(hidden), nn.Linear(hidden, 2 * hidden), nn.GELU())
        self.feature = nn.Linear(2 * hidden, width)

    def forward(self, z_BMX: Float[Tensor, "B M X"], horizon: int) -> Float[Tensor, "B W"]:
        """In units of the fusion: each dimension's spread."""
        slots_BMH = self.slot(z_BMX.float())
        time = slots_BMH.new_tensor([float(horizon)])
        query = self.query.expand(len(z_BMX), -1, -1)
        return self.feature(self.out(self.read(query, time, slots_BMH, slot_times(z_BMX.shape[1], slots_BMH))))[:, 0]


def next_frame_loss(
    predictor: NextFrame, z_BMX: Float[Tensor, "B M X"], horizon: int, after: TeacherFeatures
) -> Float[Tensor, ""]:
    """l1 to the feature of the frame after each chunk that has one, mean over chunks and dimensions; 0 if none has."""
    target_BW = predictor.fusion(after)[:, 0].detach()
    valid_B = predictor.fusion.valid(after)[:, 0]
    error_B = (predictor(z_BMX, horizon) - target_BW).abs().mean(dim=1)
    return torch.where(valid_B, error_B, 0.0).sum() / ranks.divisor(valid_B.sum())
