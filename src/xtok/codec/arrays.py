"""Plain tensors and arrays in and out, under the method names of the authors' library.

# B chunks, T frames, M slots, Q levels, D channels
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from xtok.actions.embodiments import NONE, get_embodiment
from xtok.actions.entrance import floats_of, integers_of, mask_of, number_of, whole_of
from xtok.actions.steady import exact
from xtok.actions.types import Actions, ChunkBatch, Codes, Context
from xtok.codec.exact_coder import ExactCoder
from xtok.codec.sequence import OnInvalid

TIME_MAJOR, QUANTIZER_MAJOR = "time_major", "quantizer_major"
DEFAULT_HZ = 20.0  # for "none" without a rate


@dataclass(frozen=True)
class Given:
    """What a caller tells beside the numbers: one robot for all chunks, states, channels, rate; unchecked."""

    robot_type: str = NONE
    obs_state: Any = None
    dof_mask: Any = None
    control_hz: float | None = None

    def context(self, coder: ExactCoder, shape: tuple[int, ...]) -> Context:
        """For actions of this shape [B, T, D].

        Raises:
            ValueError: a robot that is not known, a state or mask of another shape, a rate that is no number.
        """
        B, T, D = shape
        device = coder.device
        if not isinstance(self.robot_type, str):
            raise ValueError(
                f"robot_type is {self.robot_type!r}; expected the name of one robot, as 'panda', or 'none'"
            )
        statistics = coder.statistics.get(self.robot_type)
        if statistics is None:
            get_embodiment(self.robot_type)  # an unknown name is told its close matches
            raise ValueError(
                f"this tokenizer has no robot {self.robot_type!r}; it has {sorted(coder.statistics)}; "
                "measure it with `xtok.tokenizer_for(dataset)`, give with_statistics(...) what `xtok stats DATA -o "
                "F.json` wrote, or use 'none'"
            )
        state = self.obs_state
        if state is not None:
            state = floats_of(state, "obs_state", f"[{B}, {D}], one state a chunk").to(device)
            if state.shape != (B, D):
                raise ValueError(f"obs_state has shape {tuple(state.shape)}; expected [{B}, {D}], one state a chunk")
        mask = statistics.mask_D if self.dof_mask is None else self.dof_mask
        mask = mask_of(mask, "dof_mask", f"[{D}] or [{B}, {D}]").to(device)
        if mask.shape not in ((D,), (B, D)):
            raise ValueError(f"dof_mask has shape {tuple(mask.shape)}; expected [{D}] or [{B}, {D}]")
        if self.control_hz is None:
            rate = DEFAULT_HZ if self.robot_type == NONE else statistics.control_hz
        else:
            rate = number_of(self.control_hz, "control_hz", "a rate in Hz, one for all chunks")
        rate_B = torch.full((B,), rate, dtype=torch.float32)
        return Context(coder.layout, state, mask.expand(B, D), rate_B, (self.robot_type,) * B, T)


class ArrayInterface:
    """A tokenizer for plain numbers. Codes are [B, M, Q] (time_major) or [B, Q, M] (quantizer_major).

    Numbers may come as tensors, arrays or lists of any real dtype (`xtok.actions.entrance`); results are on the codec's
    device, without gradient.

    robot_type: a registry name; "none" where it is not known. obs_state [B, D]: absolute state one step before the
    chunk. dof_mask [D] or [B, D]: True where the robot has the channel; None takes the robot's own channels.
    """

    def __init__(self, coder: ExactCoder) -> None:
        self._coder = coder

    @exact
    def encode_delta(
        self,
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
        delta_BTD = self._actions(delta_BTD)
        context = Given(robot_type, obs_state, dof_mask, control_hz).context(self._coder, delta_BTD.shape)
        return _arrange(self._coder.encode_delta(delta_BTD, context), layout)

    @exact
    def decode_delta(
        self,
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
        given = Given(robot_type, obs_state, dof_mask, control_hz)
        return self._decode(codes, target_length, given, levels, layout, on_invalid).delta_BTD

    @exact
    def reconstruct(
        self, delta_BTD: Float[Tensor, "B T D"], levels: int | None = None, **known: Any
    ) -> Float[Tensor, "B T D"]:
        """`decode_delta(encode_delta(x))`; `known` as for both (robot_type, obs_state, dof_mask, control_hz)."""
        delta_BTD = self._actions(delta_BTD)
        codes = self.encode_delta(delta_BTD, **known)
        return self.decode_delta(codes, delta_BTD.shape[1], levels, **known)

    @exact
    def encode_from_absolute(
        self,
        actions: Float[Tensor, "B T D"],
        obs_state: Float[Tensor, "B D"],
        robot_type: str = NONE,
        dof_mask: Tensor | None = None,
        control_hz: float | None = None,
        layout: str = TIME_MAJOR,
    ) -> Int[Tensor, "B M Q"]:
        """Codes of absolute actions, anchored at the state one step before."""
        actions = self._actions(actions)
        context = Given(robot_type, obs_state, dof_mask, control_hz).context(self._coder, actions.shape)
        chunks = ChunkBatch(torch.where(context.mask_BD[:, None], actions, 0.0), context)
        return _arrange(self._coder.encode(chunks), layout)

    @exact
    def decode_to_absolute(
        self,
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
        given = Given(robot_type, obs_state, dof_mask, control_hz)
        absolute_BTD = self._decode(codes, target_length, given, levels, layout, on_invalid).absolute_BTD
        assert absolute_BTD is not None
        return absolute_BTD

    # The same with numpy arrays out.

    @exact
    def encode_numpy(self, delta_BTD: np.ndarray, **known: Any) -> np.ndarray:
        return self.encode_delta(delta_BTD, **known).cpu().numpy()  # type: ignore[arg-type]

    @exact
    def decode_numpy(self, codes: np.ndarray, target_length: int, **known: Any) -> np.ndarray:
        return self.decode_delta(codes, target_length, **known).cpu().numpy()  # type: ignore[arg-type]

    @exact
    def reconstruct_numpy(self, delta_BTD: np.ndarray, **known: Any) -> np.ndarray:
        return self.reconstruct(delta_BTD, **known).cpu().numpy()  # type: ignore[arg-type]

    @exact
    def encode_from_absolute_numpy(self, actions: np.ndarray, obs_state: np.ndarray, **known: Any) -> np.ndarray:
        return self.encode_from_absolute(actions, obs_state, **known).cpu().numpy()  # type: ignore[arg-type]

    @exact
    def decode_to_absolute_numpy(
        self, codes: np.ndarray, target_length: int, obs_state: np.ndarray, **known: Any
    ) -> np.ndarray:
        found = self.decode_to_absolute(codes, target_length, obs_state, **known)  # type: ignore[arg-type]
        return found.cpu().numpy()

    def _actions(self, actions: Any) -> Tensor:
        """Actions [B, T, D] as an exact tensor on the codec's device."""
        name, width = self._coder.layout.name, self._coder.layout.width
        found = floats_of(actions, "actions", f"[B, T, {width}] of layout {name!r}").to(self._coder.device)
        if found.ndim != 3 or found.shape[2] != width:
            raise ValueError(f"actions have shape {tuple(found.shape)}; layout {name!r} expects [B, T, {width}]")
        return found

    def _decode(
        self, codes: Any, target_length: int, given: Given, levels: int | None, layout: str, on_invalid: OnInvalid
    ) -> Actions:
        coder = self._coder
        target_length = whole_of(target_length, "target_length (T, frames)")
        grid = _arrange(integers_of(codes, "codes", "[B, M, Q]", 3).cpu(), layout)
        context = given.context(coder, (len(grid), target_length, coder.layout.width))
        if not 1 <= grid.shape[2] <= coder.levels:
            raise ValueError(
                f"codes have {grid.shape[2]} levels in layout {layout!r}; this tokenizer has {coder.levels}"
            )
        return coder.decode(Codes.from_grid(grid, coder.vocab_size), context, levels, on_invalid)


def _arrange(codes: Tensor, layout: str) -> Tensor:
    if layout == TIME_MAJOR:
        return codes
    if layout == QUANTIZER_MAJOR:
        return codes.transpose(1, 2)
    raise ValueError(f"layout is {layout!r}; expected {TIME_MAJOR!r} [B, M, Q] or {QUANTIZER_MAJOR!r} [B, Q, M]")
