"""From a chunk's teacher features to the latents that go with them, by ridge regression: no gradient, so none astray.

# B chunks, M slots, W width of the teacher, C latent width, F fixed random features
"""

from __future__ import annotations

from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from xtok.actions.types import HORIZON_MAX, slots

FEATURES = 1024
RIDGES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)  # of the mean diagonal


class Substitute(nn.Module):
    """Latents are relative to the chunk's start, so a slot is told by its own feature, the first slot's and its number.

    Linear in these and in `FEATURES` fixed random ReLU features of them; `fit` solves for the weights.
    """

    def __init__(self, width: int, latent_dim: int) -> None:
        super().__init__()
        inputs = 2 * width + slots(HORIZON_MAX)
        generator = torch.Generator().manual_seed(0)
        self.mix: Tensor
        self.shift: Tensor
        self.weight: Tensor
        mix, shift = torch.randn(inputs, FEATURES, generator=generator), torch.randn(FEATURES, generator=generator)
        self.register_buffer("mix", mix * (2 * width) ** -0.5, persistent=False)
        self.register_buffer("shift", shift * 0.5, persistent=False)
        self.register_buffer("weight", torch.zeros(inputs + FEATURES + 1, latent_dim))

    def forward(self, u_BMW: Float[Tensor, "B M W"]) -> Float[Tensor, "B M C"]:
        return self._inputs(u_BMW) @ self.weight

    @torch.no_grad()
    def fit(
        self,
        u: list[Float[Tensor, "B M W"]],
        h: list[Float[Tensor, "B M C"]],
        valid: list[Bool[Tensor, "B M"]],
        held: int,
    ) -> float:
        """Least squares over valid slots. The last `held` batches choose the ridge; returns their share of variance."""
        batches = list(zip(u, h, valid, strict=True))
        size, latent_dim = self.weight.shape
        zeros = partial(torch.zeros, dtype=torch.float64, device=self.weight.device)
        gram, cross, sum_C, count = zeros(size, size), zeros(size, latent_dim), zeros(latent_dim), 0
        for u_BMW, h_BMC, valid_BM in batches[:-held]:  # one after the other: all inputs at once are gigabytes
            x, y = self._inputs(u_BMW)[valid_BM].double(), h_BMC[valid_BM].double()
            gram += x.T @ x
            cross += x.T @ y
            sum_C += y.sum(dim=0)
            count += len(y)
        x_held = torch.cat([self._inputs(u_BMW)[v].double() for u_BMW, _, v in batches[-held:]])
        y_held = torch.cat([h_BMC[v].double() for _, h_BMC, v in batches[-held:]])
        if count == 0 or len(x_held) == 0:
            return 0.0
        total = (y_held - sum_C / count).square().sum().clamp_min(1e-12)
        best = -float("inf")
        for ridge in RIDGES:
            least = ridge * gram.diagonal().mean() * torch.eye(len(gram)).to(gram)
            weight = torch.linalg.solve(gram + least, cross)
            told = 1 - float((x_held @ weight - y_held).square().sum() / total)
            if told > best:
                best = told
                self.weight.copy_(weight.float())
        return best

    def _inputs(self, u_BMW: Tensor) -> Tensor:
        B, M, _ = u_BMW.shape
        number = torch.eye(slots(HORIZON_MAX), device=u_BMW.device)[:M].expand(B, -1, -1)
        x = torch.cat([u_BMW, u_BMW[:, :1].expand_as(u_BMW), number], dim=-1)
        return torch.cat([x, torch.relu(x @ self.mix + self.shift), torch.ones_like(x[..., :1])], dim=-1)
