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
from xtok.actions.types import Actions, ChunkBatch, Codes, Context
from xtok.actions.validate import check_actions
from xtok.codec.sequence import OnInvalid

if TYPE_CHECKING:
    from xtok.codec.tokenizer import Tokenizer

TIME_MAJOR, QUANTIZER_MAJOR = "time_major", "quantizer_major"
DEFAULT_HZ = 20.0  # for "none" without a rate


class ArrayInterface:
    """Mixed into Tokenizer. Codes are [B, M, Q] (time_major) or [B, Q, M] (quantizer_major).

    robot_type: a registry name; "none" where it is not known. obs_state [B, D]: absolute state one step before the
    chunk. dof_mask [D] or [B, D]: True where the robot has the channel; None takes the robot's own channels.
    """

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
        context = _context(self, delta_BTD.shape, robot_type, obs_state, dof_mask, control_hz)
        setting = self._setting(context)
        check_actions(self.layout, delta_BTD, context.mask_BD[:, None])
        safe = torch.where(context.mask_BD[:, None], delta_BTD, 0.0).double()
        return _arrange(self._encode(self.codec.motion_of_delta(safe, setting), setting), layout)

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

    def reconstruct(
        self: Any, delta_BTD: Float[Tensor, "B T D"], levels: int | None = None, **known: Any
    ) -> Float[Tensor, "B T D"]:
        """`decode_delta(encode_delta(x))`; `known` as for both (robot_type, obs_state, dof_mask, control_hz)."""
        codes = self.encode_delta(delta_BTD, **known)
        return self.decode_delta(codes, delta_BTD.shape[1], levels, **known)

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
        context = _context(self, actions.shape, robot_type, obs_state, dof_mask, control_hz)
        codes = self.encode(ChunkBatch(torch.where(context.mask_BD[:, None], actions, 0.0), context))
        return _arrange(codes.grid_BMQ, layout)

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

    # The same with numpy arrays in and out.

    def encode_numpy(self: Any, delta_BTD: np.ndarray, **known: Any) -> np.ndarray:
        return self.encode_delta(_tensor(delta_BTD), **_tensors(known)).numpy()

    def decode_numpy(self: Any, codes: np.ndarray, target_length: int, **known: Any) -> np.ndarray:
        return self.decode_delta(torch.as_tensor(codes), target_length, **_tensors(known)).numpy()

    def reconstruct_numpy(self: Any, delta_BTD: np.ndarray, **known: Any) -> np.ndarray:
        return self.reconstruct(_tensor(delta_BTD), **_tensors(known)).numpy()

    def encode_from_absolute_numpy(self: Any, actions: np.ndarray, obs_state: np.ndarray, **known: Any) -> np.ndarray:
        return self.encode_from_absolute(_tensor(actions), _tensor(obs_state), **_tensors(known)).numpy()

    def decode_to_absolute_numpy(
        self: Any, codes: np.ndarray, target_length: int, obs_state: np.ndarray, **known: Any
    ) -> np.ndarray:
        return self.decode_to_absolute(
            torch.as_tensor(codes), target_length, _tensor(obs_state), **_tensors(known)
        ).numpy()


def _context(
    tokenizer: Tokenizer,
    shape: tuple[int, ...],
    robot_type: str,
    obs_state: Tensor | None,
    dof_mask: Tensor | None,
    control_hz: float | None,
) -> Context:
    """All that is known of plain tensors of this shape."""
    if len(shape) != 3 or shape[2] != tokenizer.layout.width:
        width = tokenizer.layout.width
        raise ValueError(f"actions have shape {tuple(shape)}; layout {tokenizer.layout.name!r} expects [B, T, {width}]")
    B, T, D = shape
    statistics = tokenizer.statistics.get(robot_type)
    if statistics is None:
        get_embodiment(robot_type)  # an unknown name is told its close matches
        raise ValueError(
            f"this tokenizer has no robot {robot_type!r}; it has {sorted(tokenizer.statistics)}; "
            "measure it with `xtok.tokenizer_for(dataset)`, give with_statistics(...) what `xtok stats DATA -o F.json` "
            "wrote, or use 'none'"
        )
    if obs_state is not None and obs_state.shape != (B, D):
        raise ValueError(f"obs_state has shape {tuple(obs_state.shape)}; expected [{B}, {D}], one state a chunk")
    mask = torch.tensor(statistics.mask_D) if dof_mask is None else torch.as_tensor(dof_mask).bool()
    if mask.shape not in ((D,), (B, D)):
        raise ValueError(f"dof_mask has shape {tuple(mask.shape)}; expected [{D}] or [{B}, {D}]")
    rate = control_hz
    if rate is None:
        rate = DEFAULT_HZ if robot_type == NONE else statistics.control_hz
    return Context(tokenizer.layout, obs_state, mask.expand(B, D), torch.full((B,), rate), (robot_type,) * B, T)


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
    codes = torch.as_tensor(codes)
    if codes.ndim != 3 or codes.is_floating_point():
        raise ValueError(f"codes have shape {tuple(codes.shape)} and type {codes.dtype}; expected integers [B, M, Q]")
    grid = _arrange(codes, layout)
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


def _tensor(array: np.ndarray) -> Tensor:
    return torch.as_tensor(np.asarray(array, dtype=np.float32))


def _tensors(known: dict[str, Any]) -> dict[str, Any]:
    return {name: torch.as_tensor(value) if isinstance(value, np.ndarray) else value for name, value in known.items()}
