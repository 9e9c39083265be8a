"""Regions as GeoParquet, GeoPackage and FlatGeobuf: streams of Arrow batches, each read back."""

from __future__ import annotations

import json
import warnings
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import shapely
from numpy.typing import NDArray
from pyarrow import parquet

from tilseg.durable import writing
from tilseg.errors import OutputError, TilsegError
from tilseg.polygons.shapes import Shapes, along_hilbert_curve, check_same

LAYER = "regions"
_GEOMETRY = "geometry"
_SIDES = ("xmin", "ymin", "xmax", "ymax")
_BBOX = pa.struct([(side, pa.float64()) for side in _SIDES])
# GDAL would write the time of day into a GeoPackage.
_NO_TIME = "1970-01-01T00:00:00Z"


def write_geoparquet(shapes: Shapes, path: Path) -> None:
    """Write GeoParquet 1.1: WKB, a bbox covering, ZSTD, neighbours together (Hilbert curve).

    Raises OutputError E-OUTPUT-WRITE or E-OUTPUT-READBACK.
    """
    crcs = np.zeros(len(shapes.regions), dtype=np.uint32)
    order = along_hilbert_curve(shapes.regions)
    fields = [*_schema(shapes), pa.field("bbox", _BBOX)]
    schema = pa.schema(fields, {"geo": json.dumps(_geo(shapes))})
    with writing(path), parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for batch, bounds in _batches(shapes, order, crcs):
            sides = pa.StructArray.from_arrays([pa.array(s) for s in bounds.T], fields=list(_BBOX))
            writer.write_batch(pa.record_batch([*batch.columns, sides], schema=schema))
    with parquet.ParquetFile(path) as file:
        _check(shapes, path, crcs, file.iter_batches())


def _geo(shapes: Shapes) -> dict[str, Any]:
    """The metadata of GeoParquet 1.1; without a CRS coordinates are pixels, y down."""
    column: dict[str, Any] = {
        "encoding": "WKB",
        "geometry_types": ["MultiPolygon"],
        "crs": None,
        "orientation": "counterclockwise",
        "covering": {"bbox": {side: ["bbox", side] for side in _SIDES}},
    }
    if shapes.place.is_geographic:
        from rasterio.crs import CRS

        column["crs"] = CRS.from_wkt(shapes.place.georef.crs).to_dict(projjson=True)
    return {"version": "1.1.0", "primary_column": _GEOMETRY, "columns": {_GEOMETRY: column}}


def write_ogr(shapes: Shapes, path: Path, driver: str) -> None:
    """Write what GDAL writes, through pyogrio: driver "GPKG" or "FlatGeobuf", with their index.

    Raises OutputError E-OUTPUT-WRITE or E-OUTPUT-READBACK.
    """
    import pyogrio
    from pyogrio.raw import open_arrow, write_arrow

    crcs = np.zeros(len(shapes.regions), dtype=np.uint32)
    order = np.arange(len(shapes.regions))
    failed: list[TilsegError] = []

    def batches() -> Iterator[pa.RecordBatch]:
        try:
            for batch, _ in _batches(shapes, order, crcs):
                yield batch
        except TilsegError as error:
            # On its way through GDAL it would become words.
            failed.append(error)
            raise

    stream = pa.RecordBatchReader.from_batches(pa.schema(_schema(shapes)), batches())
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": _NO_TIME})
    try:
        with warnings.catch_warnings():
            # A picture has no CRS, and nobody needs to be told.
            warnings.filterwarnings("ignore", "'crs' was not provided")
            write_arrow(
                stream,
                path,
                layer=LAYER,
                driver=driver,
                geometry_name=_GEOMETRY,
                geometry_type="MultiPolygon",
                crs=shapes.place.georef.crs,
            )
    except (RuntimeError, OSError) as error:
        if failed:
            raise failed[0] from None
        raise OutputError("E-OUTPUT-WRITE", path=path, reason=error) from error
    finally:
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": None})
    with open_arrow(path, use_pyarrow=True) as (_, reader):
        _check(shapes, path, crcs, reader)


def _schema(shapes: Shapes) -> list[pa.Field]:
    columns = shapes.columns(np.zeros(0, dtype=np.int64))
    wkb = pa.field(_GEOMETRY, pa.binary(), metadata={"ARROW:extension:name": "geoarrow.wkb"})
    return [*(pa.field(name, values.type) for name, values in columns.items()), wkb]


def _batches(
    shapes: Shapes, order: NDArray[np.int64], crcs: NDArray[np.uint32]
) -> Iterator[tuple[pa.RecordBatch, NDArray[np.float64]]]:
    """Batches of columns and geometries with (n, 4) bounds; notes each geometry's CRC-32."""
    schema = pa.schema(_schema(shapes))
    for rows, polygons in shapes.batches(order):
        placed = shapes.place.on_grid(polygons)
        wkb = shapely.to_wkb(_as_multi(placed), byte_order=1)
        crcs[rows] = [zlib.crc32(one) for one in wkb]
        columns = [*shapes.columns(rows).values(), pa.array(wkb, pa.binary())]
        yield pa.record_batch(columns, schema=schema), shapely.bounds(placed)


def _as_multi(polygons: NDArray[Any]) -> NDArray[Any]:
    """A multipolygon of each: a layer has one kind of geometry."""
    parts, number = shapely.get_parts(polygons, return_index=True)
    return np.asarray(shapely.multipolygons(parts, indices=number))


def _check(
    shapes: Shapes, path: Path, crcs: NDArray[np.uint32], batches: Iterable[pa.RecordBatch]
) -> None:
    """Every value and geometry of a file, in whatever order, against what went into it."""
    seen = np.zeros(len(crcs), dtype=bool)
    try:
        for batch in batches:
            rows = batch["label"].to_numpy() - 1
            for name, values in shapes.columns(rows).items():
                if not _same(batch[name], values):
                    _refuse(path, f"another {name}")
            # GDAL has its own name for it.
            found = batch.column(_GEOMETRY if _GEOMETRY in batch.schema.names else -1)
            for row, wkb in zip(rows.tolist(), found.to_pylist(), strict=True):
                check_same(path, int(crcs[row]), zlib.crc32(wkb))
            seen[rows] = True
    except (OSError, IndexError, pa.ArrowException) as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError("E-OUTPUT-READBACK", path=path, reason=error) from error
    if not seen.all():
        _refuse(path, f"{int((~seen).sum())} regions are missing")


def _same(found: pa.Array, expected: pa.Array) -> bool:
    if not pa.types.is_floating(expected.type):
        return bool(found.cast(expected.type).equals(expected))
    # What is not a number is null in a GeoPackage.
    values = found.to_numpy(zero_copy_only=False)
    return np.array_equal(values, expected.to_numpy(), equal_nan=True)


def _refuse(path: Path, reason: str) -> None:
    raise OutputError("E-OUTPUT-READBACK", path=path, reason=reason)
