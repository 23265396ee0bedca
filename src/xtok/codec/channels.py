"""D channels of unknown meaning in [-1, 1], without state, robot or rate, as codes: what FAST's contract passes.

# B chunks, T frames, D channels (26 at most), M slots, Q levels, V codes a level
The channels are joints of a robot that nobody registered. The first frame is coded by itself (`StateCode`), the chunk
relative to what that decodes to, so a chunk has M + 1 slots of Q codes, position-major as everywhere. Decision 0010.
M is 2 at least: 1 to 4 frames are coded as 8 of which the rest stands still.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from xtok.actions.embodiments import UNREGISTERED_PREFIX
from xtok.actions.entrance import whole_of
from xtok.actions.layout import Layout
from xtok.actions.statistics import Statistics
from xtok.actions.steady import exact
from xtok.actions.types import HORIZON_MAX, HORIZON_MIN, ChunkBatch, Codes, Context, slots
from xtok.atomic import atomic_write
from xtok.codec import storage
from xtok.codec.anchor import StateCode
from xtok.codec.channel_input import (
    CHANNELS_MAX,
    PLAIN,
    ChannelInput,
    Outside,
    SaturationWarning,
    pad_last_frame,
    rows_of,
)
from xtok.codec.sequence import OnInvalid, check_sequences
from xtok.codec.tokenizer import Tokenizer

__all__ = ["CHANNELS_MAX", "PLAIN", "ChannelCodec", "Outside", "SaturationWarning", "pad_last_frame"]

CHANNELS = f"{UNREGISTERED_PREFIX}channels"  # the name of the robot
CONFIG = "channels.json"
FORMAT = 2
REACH = 2.0  # half range of a delta between two values in [-1, 1]
_HZ = 20.0  # nobody tells: any rate serves, as long as both sides take the same


class ChannelCodec(ChannelInput):
    """A tokenizer for chunks [B, T, D] of channels that nobody described.

    state: how the first frame is coded; None: channels in [-1, 1] evenly, for any D. fitted: the tokenizer has a prior
    and books of these channels' own (`xtok.pretrain.channels`), and serves the one D they were fitted on.

    Raises:
        ValueError: a tokenizer of a layout without joints, or a state code of other codes than the tokenizer's.
    """

    def __init__(self, tokenizer: Tokenizer, state: StateCode | None = None, fitted: bool = False) -> None:
        if "joint" not in tokenizer.layout.slices:
            raise ValueError(
                f"channels without a meaning are coded as joints; this tokenizer has layout {tokenizer.layout.name!r}, "
                "use Tokenizer.from_pretrained('joints')"
            )
        if state is not None and (state.levels, state.codebook_size) != (tokenizer.levels, tokenizer.codebook_size):
            raise ValueError(
                f"the state code has {state.levels} levels of {state.codebook_size} codes, "
                f"the tokenizer {tokenizer.levels} of {tokenizer.codebook_size}"
            )
        if fitted and (state is None or CHANNELS not in tokenizer.known_by):
            raise ValueError(f"a fitted channel codec has a state code, and a robot {CHANNELS!r} in its tokenizer")
        if state is not None and len(state.mean_D) > CHANNELS_MAX:
            raise ValueError(f"the state code has {len(state.mean_D)} channels; {CHANNELS_MAX} at most")
        if fitted and state is not None and len(state.mean_D) != tokenizer.statistics[CHANNELS].mask_D.sum():
            raise ValueError(f"the state code has {len(state.mean_D)} channels, the tokenizer was fitted on others")
        self.state, self.fitted = state, fitted
        self.tokenizer = tokenizer if fitted else tokenizer.with_ranges(ranges(tokenizer.layout))

    @property
    def levels(self) -> int:
        return self.tokenizer.levels

    @property
    def codebook_size(self) -> int:
        """V; ids are 0 .. V - 1 at every level."""
        return self.tokenizer.codebook_size

    @property
    def channels(self) -> int | None:
        """The D it was fitted on; None: any up to 26."""
        return None if self.state is None else len(self.state.mean_D)

    @property
    def horizon_max(self) -> int:
        """The longest chunk: 64 frames, or the longest that it was fitted on."""
        return self.tokenizer.statistics[CHANNELS].horizon_max

    def slots(self, horizon: int) -> int:
        """M + 1: the first frame's slot, and one for every four frames (two at least)."""
        return 1 + slots(max(horizon, HORIZON_MIN))

    # -- codes ----------------------------------------------------------------------------------------------------

    @exact
    def encode(self, actions_BTD: Float[np.ndarray, "B T D"]) -> Int[np.ndarray, "B M+1 Q"]:
        """Codes of chunks (arrays, tensors or lists of any real dtype); T under 8 is continued by its last frame.

        Values a little outside [-1, 1] are coded as they are. Those outside the range that the codes were made for
        decode with a large error: a few are told by a SaturationWarning, many are an error. Never clipped.

        Raises:
            ValueError: another shape or dtype, D above 26 or another than fitted, T above `horizon_max`, NaN or inf, or
                values that are not normalised.
        """
        actions_BTD = self.checked(actions_BTD, 3)
        B, T, D = actions_BTD.shape
        self._check_horizon(T)
        if B == 0:
            raise ValueError("there are no chunks in the batch; expected one or more")
        state = self._state(D)
        first_BQ = state.encode(actions_BTD[:, 0])
        chunks = batch_of(
            self.tokenizer.layout, pad_last_frame(actions_BTD, max(T, HORIZON_MIN)), state.decode(first_BQ)
        )
        grid = self.tokenizer.encode(chunks).grid_BMQ
        assert grid is not None
        return np.concatenate([first_BQ[:, None], grid.cpu().numpy()], axis=1)

    @exact
    def decode(
        self,
        sequences: Sequence[Sequence[int]] | Sequence[np.ndarray] | Int[np.ndarray, "B L"],
        horizon: int,
        channels: int,
        levels: int | None = None,
        on_invalid: OnInvalid = "raise",
    ) -> Float[np.ndarray, "B T D"]:
        """Chunks of position-major sequences of (M + 1) Q ids, float32; from the first `levels` levels.

        on_invalid="repair" decodes the whole slots before the first fault, and warns of what it dropped.

        Raises:
            ValueError: sequences that are short, long or hold ids outside [0, V), or a shape as in `encode`.
        """
        horizon, channels = whole_of(horizon, "horizon (T, frames)"), whole_of(channels, "channels (D)")
        self._check_horizon(horizon)
        state = self._state(channels)
        levels = self.levels if levels is None else whole_of(levels, "levels")
        if levels not in range(1, self.levels + 1):
            raise ValueError(f"levels is {levels}; these codes have levels 1 to {self.levels}")
        rows = rows_of(sequences, f"{self.slots(horizon) * self.levels} integers")
        found = check_sequences(rows, self.slots(horizon), self.levels, self.codebook_size, on_invalid)
        codes, present_BM = found.codes_BMQ[..., :levels], found.present_BM[:, 1:]
        first_BD = state.decode(codes[:, 0].numpy())
        out = pad_last_frame(
            first_BD[:, None], horizon
        )  # what a repaired row with no more than its first frame comes to
        moving_B = present_BM.any(dim=1)
        if moving_B.any():
            grid, present_BM = codes[moving_B, 1:], present_BM[moving_B]
            tokens = tuple(grid[b][present_BM[b]].flatten().numpy() for b in range(len(grid)))
            context = _context(self.tokenizer.layout, first_BD[moving_B.numpy()], max(horizon, HORIZON_MIN))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # what was dropped has been said
                actions = self.tokenizer.decode(Codes(tokens, self.codebook_size, grid), context, None, on_invalid)
            assert actions.absolute_BTD is not None
            out[moving_B.numpy()] = actions.absolute_BTD[:, :horizon, self._place(channels)].cpu().numpy()
        return out.astype(np.float32)

    def _beyond(self, flat_ND: Float[np.ndarray, "N D"]) -> tuple[Bool[np.ndarray, "N D"], str]:
        if self.state is None:
            return np.abs(flat_ND) > PLAIN, f"[-{PLAIN:g}, {PLAIN:g}]"
        along_ND = (flat_ND - self.state.mean_D) @ self.state.axis_DD
        outside_ND = (along_ND < self.state.curve_DK[:, 0]) | (along_ND > self.state.curve_DK[:, -1])
        return outside_ND, "the range that this codec was fitted on"

    def _state(self, channels: int) -> StateCode:
        self._check_channels(channels)
        return self.state or StateCode.plain(channels, self.levels, self.codebook_size)

    def _place(self, channels: int) -> slice:
        start = self.tokenizer.layout.slices["joint"].start
        return slice(start, start + channels)

    # -- from and to disk -----------------------------------------------------------------------------------------

    def save(self, folder: str | Path) -> None:
        """The tokenizer's files and channels.json, which says what is to be done with them."""
        folder = Path(folder)
        self.tokenizer.save_pretrained(folder)
        content = {
            "format": FORMAT,
            "tokenizer": self.tokenizer.digest,
            "fitted": self.fitted,
            "state": None if self.state is None else self.state.to_dict(),
        }
        atomic_write(folder / CONFIG, json.dumps(content, indent=1) + "\n")

    @classmethod
    def load(cls, path_or_id: str | Path | None = None) -> ChannelCodec:
        """A folder or hub id written by `save`; a tokenizer of layout joints; or the shipped weights.

        Raises:
            FileNotFoundError: no such folder. ValueError: a damaged or altered one.
        """
        folder = storage.resolve("joints" if path_or_id is None else path_or_id, extra=[CONFIG])
        path = folder / CONFIG
        if path.is_file() and not (folder / storage.CONFIG).is_file():
            raise ValueError(
                f"{folder} holds motion words, which xtok.adapters.huggingface.ActionProcessor opens; codes of one "
                "length, which this takes, come of ActionProcessor.fit(..., form='codes')"
            )
        tokenizer = Tokenizer.from_pretrained(folder)
        if not path.is_file():
            return cls(tokenizer)
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path} is not JSON ({error}); fetch it again") from error
        if not isinstance(content, dict) or content.keys() != {"format", "tokenizer", "fitted", "state"}:
            raise ValueError(f"{path} is not the configuration of a channel codec")
        if content["format"] != FORMAT:
            raise ValueError(
                f"{path} has format {content['format']}, this xtok reads {FORMAT}: fit it again, or update xtok"
            )
        if content["tokenizer"] != tokenizer.digest:
            raise ValueError(f"{path} belongs to tokenizer {content['tokenizer']}, {folder} holds {tokenizer.digest}")
        try:
            state = None if content["state"] is None else StateCode.from_dict(content["state"])
            return cls(tokenizer, state, content["fitted"] is True)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path} is damaged ({error}); fetch it again") from error


def ranges(layout: Layout, channels: int = CHANNELS_MAX) -> Statistics:
    """Statistics of the first channels."""
    mask_D = np.zeros(layout.width, dtype=bool)
    start = layout.slices["joint"].start
    mask_D[start : start + channels] = True
    reach_D = np.where(mask_D, REACH, 1.0)
    return Statistics(layout.name, layout.digest, CHANNELS, _HZ, HORIZON_MAX, 1, mask_D, -reach_D, reach_D)


def batch_of(layout: Layout, actions_BTD: np.ndarray, anchor_BD: np.ndarray) -> ChunkBatch:
    """Channels as the first joints of a robot, relative to their decoded first frame."""
    B, T, D = actions_BTD.shape
    context = _context(layout, anchor_BD, T)
    start = layout.slices["joint"].start
    target = torch.zeros(B, T, layout.width, dtype=torch.float64)
    target[..., start : start + D] = torch.from_numpy(actions_BTD)
    return ChunkBatch(target, context)


def _context(layout: Layout, anchor_BD: np.ndarray, horizon: int) -> Context:
    B, D = anchor_BD.shape
    start = layout.slices["joint"].start
    anchor, mask = torch.zeros(B, layout.width, dtype=torch.float64), torch.zeros(B, layout.width, dtype=torch.bool)
    anchor[:, start : start + D] = torch.from_numpy(anchor_BD)
    mask[:, start : start + D] = True
    return Context(layout, anchor, mask, torch.full((B,), _HZ, dtype=torch.float32), (CHANNELS,) * B, horizon)
