"""Plain tensors and arrays in and out, under the method names of the authors' library (ECOSYSTEM, contracts).

# B chunks, T frames, M slots, Q levels, D channels
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from xtok.actions.embodiments import NONE, get_embodiment
from xtok.actions.entrance import floats_of, integers_of, mask_of, number_of, whole_of
from xtok.actions.steady import exact
from xtok.actions.types import Actions, ChunkBatch, Codes, Context
from xtok.actions.validate import check_actions
from xtok.codec.sequence import OnInvalid

if TYPE_CHECKING:
    from xtok.codec.tokenizer import Tokenizer

TIME_MAJOR, QUANTIZER_MAJOR = "time_major", "quantizer_major"
DEFAULT_HZ = 20.0  # for "none" without a rate


class ArrayInterface:
    """Mixed into Tokenizer. Codes are [B, M, Q] (time_major) or [B, Q, M] (quantizer_major).

    Numbers may come as tensors, arrays or lists of any real dtype (`xtok.actions.entrance`); results are on the codec's
    device, without gradient.

    robot_type: a registry name; "none" where it is not known. obs_state [B, D]: absolute state one step before the
    chunk. dof_mask [D] or [B, D]: True where the robot has the channel; None takes the robot's own channels.
    """

    @exact
    def encode_delta(
        self: Any,
        delta_BTD: Float[Tensor, "B T D"],
        robot_type: str = NONE,
        obs_state: Float[Tensor, "B D"] | None = None,
        dof_mask: Tensor | None = None,
        control_hz: float | None = None,
        layout: str = TIME_MAJOR,
    ) -> Int[Tensor, "B M Q"]:
        """Codes of deltas to the anchor, in physical units (m, 6D, layout units). The state is optional here.

        Raises:
            ValueError: as `Tokenizer.encode`.
        """
        delta_BTD = _actions(self, delta_BTD)
        context = _context(self, delta_BTD.shape, robot_type, obs_state, dof_mask, control_hz)
        setting = self._setting(context)
        check_actions(self.layout, delta_BTD, context.mask_BD[:, None])
        safe = torch.where(context.mask_BD[:, None], delta_BTD, 0.0).double()
        return _arrange(self._encode(self.codec.motion_of_delta(safe, setting), setting), layout)

    @exact
    def decode_delta(
        self: Any,
        codes: Int[Tensor, "B M q"],
        target_length: int,
        levels: int | None = None,
        robot_type: str = NONE,
        obs_state: Float[Tensor, "B D"] | None = None,
        dof_mask: Tensor | None = None,
        control_hz: float | None = None,
        layout: str = TIME_MAJOR,
        on_invalid: OnInvalid = "raise",
    ) -> Float[Tensor, "B T D"]:
        """Deltas in physical units, float32; masked channels 0."""
        return _decoded(
            self, codes, target_length, levels, robot_type, obs_state, dof_mask, control_hz, layout, on_invalid
        ).delta_BTD

    @exact
    def reconstruct(
        self: Any, delta_BTD: Float[Tensor, "B T D"], levels: int | None = None, **known: Any
    ) -> Float[Tensor, "B T D"]:
        """`decode_delta(encode_delta(x))`; `known` as for both (robot_type, obs_state, dof_mask, control_hz)."""
        delta_BTD = _actions(self, delta_BTD)
        codes = self.encode_delta(delta_BTD, **known)
        return self.decode_delta(codes, delta_BTD.shape[1], levels, **known)

    @exact
    def encode_from_absolute(
        self: Any,
        actions: Float[Tensor, "B T D"],
        obs_state: Float[Tensor, "B D"],
        robot_type: str = NONE,
        dof_mask: Tensor | None = None,
        control_hz: float | None = None,
        layout: str = TIME_MAJOR,
    ) -> Int[Tensor, "B M Q"]:
        """Codes of absolute actions, anchored at the state one step before."""
        actions = _actions(self, actions)
        context = _context(self, actions.shape, robot_type, obs_state, dof_mask, control_hz)
        codes = self.encode(ChunkBatch(torch.where(context.mask_BD[:, None], actions, 0.0), context))
        return _arrange(codes.grid_BMQ, layout)

    @exact
    def decode_to_absolute(
        self: Any,
        codes: Int[Tensor, "B M q"],
        target_length: int,
        obs_state: Float[Tensor, "B D"],
        robot_type: str = NONE,
        levels: int | None = None,
        dof_mask: Tensor | None = None,
        control_hz: float | None = None,
        layout: str = TIME_MAJOR,
        on_invalid: OnInvalid = "raise",
    ) -> Float[Tensor, "B T D"]:
        """Absolute actions, composed with the state one step before; masked channels 0."""
        absolute = _decoded(
            self, codes, target_length, levels, robot_type, obs_state, dof_mask, control_hz, layout, on_invalid
        ).absolute_BTD
        assert absolute is not None
        return absolute

    # The same with numpy arrays out.

    @exact
    def encode_numpy(self: Any, delta_BTD: np.ndarray, **known: Any) -> np.ndarray:
        return self.encode_delta(delta_BTD, **known).cpu().numpy()

    @exact
    def decode_numpy(self: Any, codes: np.ndarray, target_length: int, **known: Any) -> np.ndarray:
        return self.decode_delta(codes, target_length, **known).cpu().numpy()

    @exact
    def reconstruct_numpy(self: Any, delta_BTD: np.ndarray, **known: Any) -> np.ndarray:
        return self.reconstruct(delta_BTD, **known).cpu().numpy()

    @exact
    def encode_from_absolute_numpy(self: Any, actions: np.ndarray, obs_state: np.ndarray, **known: Any) -> np.ndarray:
        return self.encode_from_absolute(actions, obs_state, **known).cpu().numpy()

    @exact
    def decode_to_absolute_numpy(
        self: Any, codes: np.ndarray, target_length: int, obs_state: np.ndarray, **known: Any
    ) -> np.ndarray:
        return self.decode_to_absolute(codes, target_length, obs_state, **known).cpu().numpy()


def _actions(tokenizer: Tokenizer, actions: Any) -> Tensor:
    """Actions [B, T, D] as an exact tensor on the codec's device."""
    name, width = tokenizer.layout.name, tokenizer.layout.width
    found = floats_of(actions, "actions", f"[B, T, {width}] of layout {name!r}").to(tokenizer._device)
    if found.ndim != 3 or found.shape[2] != width:
        raise ValueError(f"actions have shape {tuple(found.shape)}; layout {name!r} expects [B, T, {width}]")
    return found


def _context(
    tokenizer: Tokenizer,
    shape: tuple[int, ...],
    robot_type: str,
    obs_state: Tensor | None,
    dof_mask: Tensor | None,
    control_hz: float | None,
) -> Context:
    """All that is known of plain tensors of this shape."""
    B, T, D = shape
    device = tokenizer._device
    if not isinstance(robot_type, str):
        raise ValueError(f"robot_type is {robot_type!r}; expected the name of one robot, as 'panda', or 'none'")
    statistics = tokenizer.statistics.get(robot_type)
    if statistics is None:
        get_embodiment(robot_type)  # an unknown name is told its close matches
        raise ValueError(
            f"this tokenizer has no robot {robot_type!r}; it has {sorted(tokenizer.statistics)}; "
            "measure it with `xtok.tokenizer_for(dataset)`, give with_statistics(...) what `xtok stats DATA -o F.json` "
            "wrote, or use 'none'"
        )
    if obs_state is not None:
        obs_state = floats_of(obs_state, "obs_state", f"[{B}, {D}], one state a chunk").to(device)
        if obs_state.shape != (B, D):
            raise ValueError(f"obs_state has shape {tuple(obs_state.shape)}; expected [{B}, {D}], one state a chunk")
    mask = mask_of(statistics.mask_D if dof_mask is None else dof_mask, "dof_mask", f"[{D}] or [{B}, {D}]").to(device)
    if mask.shape not in ((D,), (B, D)):
        raise ValueError(f"dof_mask has shape {tuple(mask.shape)}; expected [{D}] or [{B}, {D}]")
    if control_hz is None:
        rate = DEFAULT_HZ if robot_type == NONE else statistics.control_hz
    else:
        rate = number_of(control_hz, "control_hz", "a rate in Hz, one for all chunks")
    rate_B = torch.full((B,), rate, dtype=torch.float32)
    return Context(tokenizer.layout, obs_state, mask.expand(B, D), rate_B, (robot_type,) * B, T)


def _decoded(
    tokenizer: Tokenizer,
    codes: Tensor,
    target_length: int,
    levels: int | None,
    robot_type: str,
    obs_state: Tensor | None,
    dof_mask: Tensor | None,
    control_hz: float | None,
    layout: str,
    on_invalid: OnInvalid,
) -> Actions:
    target_length = whole_of(target_length, "target_length (T, frames)")
    grid = _arrange(integers_of(codes, "codes", "[B, M, Q]", 3).cpu(), layout)
    shape = (len(grid), target_length, tokenizer.layout.width)
    context = _context(tokenizer, shape, robot_type, obs_state, dof_mask, control_hz)
    if not 1 <= grid.shape[2] <= tokenizer.levels:
        raise ValueError(
            f"codes have {grid.shape[2]} levels in layout {layout!r}; this tokenizer has {tokenizer.levels}"
        )
    return tokenizer._decode(Codes.from_grid(grid, tokenizer.vocab_size), context, levels, on_invalid)


def _arrange(codes: Tensor, layout: str) -> Tensor:
    if layout == TIME_MAJOR:
        return codes
    if layout == QUANTIZER_MAJOR:
        return codes.transpose(1, 2)
    raise ValueError(f"layout is {layout!r}; expected {TIME_MAJOR!r} [B, M, Q] or {QUANTIZER_MAJOR!r} [B, Q, M]")
