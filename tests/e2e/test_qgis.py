"""A result in QGIS, without a screen: the legend it shows, and the colours it draws."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.warp
from PIL import Image
from tiny import STEADY, noise, save_tiny_model

import tilseg
from tilseg.plan import RegionOptions

RENDER = Path(__file__).parent.parent / "qgis_render.py"
PYTHON = "/usr/bin/python3"  # Debian's, which python3-qgis is for
SHAPE = (239, 311)


def _environment(home: Path) -> dict[str, str]:
    home.chmod(0o700)
    return {"PATH": os.environ["PATH"], "HOME": str(home), "XDG_RUNTIME_DIR": str(home)}


@pytest.fixture(scope="module")
def scene(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("qgis")
    try:
        subprocess.run(
            [PYTHON, "-c", "import qgis.core"],
            check=True,
            capture_output=True,
            env=_environment(folder),
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("QGIS (Debian's python3-qgis) is not on this machine")
    profile = {"driver": "GTiff", "height": SHAPE[0], "width": SHAPE[1], "count": 3}
    place = {"crs": "EPSG:32633", "transform": rasterio.Affine(10, 0, 4e5, 0, -10, 54e5)}
    with rasterio.open(folder / "scene.tif", "w", dtype="uint8", **profile, **place) as dataset:
        dataset.write(noise(*SHAPE, seed=3).transpose(2, 0, 1))
    model = save_tiny_model(folder / "tiny.safetensors", classes=3, normalization=STEADY)
    plan = tilseg.make_plan(
        tilseg.open_source(folder / "scene.tif"),
        tilseg.load_model(model),
        regions=RegionOptions(polygons=("gpkg",)),
    )
    tilseg.run(plan, folder / "scene.tilseg")
    return folder


def _drawn(folder: Path) -> dict:
    done = subprocess.run(
        [PYTHON, RENDER, "scene.tif", "scene.tilseg", "picture.png"],
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
        env=_environment(folder),
    )
    return json.loads(done.stdout.splitlines()[-1])


def test_qgis_shows_classes_by_name_where_they_are(scene):
    told = _drawn(scene)
    assert told["renderer"] == "paletted"
    # The background is see-through, and nothing but classes is in the legend.
    assert told["classes"] == [
        [0, "class 0", "#008040", 0],
        [1, "class 1", "#288040", 255],
        [2, "class 2", "#508040", 255],
    ]
    assert told["same_crs"] == [True, True]
    assert told["same_extent"]
    assert told["nodata"] == 255
    summary = json.loads((scene / "scene.tilseg" / "summary.json").read_text())
    assert told["regions"] == sum(each["regions"] or 0 for each in summary["classes"])
    picture = np.asarray(Image.open(scene / "picture.png").convert("RGB"))
    with rasterio.open(scene / "scene.tilseg" / "mask.tif") as dataset:
        mask = dataset.read(1, out_shape=picture.shape[:2])
    for value, color in ((1, (0x28, 0x80, 0x40)), (2, (0x50, 0x80, 0x40))):
        found = (picture == color).all(axis=2)
        # All that is drawn so is of the class, but for a pixel at its edge. The outlines of the
        # many small regions hide the rest.
        assert found.sum() > 1000
        assert (mask[found] == value).mean() > 0.97


def test_without_the_style_names_come_from_the_categories(scene):
    style = scene / "scene.tilseg" / "mask.qml"
    content = style.read_bytes()
    style.unlink()
    try:
        told = _drawn(scene)
    finally:
        style.write_bytes(content)
    assert [each[1] for each in told["classes"][:3]] == ["class 0", "class 1", "class 2"]
    assert len(told["classes"]) > 250, "this is why there is a style"
