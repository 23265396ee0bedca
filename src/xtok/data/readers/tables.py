"""Arrow tables read with errors that name the file, the episode, the column and the row.

# N rows of an episode, W columns of one feature
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xtok.data.features import Feature
from xtok.data.hub import fetch_missing

try:
    import pyarrow
    import pyarrow.compute
    import pyarrow.parquet
except ImportError as error:
    raise ImportError("reading data sets needs pyarrow: pip install 'xtok[data]'") from error


ROWS_MAX = 100_000_000  # of one file: a robot's life; a few kilobytes can claim many more


def read_parquet(path: Path, columns: Sequence[str] | None = None, optional: Sequence[str] = ()) -> Any:
    """The pyarrow table of one parquet file: all columns, or those asked for and such of `optional` as it has.

    Raises:
        ValueError: the file is missing, truncated or no parquet, or lacks a column.
    """
    fetch_missing(path)
    if not path.is_file():
        raise ValueError(f"missing file {path}; download the data set again, or drop the episodes that need it")
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            if file.metadata.num_rows > ROWS_MAX:
                raise ValueError(f"{path} has {file.metadata.num_rows:,} rows; expected a table of robot data")
            if columns is not None and (absent := [name for name in columns if name not in file.schema_arrow.names]):
                raise ValueError(f"{path} has no column {absent}; it has {file.schema_arrow.names}")
            here = [name for name in optional if name in file.schema_arrow.names]
            return file.read(columns=None if columns is None else list(dict.fromkeys([*columns, *here])))
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(
            f"cannot read {path}: {error}; it looks truncated or is no parquet, download it again"
        ) from error


def column_array(table: Any, column: str, width: int, where: str, names: Sequence[str] | None = None) -> np.ndarray:
    """A numeric column as float64 [N, W]. `where` and the channel `names` are for the message.

    Raises:
        ValueError: rows of another width than promised, or a value that is not finite.
    """
    values = table[column].combine_chunks()
    values = values.storage if isinstance(values, pyarrow.ExtensionArray) else values  # tensors
    if _is_list(values.type):
        widths = pyarrow.compute.list_value_length(values).to_numpy(zero_copy_only=False)
        if (wrong := np.flatnonzero(widths != width)).size:  # a null row has width nan, which differs as well
            row = int(wrong[0])
            found = "no values" if np.isnan(widths[row]) else f"{widths[row]:.0f} values"
            raise ValueError(f"{where}, column {column!r}, row {row} has {found}; expected {width}")
        values = values.flatten()
        if (
            _is_list(values.type)
            and (pyarrow.compute.list_value_length(values).to_numpy(zero_copy_only=False) == 1).all()
        ):
            values = values.flatten()  # each number in a list of its own
    elif width != 1:
        raise ValueError(f"{where}, column {column!r} holds one value a row; the set promises {width}")
    if not (pyarrow.types.is_primitive(values.type) or pyarrow.types.is_decimal(values.type)):
        raise ValueError(f"{where}, column {column!r} holds {values.type}; expected numbers, {width} a row")
    try:
        array_NW = values.to_numpy(zero_copy_only=False).astype(np.float64).reshape(-1, width)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}, column {column!r} holds {values.type}, not numbers: {error}") from error
    if not np.isfinite(array_NW).all():
        row, channel = np.argwhere(~np.isfinite(array_NW))[0]
        label = f"{column}[{channel}]" + (f" ({names[channel]})" if names else "")
        raise ValueError(f"{where}, column {label}, row {row} is {array_NW[row, channel]}; repair or drop that episode")
    return array_NW


def loose_column(table: Any, column: str) -> np.ndarray:
    """A column of single values as float64 [N], null and what is no number as NaN: who asks decides what that means."""
    values = table[column].combine_chunks()
    if _is_list(values.type):  # one value a row in a list of its own, as some write scalars
        widths = pyarrow.compute.list_value_length(values).to_numpy(zero_copy_only=False)
        if (widths != 1).any():
            return np.full(len(table), np.nan)
        values = values.flatten()
    try:
        return pyarrow.compute.cast(values, pyarrow.float64(), safe=False).to_numpy(zero_copy_only=False)
    except pyarrow.ArrowException:
        return np.full(len(table), np.nan)


def feature_arrays(
    table: Any, features: Mapping[str, Feature], wanted: Sequence[str], where: str
) -> dict[str, np.ndarray]:
    """The `wanted` features of one episode's rows: feature -> float64 [N, W]. Errors as in `column_array`."""
    return {key: column_array(table, key, features[key].width, where, features[key].names) for key in wanted}


def _is_list(kind: Any) -> bool:
    return pyarrow.types.is_list(kind) or pyarrow.types.is_fixed_size_list(kind) or pyarrow.types.is_large_list(kind)
