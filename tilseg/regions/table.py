"""Region tables as files: CSV and Parquet, the same bytes for the same regions.

Both are written a few thousand rows at a time, so that a table of millions of regions costs no
second copy of itself. The caller makes the file's appearance atomic.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
from pyarrow import csv, parquet

from tilseg.errors import OutputError
from tilseg.regions.region_table import RegionTable

_ROWS = 65_536


def write_csv(regions: RegionTable, path: str | Path) -> None:
    """Write one line a region under a line of names; floats in their shortest exact form.

    Raises OutputError E-OUTPUT-WRITE.
    """
    schema = _schema(regions)
    options = csv.WriteOptions(quoting_style="needed")
    try:
        with csv.CSVWriter(str(path), schema, write_options=options) as writer:
            for batch in _batches(regions, schema):
                writer.write_batch(batch)
    except OSError as error:
        raise OutputError("E-OUTPUT-WRITE", path=path, reason=error.strerror or error) from None


def write_parquet(
    regions: RegionTable, path: str | Path, metadata: dict[str, str] | None = None
) -> None:
    """Write the columns with ZSTD, in row groups of 65,536 regions.

    metadata: key-value pairs for the file's footer.
    Raises OutputError E-OUTPUT-WRITE.
    """
    schema = _schema(regions).with_metadata(metadata)
    try:
        with parquet.ParquetWriter(str(path), schema, compression="zstd") as writer:
            for batch in _batches(regions, schema):
                writer.write_batch(batch, row_group_size=_ROWS)
    except OSError as error:
        raise OutputError("E-OUTPUT-WRITE", path=path, reason=error.strerror or error) from None


def _schema(regions: RegionTable) -> pa.Schema:
    return pa.schema([(name, pa.array(v[:0]).type) for name, v in regions.columns.items()])


def _batches(regions: RegionTable, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    for start in range(0, len(regions), _ROWS):
        columns = [pa.array(v[start : start + _ROWS]) for v in regions.columns.values()]
        yield pa.record_batch(columns, schema=schema)
