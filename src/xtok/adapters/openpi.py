"""openpi's tokenizer contract: name the class as `Pi0FASTConfig.fast_model_tokenizer`. Nothing of openpi is imported.

# L = max_len tokens, H frames, D channels

    Pi0FASTConfig(action_dim=7, action_horizon=16, max_token_len=250, fast_model_tokenizer=CodesTokenizer,
                  fast_model_tokenizer_kwargs={"text_model": "paligemma_tokenizer.model", "codec": "my-codec"})

openpi's own class writes FAST's ids over the last text ids. Ours come after the text vocabulary, so the model's
embedding needs `vocabulary.end` rows (257,152 + 8,192 for PaliGemma): enlarge it before training.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from jaxtyping import Bool, Float, Int

from xtok.actions.entrance import array_of, integers_of, whole_of
from xtok.codec.channels import ChannelCodec
from xtok.codec.tokens.channel_ids import AnyChannels, chunk_to_ids, ids_to_chunk, vocabulary_of
from xtok.codec.words.channels import WordChannels, open_channels

STATE_BINS = 256


class TextTokenizer(Protocol):
    """What is used of a `sentencepiece.SentencePieceProcessor`."""

    def encode(self, text: str, *, add_bos: bool = False, add_eos: bool = False) -> list[int]: ...

    @property
    def vocab_size(self) -> int | Callable[[], int]: ...


class CodesTokenizer:
    """`tokenize` a prompt, a state and maybe actions; `extract_actions` from what the model wrote.

    text_model: PaliGemma's sentencepiece file, or an object with its `encode` and `vocab_size`. codec: a
    `ChannelCodec`, or `WordChannels` (motion words: fewer tokens, of free length), or a folder or hub id of one; None:
    the shipped weights, unfitted.
    """

    def __init__(
        self,
        max_len: int = 256,
        *,
        text_model: TextTokenizer | str | Path,
        codec: AnyChannels | str | Path | None = None,
    ) -> None:
        self._text: Any = _sentencepiece(text_model) if isinstance(text_model, (str, Path)) else text_model
        self._max_len = whole_of(max_len, "max_len", 1)
        self.codec = codec if isinstance(codec, ChannelCodec | WordChannels) else open_channels(codec)
        size = self._text.vocab_size
        self.vocabulary = vocabulary_of(self.codec, int(size() if callable(size) else size))

    def tokenize(
        self, prompt: str, state: Float[np.ndarray, " S"], actions: Float[np.ndarray, "H D"] | None
    ) -> tuple[Int[np.ndarray, " L"], Bool[np.ndarray, " L"], Int[np.ndarray, " L"], Bool[np.ndarray, " L"]]:
        """tokens, token_mask, ar_mask (0: sees the whole prefix, 1: causal), loss_mask; padded to max_len.

        Raises:
            ValueError: more tokens than max_len (openpi cuts them off, and with them the end of the motion), a state or
                actions that are no finite numbers, or a text tokenizer whose ids reach into those of the codes.
        """
        state = array_of(state, "state", "[S] in [-1, 1]", 1)
        if not np.isfinite(state).all():
            raise ValueError(f"state has {state[~np.isfinite(state)][0]} in it; expected finite numbers in [-1, 1]")
        bins = np.digitize(state, bins=np.linspace(-1, 1, STATE_BINS + 1)[:-1]) - 1
        text = prompt.lower().strip().replace("_", " ")
        prefix = self._text.encode(f"Task: {text}, State: {' '.join(map(str, bins))};\n", add_bos=True)
        postfix: list[int] = []
        if actions is not None:
            chunk = array_of(actions, "actions", "[H, D] in [-1, 1]", 2)
            codes = chunk_to_ids(self.codec, self.vocabulary, chunk[None])[0]
            before, after_codes = self._text.encode("Action: "), self._text.encode("|", add_eos=True)
            self.vocabulary.check_text([*prefix, *before, *after_codes])
            postfix = [*before, *codes, *after_codes]
        length, missing = len(prefix) + len(postfix), self._max_len - len(prefix) - len(postfix)
        if missing < 0:
            raise ValueError(
                f"prompt and codes have {length} tokens, max_len is {self._max_len}; raise max_token_len, or shorten "
                "the prompt or the chunk"
            )
        tokens = np.array([*prefix, *postfix, *[0] * missing], dtype=np.int64)
        known = np.arange(self._max_len) < length
        after = np.arange(self._max_len) >= len(prefix)
        return tokens, known, (known & after).astype(np.int64), known & after

    def extract_actions(
        self, tokens: Int[np.ndarray, " L"], action_horizon: int, action_dim: int
    ) -> Float[np.ndarray, "H D"]:
        """Actions of a generation.

        Raises:
            ValueError: no codes, or codes that cannot be (openpi returns zeros: #299, #782, #833).
        """
        ids = integers_of(tokens, "tokens", "[L]").flatten().tolist()
        return ids_to_chunk(self.codec, self.vocabulary, [ids], action_horizon, action_dim)[0]


def _sentencepiece(path: str | Path) -> Any:
    try:
        import sentencepiece
    except ImportError as error:
        raise ImportError("a text_model file needs sentencepiece, which openpi brings") from error
    return sentencepiece.SentencePieceProcessor(model_file=str(path))
