"""FAST: a cosine transform over time, rounding, and byte pairs. Pertsch et al., arXiv 2501.09747.

The algorithm of the public `physical-intelligence/fast` processor under xtok's normalisation, refitted for each data
set, horizon and scale. Where the public code fails silently, this one counts or says so:
- Coefficients outside the fitted range. There: too small ones are clipped and too large ones vanish, which spoils the
  whole chunk. Here: both saturate at the range's end, and `saturated` counts them. This favours FAST.
- A sequence of the wrong length. There: zeros come back. Here: the row is marked in `Actions.failed_B`.
- Merges. There: text rules of a byte-level GPT-2 tokenizer (letters, digits, spaces) decide which coefficients may
  merge. Here: any neighbours may, which saves FAST 2 to 45 % of its tokens on held-out G1 chunks at equal error.
- Rotations. There: whatever the data hold. Here: rotation vectors or 6D columns (`form`), proper rotations when
  decoded. `xtok.evaluate` fits both and takes the better one (decision 0005).
- Zero. There: the middle of a channel's range. Here: that, or no motion (`form`), by the same choice.
- Channels that never moved on train episodes. There: coded. Here: not, they decode to their value. This favours FAST.

# B chunks, T frames (or as many frequencies), X channels of the form, C valid channels that move
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np

try:
    from scipy.fft import dct, idct
    from tokenizers import Tokenizer, models, trainers
except ImportError as error:
    raise ImportError("FAST needs scipy and tokenizers: pip install 'xtok[fast]'") from error

from xtok.actions.statistics import Statistics
from xtok.actions.types import Actions, ActionTokenizer, ChunkBatch, Codes, Context
from xtok.baselines.common import Form, normalised_chunks, of_moving, place_values, to_actions, valid_values

VOCAB_SIZE = 2048
_SURROGATES = 0xD800  # code points from here on are no characters


@dataclass(frozen=True)
class Cosines:
    """Cosine coefficients of chunks before any scale, worked out once for all scales.

    flat: of each chunk [T * C] float64, all channels of the lowest frequency first. low, high: of all of them.
    """

    horizon: int
    form: Form
    flat: tuple[np.ndarray, ...]

    @property
    def low(self) -> float:
        return min(float(values.min()) for values in self.flat)

    @property
    def high(self) -> float:
        return max(float(values.max()) for values in self.flat)

    def __add__(self, other: Cosines) -> Cosines:
        """Those of both.

        Raises:
            ValueError: another length or form.
        """
        if (self.horizon, self.form) != (other.horizon, other.form):
            raise ValueError(f"cosines of {self.horizon} frames, {self.form}, and {other.horizon}, {other.form}")
        return Cosines(self.horizon, self.form, self.flat + other.flat)

    def some(self, most: int) -> Cosines:
        """At most so many chunks, evenly over all."""
        if len(self.flat) <= most:
            return self
        rows = np.linspace(0, len(self.flat) - 1, most).round().astype(int)
        return Cosines(self.horizon, self.form, tuple(self.flat[row] for row in rows))


def cosines(statistics: Mapping[str, Statistics], chunks: Sequence[ChunkBatch], form: Form) -> Cosines:
    """The orthonormal cosine transform over time of the normalised chunks, channels that move only.

    Raises:
        ValueError: no chunks, several horizons, no anchor, bad values, or statistics that do not fit.
    """
    horizons = {batch.context.horizon for batch in chunks}
    if len(horizons) != 1:
        raise ValueError(f"FAST is fitted to chunks of one horizon, not of {sorted(horizons)}")
    flat = tuple(
        values
        for batch in chunks
        for values in valid_values(
            dct(normalised_chunks(statistics, batch, form), axis=1, norm="ortho"),
            of_moving(statistics, batch.context),
            form,
        )
    )
    return Cosines(horizons.pop(), form, flat)


class FastTokenizer:
    """FAST at one scale. `fit` it before use; then it serves one horizon.

    Args:
        statistics: by embodiment; the normalisation that every tokenizer shares.
        scale: coefficients are multiplied by this and rounded, so an error is at most .5 / scale each.
        vocab_size: symbols and merges together.
        form: of rotations, and what is 0 (`xtok.baselines.common`).

    Attributes:
        vocab_size: once fitted, the tokens that exist: fewer than asked for where the data run out of pairs.
        saturated: coefficients outside the fitted range, over all calls of `encode` so far.
    """

    def __init__(
        self,
        statistics: Mapping[str, Statistics],
        scale: float,
        vocab_size: int = VOCAB_SIZE,
        form: Form = "tangent",
        name: str = "fast",
    ) -> None:
        if not scale > 0:
            raise ValueError(f"scale is {scale}; expected a positive number (FAST's own is 10)")
        if not 1 < vocab_size <= _SURROGATES:
            raise ValueError(f"vocab_size is {vocab_size}; expected 2 to {_SURROGATES} (FAST's own is 1024 or 2048)")
        if form not in get_args(Form):
            raise ValueError(f"form is {form!r}; expected one of {get_args(Form)}")
        self.name = name
        self.statistics = dict(statistics)
        self.scale, self.form = scale, form
        self.vocab_size = self._vocab_limit = vocab_size
        self.saturated = 0
        self._horizon: int | None = None

    def fit(self, chunks: Sequence[ChunkBatch]) -> FastTokenizer:
        """Learn the range of coefficients and the merges from train chunks of one horizon; returns itself.

        Raises:
            ValueError: no chunks, several horizons, bad values, or a scale so fine that the coefficients alone need
                more symbols than the vocabulary has.
        """
        return self.fit_cosines(cosines(self.statistics, chunks, self.form))

    def fit_cosines(self, train: Cosines, reach: float = 0.0) -> FastTokenizer:
        """`fit`, given the coefficients. The alphabet covers those up to `reach` as well, if it keeps half the
        vocabulary for merges: coefficients of another robot than those of `train` then need not saturate.

        Raises:
            ValueError: another form, or a scale that is too fine.
        """
        if train.form != self.form:
            raise ValueError(f"cosines are of {train.form}, this FAST codes {self.form}")
        sequences = [self._rounded(values) for values in train.flat]
        self._low = min(int(sequence.min()) for sequence in sequences)
        self._high = max(int(sequence.max()) for sequence in sequences)
        if self._high - self._low + 1 > self._vocab_limit:
            raise ValueError(
                f"at scale {self.scale:g} coefficients run from {self._low} to {self._high}: "
                f"{self._high - self._low + 1} symbols, but the vocabulary holds {self._vocab_limit}; use a smaller "
                "scale or a larger vocab_size"
            )
        covered = int(np.ceil(reach * self.scale))
        low, high = min(self._low, -covered), max(self._high, covered)
        if high - low + 1 <= self._vocab_limit // 2:
            self._low, self._high = low, high
        symbols = self._high - self._low + 1
        self._bpe = _train_bpe((self._text(sequence) for sequence in sequences), symbols, self._vocab_limit)
        self.vocab_size = self._bpe.get_vocab_size()
        by_id = sorted(self._bpe.get_vocab().items(), key=lambda item: item[1])
        self._pieces = [_ints(piece) + self._low for piece, _ in by_id]
        self._horizon = train.horizon
        return self

    def encode(self, chunks: ChunkBatch) -> Codes:
        """Token sequences of varying length.

        Raises:
            ValueError: not fitted, another horizon than fitted, no anchor, bad values, statistics that do not fit.
        """
        self._check(chunks.context.horizon)
        return self.encode_cosines(cosines(self.statistics, [chunks], self.form))

    def encode_cosines(self, given: Cosines) -> Codes:
        """`encode`, given the coefficients: they are the same at every scale.

        Raises:
            ValueError: not fitted, or another horizon or form than fitted.
        """
        self._check(given.horizon)
        if given.form != self.form:
            raise ValueError(f"cosines are of {given.form}, this FAST codes {self.form}")
        texts = [self._text(self._saturate(self._rounded(values))) for values in given.flat]
        encodings = self._bpe.encode_batch(texts, add_special_tokens=False)
        tokens = tuple(np.array(encoding.ids, dtype=np.int64) for encoding in encodings)
        return Codes(tokens, self.vocab_size)

    def decode(self, codes: Codes, context: Context) -> Actions:
        """Motion. A sequence with an unknown token, or not of T times C coefficients, marks its row as failed.

        Raises:
            ValueError: not fitted, another horizon than fitted, another number of sequences than of chunks.
        """
        self._check(context.horizon)
        moving = of_moving(self.statistics, context)
        coefficients_BTX, failed_B = place_values(self.decode_cosines(codes), moving, self.form)
        values_BTX = idct(coefficients_BTX, axis=1, norm="ortho")
        return to_actions(self.statistics, context, values_BTX, failed_B, self.form)

    def decode_cosines(self, codes: Codes) -> list[np.ndarray | None]:
        """The coefficients that each sequence stands for, however many; None where a token does not exist."""
        found = [self._expand(tokens) for tokens in codes.tokens]
        return [None if rounded is None else rounded / self.scale for rounded in found]

    def rate_points(self) -> list[ActionTokenizer]:
        """Itself: one scale is one rate. `fast_sweep` gives several."""
        return [self]

    def _rounded(self, values: np.ndarray) -> np.ndarray:
        return np.around(values * self.scale).astype(np.int64)

    def _saturate(self, sequence: np.ndarray) -> np.ndarray:
        inside = sequence.clip(self._low, self._high)
        self.saturated += int((inside != sequence).sum())
        return inside

    def _text(self, sequence: np.ndarray) -> str:
        return (sequence - self._low).astype("<u4").tobytes().decode("utf-32-le")

    def _expand(self, tokens: np.ndarray) -> np.ndarray | None:
        """Coefficients of a token sequence, or None where a token does not exist."""
        if len(tokens) == 0 or tokens.min() < 0 or tokens.max() >= len(self._pieces):
            return None
        return np.concatenate([self._pieces[token] for token in tokens])

    def _check(self, horizon: int) -> None:
        if self._horizon is None:
            raise ValueError("this FAST tokenizer has no vocabulary yet; call fit(train_chunks) first")
        if horizon != self._horizon:
            raise ValueError(f"FAST was fitted to chunks of {self._horizon} frames, these have {horizon}; refit it")


def finest_scale(train: Cosines, vocab_size: int = VOCAB_SIZE) -> float:
    """The finest scale at which the coefficients of `train` still fit into the vocabulary, as symbols of their own."""
    return (vocab_size - 2) / max(train.high - train.low, 1e-9)


def fast_sweep(
    statistics: Mapping[str, Statistics],
    chunks: Sequence[ChunkBatch],
    scales: Sequence[float],
    form: Form = "tangent",
) -> list[FastTokenizer]:
    """FAST fitted to the same chunks at each scale: its rate-distortion curve."""
    train = cosines(statistics, chunks, form)
    return [FastTokenizer(statistics, scale, form=form).fit_cosines(train) for scale in scales]


def _train_bpe(texts: Iterable[str], symbols: int, vocab_size: int) -> Tokenizer:
    bpe = Tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        show_progress=False,
        special_tokens=[],
        initial_alphabet=[chr(symbol) for symbol in range(symbols)],
        max_token_length=10_000,
    )
    bpe.train_from_iterator(texts, trainer)
    return bpe


def _ints(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le"), dtype="<u4").astype(np.int64)
