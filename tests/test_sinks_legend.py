"""Names and colours of a mask's classes beside the GeoTIFF, read back by GDAL."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
import rasterio
from contracts.sink_contract import CLASSES, finished, random_mask
from rasterio.crs import CRS

from tilseg.georef import Georef
from tilseg.sink import load_sink
from tilseg.sinks.legend import style_qml

UTM = CRS.from_epsg(32633).to_wkt()
# A CRS that GeoTIFF's keys can't say: GDAL writes it into the .aux.xml itself.
ROTATED_POLE = CRS.from_user_input("+proj=ob_tran +o_proj=longlat +lon_0=-40 +o_lat_p=22").to_wkt()
GRID = (0.3, 0.1 / 3, 1e5 / 3, 0.1 / 3, -0.3, 5e6)
COLORS = [(0, 0, 0), (0x1F, 0x77, 0xB4), (0xFF, 0x7F, 0x0E), (0x2C, 0xA0, 0x2C)]


def write(folder: Path, labels, crs: str = UTM) -> Path:
    path = folder / "mask.tif"
    mask = finished(folder / "mask.zarr", labels, georef=Georef(crs, GRID))
    load_sink("geotiff").write(mask, path)
    return path


@pytest.mark.parametrize("crs", [UTM, ROTATED_POLE], ids=["utm", "rotated pole"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_gdalinfo_shows_names_table_palette_and_overviews(tmp_path, crs, dtype):
    if shutil.which("gdalinfo") is None:
        pytest.skip("gdalinfo (Debian's gdal-bin) is not on this machine")
    labels = random_mask(1031, 797, dtype=dtype)
    path = write(tmp_path, labels, crs)
    nodata = np.iinfo(dtype).max
    # As in a user's shell: tilseg tells its own GDAL to look at no neighbours.
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("GDAL_", "CPL_"))}
    command = ["gdalinfo", "-json", path]
    shown = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    info = json.loads(shown.stdout)
    assert info["metadata"]["IMAGE_STRUCTURE"]["LAYOUT"] == "COG"
    (band,) = info["bands"]
    assert band["noDataValue"] == nodata
    assert [overview["size"] for overview in band["overviews"]] == [[398, 515], [199, 257]]
    palette = band["colorTable"]["entries"]
    assert [tuple(entry[:3]) for entry in palette[:4]] == COLORS
    assert band["categories"] == [c.name for c in CLASSES]
    rows = [row["f"] for row in info["rat"]["row"]]
    assert rows == [
        [value, c.name, *COLORS[value], (labels == value).sum()] for value, c in enumerate(CLASSES)
    ]
    # PixelCount, Name, MinMax, Red, Green and Blue of GDAL's GDALRATFieldUsage.
    usages = {field["name"]: field["usage"] for field in info["rat"]["fieldDefn"]}
    assert usages == {"Value": 5, "Class": 2, "Red": 6, "Green": 7, "Blue": 8, "Count": 1}


def test_what_gdal_puts_beside_the_file_stays(tmp_path):
    path = write(tmp_path, random_mask(60, 50), ROTATED_POLE)
    root = ET.parse(f"{path}.aux.xml").getroot()
    assert root.find("SRS") is not None
    assert len(root.findall("PAMRasterBand")) == 1
    with rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="FALSE"), rasterio.open(path) as dataset:
        assert dataset.crs == CRS.from_wkt(ROTATED_POLE)


@pytest.mark.parametrize("background", [0, 2, None])
def test_style_has_the_classes_and_sees_through_the_background(background):
    root = ET.fromstring(style_qml(CLASSES, background))
    entries = [entry.attrib for entry in root.iter("paletteEntry")]
    assert [(int(e["value"]), e["label"], e["color"]) for e in entries] == [
        (value, c.name, c.color) for value, c in enumerate(CLASSES)
    ]
    clear = [value for value, entry in enumerate(entries) if entry["alpha"] == "0"]
    assert clear == ([] if background is None else [background])
