"""The published model: motion -> encoder -> residual quantizer -> decoder -> motion, trained from noise.

docs/method.md#encoder-quantizer-decoder. It knows a robot by its statistics
alone, and treats a batch of many robots as one.

# B batch, T frames, M slots, Q levels, K tangent channels, C code dimension
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from xtok.actions.delta import tangent_width
from xtok.actions.types import slots
from xtok.codec.base import Codec, Networks
from xtok.codec.batch import BatchContext
from xtok.codec.config import PerceiverConfig
from xtok.codec.decoder import Decoder
from xtok.codec.encoder import Encoder
from xtok.codec.layers import straight_through
from xtok.codec.output import CodecOutput
from xtok.codec.quantizer import Health, ResidualQuantizer


class PerceiverCodec(Codec):
    """Encoder, one residual quantizer that all robots share, decoder."""

    config: PerceiverConfig

    def __init__(self, config: PerceiverConfig) -> None:
        super().__init__(config)
        K, D = tangent_width(self.layout), self.layout.width
        net = (config.hidden, config.heads)
        self.latent_dim = self.slot_dim = config.code_dim
        linear = config.linear_path
        self.encoder = Encoder(K, D, *net, config.encoder_layers, config.dropout, config.code_dim, linear_path=linear)
        self.quantizer = ResidualQuantizer(config.code_dim, config.codebook_size, config.levels, config.codebook_decay)
        self.decoder = Decoder(
            config.code_dim, K, D, config.levels, *net, config.decoder_layers, config.dropout, linear
        )
        self.in_float32()

    @torch.no_grad()
    def start_linear(self, slots_NY: Float[Tensor, "N 4K"]) -> None:
        """Let the linear path begin as the first principal components of slots: see `PerceiverConfig`.

        slots_NY: the frames of slots side by side, zeros in channels that are not there. About the origin: no motion is
        no latent.
        """
        assert self.encoder.local is not None and self.decoder.local is not None
        _, vectors_YY = torch.linalg.eigh(slots_NY.double().T @ slots_NY.double())
        components_CY = vectors_YY.flip(1)[:, : self.config.code_dim].T
        self.encoder.local.weight.copy_(components_CY)
        self.decoder.local.weight.copy_(components_CY.T)

    @property
    def networks(self) -> dict[str, nn.Module]:
        return {"encoder": self.encoder, "decoder": self.decoder}

    @property
    def device(self) -> torch.device:
        return self.quantizer.books_QVC.device

    def health(self) -> list[Health]:
        return self.quantizer.health()

    def first_codes(self, codes_BM: Int[Tensor, "B M"], batch_context: BatchContext) -> Float[Tensor, "B M C"]:
        return self._lookup(codes_BM[..., None])

    def valid(self, batch_context: BatchContext) -> Bool[Tensor, "B M C"]:
        B, M = len(batch_context.conditions.slot_B), slots(batch_context.horizon)
        return batch_context.conditions.mask_BK.new_ones(B, M, self.latent_dim)

    def latents(
        self,
        motion_BTK: Float[Tensor, "B T K"],
        batch_context: BatchContext,
        hidden_BTK: Bool[Tensor, "B T K"] | None = None,
        networks: Networks | None = None,
    ) -> Float[Tensor, "B M C"]:
        encoder = (networks or self.networks)["encoder"]
        dtype = next(encoder.parameters()).dtype
        found: Tensor = encoder(motion_BTK.to(dtype), batch_context.conditions.to(dtype), hidden_BTK)
        return found

    def forward(
        self,
        motion_BTK: Float[Tensor, "B T K"],
        batch_context: BatchContext,
        levels: int | None = None,
        hidden_BTK: Bool[Tensor, "B T K"] | None = None,
    ) -> CodecOutput:
        """Gradients of the reconstruction reach the encoder through all `levels` at once."""
        levels = levels or self.config.levels
        h_BMC = self.latents(motion_BTK, batch_context, hidden_BTK)
        found = self.quantizer(h_BMC.float().flatten(0, 1))
        z_BMC = straight_through(h_BMC, found.partial_QNC[levels - 1])
        coarse_BMC = straight_through(h_BMC, found.partial_QNC[0])
        motion = self.decoder(z_BMC, batch_context.conditions, batch_context.horizon, levels)
        codes_BMQ = found.codes_NQ.view(*h_BMC.shape[:2], -1)
        return CodecOutput(motion, h_BMC, coarse_BMC, z_BMC, codes_BMQ, found.commitment)

    def first_level(self, motion_BTK: Float[Tensor, "B T K"], batch_context: BatchContext) -> CodecOutput:
        return self.forward(motion_BTK, batch_context, levels=1)

    @torch.no_grad()
    def encode(
        self, motion_BTK: Float[Tensor, "B T K"], batch_context: BatchContext, networks: Networks | None = None
    ) -> Int[Tensor, "B M Q"]:
        return self.encode_latents(self.latents(motion_BTK, batch_context, networks=networks), batch_context)

    @torch.no_grad()
    def encode_latents(self, h_BMC: Float[Tensor, "B M C"], batch_context: BatchContext) -> Int[Tensor, "B M q"]:
        return self.quantizer.search(h_BMC.double().flatten(0, 1), self.config.beam).view(*h_BMC.shape[:2], -1)

    @torch.no_grad()
    def decode(
        self,
        codes_BMq: Int[Tensor, "B M q"],
        batch_context: BatchContext,
        present_BM: Bool[Tensor, "B M"] | None = None,
        networks: Networks | None = None,
    ) -> Float[Tensor, "B T K"]:
        """Slots that are not present are decoded from code 0, whatever that means: nothing foretells them."""
        decoder = (networks or self.networks)["decoder"]
        dtype = next(decoder.parameters()).dtype
        z_BMC = self._lookup(codes_BMq).to(dtype)
        found: Tensor = decoder(z_BMC, batch_context.conditions.to(dtype), batch_context.horizon, codes_BMq.shape[-1])
        return found

    def _lookup(self, codes_BMq: Int[Tensor, "B M q"]) -> Float[Tensor, "B M C"]:
        return self.quantizer.lookup(codes_BMq.flatten(0, 1)).view(*codes_BMq.shape[:2], -1)
