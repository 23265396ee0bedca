"""The parquet file of codes that `xtok encode` writes and `xtok decode` reads: one row a chunk, all else in the header.

The header holds the tokenizer's hash and the robots' statistics, so that a file cannot be decoded with the wrong ones.
Codes are slots of levels, or motion words: then rows differ in length, and the header holds their grammar.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from xtok.actions.statistics import StatisticsJson
    from xtok.actions.types import Codes
    from xtok.cli.encode_parts import CodeRow
    from xtok.codec.gaussian.robot_statistics import RobotStatisticsJson
    from xtok.codec.words.grammar import Grammar

HEADER_KEY = b"xtok.codes"
FORMAT, WORDS_FORMAT = 2, 3  # 2 has robots as they were measured; format 1 had ranges alone; 3: motion words
FORMATS = (1, FORMAT, WORDS_FORMAT)


def pyarrow_parquet() -> Any:
    """pyarrow.parquet, or an error that names the extra."""
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError("parquet files need pyarrow: pip install 'xtok[data]'") from error
    return pyarrow.parquet


@dataclass(frozen=True)
class Header:
    """What all rows of a code file have in common.

    tokenizer: sixteen hex digits over the tokenizer's weights and settings. statistics: robot -> what the tokenizer was
    told of it, RobotStatistics.to_dict(), or the ranges of one that it knows by itself, Statistics.to_dict().
    levels: of a slot; 0 of motion words. grammar: of motion words; with one the format is WORDS_FORMAT, without one
    files are as older versions wrote and read them. left_out: episodes that could not be read (--skip-bad): data set,
    number, place in the set, and why. joint_units: of robots whose joints are in another unit than the layout's rad.

    Raises:
        ValueError: a grammar whose ids are not those of the vocabulary, levels beside it, or a horizon without chunks.
    """

    tokenizer: str
    layout: str
    layout_digest: str
    vocab_size: int
    levels: int
    horizon: int
    stride: int
    split: str
    dataset: str
    statistics: dict[str, StatisticsJson | RobotStatisticsJson]
    format: int = FORMAT
    left_out: tuple[Mapping[str, object], ...] = ()
    joint_units: dict[str, str] = field(default_factory=dict)
    grammar: Grammar | None = None

    def __post_init__(self) -> None:
        if self.grammar is None:
            return
        from xtok.actions.types import HORIZON_MAX, HORIZON_MIN

        object.__setattr__(self, "format", WORDS_FORMAT)
        if (self.vocab_size, self.levels) != (self.grammar.total, 0):
            raise ValueError(
                f"a header says {self.vocab_size} ids in {self.levels} levels; its grammar has {self.grammar.total} "
                "ids, and motion words have no levels (0)"
            )
        if not HORIZON_MIN <= self.horizon <= HORIZON_MAX:
            raise ValueError(f"a header says {self.horizon} frames; expected {HORIZON_MIN} to {HORIZON_MAX}")

    def to_json(self) -> str:
        fields = asdict(self)
        if self.grammar is None:
            del fields["grammar"]
        if not self.left_out:
            del fields["left_out"]
        if not self.joint_units:
            del fields["joint_units"]  # as older versions read it
        return json.dumps(fields, sort_keys=True)

    def to_metadata(self) -> dict[bytes, bytes]:
        return {HEADER_KEY: self.to_json().encode()}

    @classmethod
    def of(cls, file: pq.ParquetFile, path: Path) -> Header:
        """The header of an open file.

        Raises:
            ValueError: if `xtok encode` did not write it, or a newer xtok did.
        """
        metadata = file.schema_arrow.metadata or {}
        if HEADER_KEY not in metadata:
            raise ValueError(f"{path} was not written by `xtok encode`: its header names no tokenizer")
        fields = json.loads(metadata[HEADER_KEY])
        if fields["format"] not in FORMATS:
            raise ValueError(f"{path} has code-file format {fields['format']}, this xtok reads {FORMATS}: update xtok")
        fields["left_out"] = tuple(fields.get("left_out", ()))
        try:
            fields["grammar"] = _grammar_of(fields["format"], fields.get("grammar"))
            return cls(**fields)
        except (TypeError, KeyError, ValueError) as error:
            raise ValueError(f"{path} has a damaged header ({error}); write it anew with `xtok encode`") from error


def _grammar_of(version: int, fields: Mapping[str, Any] | None) -> Grammar | None:
    """Inverse of `asdict`; None for slots of levels."""
    if (version == WORDS_FORMAT) != (fields is not None):
        raise ValueError(f"format {version} {'without' if fields is None else 'with'} a grammar of motion words")
    if fields is None:
        return None
    from xtok.codec.words.grammar import Grammar

    books = (((length, level), size) for (length, level), size in fields["residuals"])
    return Grammar(fields["words"], tuple(books))


def schema(header: Header) -> pa.Schema:
    """Columns of a code file.

    codes: of slots position-major, all levels of slot i before slot i + 1; of motion words as the grammar has them, as
    many as a chunk needs. anchor: layout units.
    """
    import pyarrow as pa

    code = pa.int16() if header.vocab_size <= 2**15 else pa.int32()
    return pa.schema(
        [
            ("dataset", pa.string()),
            ("episode_index", pa.int64()),
            ("frame_start", pa.int64()),
            ("horizon", pa.int32()),
            ("embodiment", pa.string()),
            ("control_hz", pa.float32()),
            ("codes", pa.list_(code)),
            ("anchor", pa.list_(pa.float32())),
            ("mask", pa.list_(pa.bool_())),
        ],
        metadata=header.to_metadata(),
    )


def open_parquet(path: Path) -> pq.ParquetFile:
    """An open parquet file.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it is cut short or no parquet at all.
    """
    parquet = pyarrow_parquet()
    import pyarrow as pa

    if not path.exists():
        raise FileNotFoundError(f"no such file: {path}")
    try:
        return parquet.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path} is not a whole parquet file ({error}); write it anew with `xtok encode`") from error


# -- rows -----------------------------------------------------------------------------------------------------------


def table_of(rows: Sequence[CodeRow], header: Header, first_row: int = 0) -> pa.Table:
    """Rows as a table of a code file. first_row: the number that the first one has in its file.

    Raises:
        ValueError: motion words that do not parse; the row is named by its number.
    """
    import pyarrow as pa

    check_codes([row["codes"] for row in rows], header, first_row)
    return pa.Table.from_pylist(rows, schema=schema(header))


def codes_of(batch: pa.RecordBatch, header: Header, first_row: int = 0, check: bool = True) -> Codes:
    """The codes of some rows of a code file. check: False for a decoder that repairs what does not parse.

    Raises:
        ValueError: a row without codes, or motion words that do not parse; the row is named by its number in the file.
    """
    import numpy as np

    from xtok.actions.types import Codes

    found = []
    for row, codes in enumerate(batch.column("codes").to_pylist(), first_row):
        if codes is None or None in codes:
            raise ValueError(f"row {row} has {'no codes' if codes is None else 'a code that is missing'}")
        found.append(np.asarray(codes, dtype=np.int64))
    if check:
        check_codes(found, header, first_row)
    return Codes(tuple(found), header.vocab_size)


def check_codes(sequences: Sequence[np.ndarray], header: Header, first_row: int = 0) -> None:
    """Look whether motion words are whole chunks of the header's horizon. Slots of levels are the tokenizer's matter.

    Raises:
        ValueError: a sequence that does not parse; it is named by its number, counted from first_row.
    """
    grammar = header.grammar
    if grammar is None:
        return
    from xtok.codec.words.sequences import Sequences

    try:
        Sequences.of_ids(grammar, sequences, header.horizon)  # all at once
    except ValueError:
        for row, codes in enumerate(sequences, first_row):
            try:
                grammar.parse(list(codes), header.horizon)
            except ValueError as error:
                raise ValueError(f"row {row} is no chunk of {header.horizon} frames: {error}") from error
        raise
