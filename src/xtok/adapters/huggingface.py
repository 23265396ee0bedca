"""FAST's call contract on our codes: `proc(actions) -> list[list[int]]`, `proc.decode(tokens, ...) -> [B, T, D]`.

# B chunks, T frames, D channels (26 at most), L tokens of a chunk

    from xtok.adapters.huggingface import ActionProcessor

    proc = ActionProcessor.from_pretrained()            # or .fit(chunks), a robot's own; form="words": words
    tokens = proc(actions)                              # [T, D] or [B, T, D] in [-1, 1]
    again = proc.decode(tokens, time_horizon=T, action_dim=D)

Importing this file registers the class with `AutoProcessor`. Two forms: motion words, whose length follows from how
much moves, as FAST's does, and codes, of one length for all chunks of one T, L = 4 (1 + max(2, ceil(T / 4))). What
differs from FAST, on purpose: a sequence that cannot be raises instead of decoding to zeros; values outside [-1, 1] are
coded as they are, not clipped, with a warning or an error where they are too far out to be coded well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

try:
    from transformers import AutoProcessor, PretrainedConfig, ProcessorMixin
except ImportError as error:
    raise ImportError("ActionProcessor needs transformers: pip install 'xtok[hf]'") from error

from xtok.actions.entrance import array_of, whole_of
from xtok.codec import storage
from xtok.codec.channel_input import CHANNELS_MAX
from xtok.codec.channels import CONFIG, ChannelCodec
from xtok.codec.sequence import OnInvalid
from xtok.codec.words.channels import WordChannels, open_channels

LAYOUT = "generic"
Form = Literal["words", "codes"]
_FILES = [storage.WEIGHTS, storage.CONFIG, CONFIG, "processor_config.json"]
_HUB = ("cache_dir", "force_download", "local_files_only", "token", "revision")


class ActionProcessorConfig(PretrainedConfig):
    """What `AutoProcessor` knows the class by; it configures nothing."""

    model_type = "xtok_actions"


class ActionProcessor(ProcessorMixin):
    """`WordChannels` or a `ChannelCodec` behind FAST's contract. ids are 0 .. vocab_size - 1; `codec` sets prices:
    `ActionProcessor(proc.codec.with_tokens(8, chunks))`.

    A `ChannelCodec` has the same ids at every level, position-major; for a language model with a word of its own for
    every level, see `xtok.adapters.vocabulary.CodeVocabulary`.

    layout: "generic", D channels of unknown meaning. Poses and joints with a meaning have `xtok.Tokenizer`.

    Raises:
        ValueError: another layout.
    """

    attributes: list[str] = []  # noqa: RUF012 - the contract's own form

    def __init__(self, codec: WordChannels | ChannelCodec | None = None, layout: str = LAYOUT) -> None:
        if layout != LAYOUT:
            raise ValueError(
                f"layout is {layout!r}; expected {LAYOUT!r}: this contract passes channels without a meaning. "
                f"xtok.Tokenizer.from_pretrained({layout!r}) codes those that have one"
            )
        super().__init__()
        self.codec: WordChannels | ChannelCodec = ChannelCodec.load() if codec is None else codec
        self.layout = layout
        self._called: tuple[int, int] | None = None

    @property
    def form(self) -> Form:
        """ "words", of free length, or "codes", of one length for all chunks of one T."""
        return "words" if isinstance(self.codec, WordChannels) else "codes"

    @property
    def vocab_size(self) -> int:
        return self.codec.vocab_size if isinstance(self.codec, WordChannels) else self.codec.codebook_size

    @property
    def time_horizon(self) -> int | None:
        """T of the last call, as FAST keeps it."""
        return None if self._called is None else self._called[0]

    @property
    def action_dim(self) -> int | None:
        """The D it was fitted on, or of the last call."""
        return self.codec.channels or (None if self._called is None else self._called[1])

    def tokens_per_chunk(self, time_horizon: int) -> int:
        """L: 4 for the first frame and 4 for every four frames, of which there are two at least (T 1 to 8: 12). Motion
        words have it in their fixed form alone, `codec.with_fixed`.

        Raises:
            ValueError: T under 1, above `codec.horizon_max`, or no whole number; or words of free length.
        """
        horizon = whole_of(time_horizon, "time_horizon", 1, self.codec.horizon_max)
        if not isinstance(self.codec, WordChannels):
            return self.codec.slots(horizon) * self.codec.levels
        length = self.codec.fixed_length(horizon)
        if length is None:
            raise ValueError(
                "motion words have as many tokens as a chunk needs; ActionProcessor(proc.codec.with_fixed(6)) gives "
                "all chunks of one T as many"
            )
        return length

    def __call__(self, action_chunk: Any, **unknown: Any) -> list[list[int]]:
        """Tokens of [T, D] or [B, T, D] in about [-1, 1]; one list of ints a chunk.

        action_chunk: a tensor, an array or lists, of any real dtype. `codec.outside(...)` tells what is out of range.

        Raises:
            ValueError: another shape or no numbers, T above 64 (or the longest fitted), D above 26 (or another than
                fitted), NaN, or values that are not normalised (see `encode` of the codec).
        """
        if unknown:
            raise TypeError(f"ActionProcessor takes actions alone, not {sorted(unknown)}")
        actions = array_of(action_chunk, "actions", "[T, D] or [B, T, D] in [-1, 1]")
        rows = self.codec.encode(actions[None] if actions.ndim == 2 else actions)
        self._called = actions.shape[-2], actions.shape[-1]
        return [row.ravel().tolist() for row in rows]

    def decode(
        self,
        tokens: Sequence[Sequence[int]],
        *,
        time_horizon: int | None = None,
        action_dim: int | None = None,
        levels: int | None = None,
        on_invalid: OnInvalid = "raise",
    ) -> Float[np.ndarray, "B T D"]:
        """Actions, float32; those of the last call's T and D where they are not given.

        levels: of codes, the first ones alone.

        Raises:
            ValueError: sequences that are cut short, too long or hold unknown ids (unless on_invalid="repair"), or a T
                or D that nobody has told, or that is no whole number in range; levels of motion words.
        """
        horizon = self.time_horizon if time_horizon is None else time_horizon
        channels = self.action_dim if action_dim is None else action_dim
        if horizon is None or channels is None:
            raise ValueError("decode needs time_horizon=T and action_dim=D: tokens alone do not tell them")
        horizon = whole_of(horizon, "time_horizon", 1, self.codec.horizon_max)
        channels = whole_of(channels, "action_dim", 1, CHANNELS_MAX)
        if not isinstance(self.codec, WordChannels):
            return self.codec.decode(tokens, horizon, channels, levels, on_invalid)
        if levels is not None:
            raise ValueError(f"levels is {levels!r}, but motion words have none; code coarser by codec.with_rate")
        return self.codec.decode(tokens, horizon, channels, on_invalid)

    @classmethod
    def fit(
        cls,
        action_data: Sequence[Float[np.ndarray, "T D"]] | Float[np.ndarray, "B T D"],
        *,
        time_horizon: int | None = None,
        action_dim: int | None = None,
        form: Form = "codes",
        **options: Any,
    ) -> ActionProcessor:
        """Measure how these channels move and place books of their own; under a minute.

        action_data: chunks, best of the length that you use, or whole episodes in [-1, 1]. form: "codes", of one length
        and for all hosts, or "words", as many as a chunk needs. options: of `xtok.pretrain.channels.fit_channels`, or
        of `xtok.pretrain.word_channels.fit_word_channels`.

        Raises:
            ValueError: as these, another form, or data of another T or D than said.
        """
        from xtok.pretrain.channels import fit_channels
        from xtok.pretrain.word_channels import fit_word_channels

        if form not in ("words", "codes"):
            raise ValueError(f"form is {form!r}; expected 'words' or 'codes'")
        if isinstance(action_data, (str, bytes, Mapping)) or not hasattr(action_data, "__iter__"):
            raise ValueError(f"action_data is a {type(action_data).__name__}; expected chunks or episodes [N, D]")
        sequences = [array_of(each, f"sequence {i}", "[N, D] in [-1, 1]") for i, each in enumerate(action_data)]
        for name, axis, said in (("time_horizon", 0, time_horizon), ("action_dim", 1, action_dim)):
            said = None if said is None else whole_of(said, name, 1)
            if said is not None and any(s.ndim != 2 or s.shape[axis] != said for s in sequences):
                raise ValueError(f"{name} is {said}, the data have shapes {sorted({s.shape for s in sequences})[:3]}")
        if form == "words":
            return cls(fit_word_channels(sequences, **options))
        return cls(fit_channels(ChannelCodec.load().tokenizer, sequences, **options))

    # -- from and to disk -----------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """What processor_config.json says; the codec's own files hold the rest."""
        return {
            "processor_class": type(self).__name__,
            "layout": self.layout,
            "vocab_size": self.vocab_size,
            "action_dim": self.codec.channels,
            **(
                {"form": "words", "tokenizer_digest": self.codec.digest}
                if isinstance(self.codec, WordChannels)
                else {"levels": self.codec.levels, "tokenizer_digest": self.codec.tokenizer.digest}
            ),
        }

    def save_pretrained(self, save_directory: str | Path, push_to_hub: bool = False, **kwargs: Any) -> list[str]:
        """Write the codec and processor_config.json; with push_to_hub, upload them to `repo_id`."""
        self.codec.save(save_directory)
        written: list[str] = super().save_pretrained(str(save_directory), **({} if push_to_hub else kwargs))
        if push_to_hub:  # transformers' own way would take the codec's files for old ones and leave them out
            self.push_to_hub(kwargs.pop("repo_id", Path(save_directory).name), **kwargs)
        return written

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls, pretrained_model_name_or_path: str | Path | None = None, **kwargs: Any
    ) -> ActionProcessor:
        """A folder or hub id written by `save_pretrained` or `push_to_hub`; nothing: the shipped weights, unfitted.

        Raises:
            FileNotFoundError: no such folder, or the hub did not give one. ValueError: damaged or altered files.
        """
        path = pretrained_model_name_or_path
        hub = {name: kwargs[name] for name in _HUB if kwargs.get(name) is not None}
        if path is not None and not Path(path).is_dir() and hub:
            from huggingface_hub import snapshot_download

            try:
                path = snapshot_download(str(path), allow_patterns=_FILES, **hub)
            except Exception as error:  # the hub's errors have no common base
                raise FileNotFoundError(f"no folder {path} here, and the hub did not give one: {error}") from error
        return cls(open_channels(path))


AutoProcessor.register(ActionProcessorConfig, ActionProcessor, exist_ok=True)
