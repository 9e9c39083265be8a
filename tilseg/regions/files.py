"""The regions of a mask as the files of a result, each read back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import csv, parquet

from tilseg.errors import OutputError
from tilseg.regions.names import CSV, PARQUET
from tilseg.regions.region_table import RegionTable
from tilseg.regions.table import write_csv, write_parquet


def write_tables(regions: RegionTable, folder: Path) -> None:
    """Write regions.parquet and regions.csv in `folder`: the same bytes for the same regions.

    Raises OutputError E-OUTPUT-WRITE or E-OUTPUT-READBACK.
    """
    write_parquet(regions, folder / PARQUET)
    _check(regions, folder / PARQUET, _parquet_batches(folder / PARQUET))
    write_csv(regions, folder / CSV)
    if len(regions):
        _check(regions, folder / CSV, _csv_batches(folder / CSV, regions))


def _parquet_batches(path: Path) -> Iterator[pa.RecordBatch]:
    with parquet.ParquetFile(path) as file:
        yield from file.iter_batches()


def _csv_batches(path: Path, regions: RegionTable) -> Iterator[pa.RecordBatch]:
    types = {name: pa.array(values[:0]).type for name, values in regions.columns.items()}
    with csv.open_csv(path, convert_options=csv.ConvertOptions(column_types=types)) as reader:
        yield from reader


def _check(regions: RegionTable, path: Path, batches: Iterator[pa.RecordBatch]) -> None:
    done = 0
    try:
        for batch in batches:
            for name, values in regions.columns.items():
                expected = values[done : done + batch.num_rows]
                if not _same(batch.column(name).to_numpy(zero_copy_only=False), expected):
                    reason = f"another {name} in rows {done} to {done + batch.num_rows}"
                    raise OutputError("E-OUTPUT-READBACK", path=path, reason=reason)
            done += batch.num_rows
    except (OSError, pa.ArrowException) as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError("E-OUTPUT-READBACK", path=path, reason=error) from error
    if done != len(regions):
        reason = f"{done} of {len(regions)} rows"
        raise OutputError("E-OUTPUT-READBACK", path=path, reason=reason)


def _same(found: Any, expected: Any) -> bool:
    return np.array_equal(found, expected, equal_nan=expected.dtype.kind == "f")
