"""The small picture of a result in a batch, whatever files the result has."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.transform import from_origin
from tiny import noise, save_tiny_model, tilseg

from tilseg.batches.record import Records


@pytest.mark.parametrize("outputs", ["tif", "zarr"])
def test_a_map_has_one_from_either_mask(tmp_path, outputs):
    model = save_tiny_model(tmp_path / "tiny.safetensors", classes=3)
    place = {"crs": "EPSG:32633", "transform": from_origin(5e5, 5e6, 1, 1)}
    size = {"width": 131, "height": 97, "count": 3, "dtype": "uint8"}
    with rasterio.open(tmp_path / "map.tif", "w", driver="GTiff", **size, **place) as file:
        file.write(np.moveaxis(noise(97, 131), 2, 0))
    order = ("run", "map.tif", "-o", "results/", "--model", model, "--outputs", outputs)
    done = tilseg(*order, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with (tmp_path / "results" / "batch.csv").open(newline="") as table:
        assert [line["status"] for line in csv.DictReader(table)] == ["complete"]
    (record,) = Records(tmp_path / "results")
    with Image.open(io.BytesIO(record.picture)) as picture:
        assert picture.size == (131, 97)
