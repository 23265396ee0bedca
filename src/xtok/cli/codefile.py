"""The parquet file of codes that `xtok encode` writes and `xtok decode` reads: one row a chunk, all else in the header.

The header holds the tokenizer's hash and the robots' statistics, so that a file cannot be decoded with the wrong ones.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from xtok.actions.statistics import StatisticsJson
    from xtok.codec.gaussian.robot_statistics import RobotStatisticsJson

HEADER_KEY = b"xtok.codes"
FORMAT, FORMATS = 2, (1, 2)  # 2 has robots as they were measured; format 1 had ranges alone


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
    left_out: episodes that could not be read (--skip-bad): data set, number, place in the set, and why.
    joint_units: of robots whose joints are in another unit than the layout's rad.
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

    def to_json(self) -> str:
        fields = asdict(self)
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
        return cls(**fields)


def schema(header: Header) -> pa.Schema:
    """Columns of a code file. codes: position-major, all levels of slot i before slot i + 1; anchor: layout units."""
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
