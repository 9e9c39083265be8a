"""Regions of interest: what the coordinates are, a file says itself."""

from __future__ import annotations

import json

import numpy as np
import pytest
import rasterio
import rasterio.features
import rasterio.warp
import shapely
from affine import Affine
from tiny import noise, tilseg

from tilseg.errors import InputError
from tilseg.georef import Factors
from tilseg.selection import Selection
from tilseg.source import open_source
from tilseg.sources.resampled import on_grid
from tilseg.where.chosen import Chosen
from tilseg.where.roi import read_roi
from tilseg.window import Size, Window

SHAPE = Size(89, 131)
# Rotated, with pixels that are no squares, far enough north that parallels bend.
PLACE = Affine.translation(4e5, 7.3e6) @ Affine.rotation(11) @ Affine.scale(1300, -900)
CRS = "EPSG:32633"
STAR = shapely.Polygon([(20.3, 9.7), (88.2, 20.1), (70.4, 60.6), (44.8, 30.2), (13.1, 71.9)])
HOLED = shapely.box(90.2, 50.2, 120.9, 80.1).difference(shapely.box(99.6, 60.3, 110.2, 70.7))


@pytest.fixture
def slide(tmp_path):
    return image(tmp_path / "slide.tif")


@pytest.fixture
def scene(tmp_path):
    return image(tmp_path / "scene.tif", crs=CRS, transform=PLACE)


def image(path, **place):
    with rasterio.open(
        path, "w", driver="GTiff", height=SHAPE.rows, width=SHAPE.cols, count=3, dtype="uint8",
        **place,
    ) as file:  # fmt: skip
        file.write(np.moveaxis(noise(*SHAPE), 2, 0))
    return path


def feature(shape, **properties):
    return {
        "type": "Feature",
        "properties": properties,
        "geometry": shapely.geometry.mapping(shape),
    }


def collection(*features, **more):
    return {"type": "FeatureCollection", "features": list(features), **more}


def written(tmp_path, content):
    path = tmp_path / "roi.geojson"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def pixels(path, source, level=0) -> np.ndarray:
    size = source.levels[level].size
    chosen = Chosen(Selection(roi=read_roi(path, source, level)), size)
    found = chosen.wanted(Window.whole(size), None).inside
    return np.ones(size, bool) if found is None else found


def burnt(*shapes) -> np.ndarray:
    return rasterio.features.rasterize(shapes, out_shape=SHAPE).astype(bool)


QUPATH = {"objectType": "annotation", "classification": {"name": "Tumor"}}


@pytest.mark.parametrize(
    "content",
    [
        collection(feature(STAR), feature(HOLED)),
        collection(
            feature(shapely.MultiPolygon([STAR, HOLED])), {**feature(STAR), "geometry": None}
        ),
        [feature(STAR, **QUPATH), feature(HOLED, **QUPATH)],
        feature(shapely.GeometryCollection([STAR, HOLED])),
        shapely.geometry.mapping(shapely.force_3d(shapely.MultiPolygon([STAR, HOLED]), 3.0)),
    ],
    ids=["collection", "multi", "qupath", "feature", "geometry"],
)
def test_pixels_of_level_0_on_a_slide(tmp_path, slide, content):
    found = pixels(written(tmp_path, content), open_source(slide))
    np.testing.assert_array_equal(found, burnt(STAR, HOLED))


def test_qupath_means_pixels_on_a_map_too(tmp_path, scene):
    content = collection(feature(STAR, **QUPATH))
    np.testing.assert_array_equal(
        pixels(written(tmp_path, content), open_source(scene)), burnt(STAR)
    )


def test_a_crs_that_is_named_is_taken(tmp_path, scene):
    there = shapely.transform(STAR, lambda p: np.column_stack(PLACE @ (p[:, 0], p[:, 1])))
    name = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32633"}}
    found = pixels(written(tmp_path, collection(feature(there), crs=name)), open_source(scene))
    assert (found != burnt(STAR)).sum() <= 2


def test_longitude_and_latitude_on_a_map(tmp_path, scene):
    # 80 km of one parallel bend by 60 m in UTM; the pixels are 150 m, so a few of them tell.
    rows, cols = SHAPE.rows * 6, SHAPE.cols * 6
    centre = PLACE @ (SHAPE.cols / 2, SHAPE.rows / 2)
    path = tmp_path / "fine.tif"
    transform = Affine.translation(*centre) @ Affine.rotation(11) @ Affine.scale(1300 / 6, -150)
    with rasterio.open(
        path, "w", driver="GTiff", height=rows, width=cols, count=1, dtype="uint8", crs=CRS,
        transform=transform,
    ):  # fmt: skip
        pass
    corners = np.array([transform @ p for p in [(60, 40), (700, 90), (650, 480), (100, 430)]])
    lon, lat = rasterio.warp.transform(CRS, "OGC:CRS84", *corners.T)
    polygon = shapely.Polygon(np.column_stack([lon, lat]))
    source = open_source(path)
    size = source.shape
    chosen = Chosen(Selection(roi=read_roi(written(tmp_path, feature(polygon)), source)), size)
    found = chosen.wanted(Window.whole(size), None).inside
    # The oracle asks each pixel for its place on the earth.
    col, row = np.meshgrid(np.arange(cols) + 0.5, np.arange(rows) + 0.5)
    x, y = transform @ (col.ravel(), row.ravel())
    places = np.column_stack(rasterio.warp.transform(CRS, "OGC:CRS84", x, y))
    expected = shapely.contains_xy(polygon, places).reshape(size)
    assert expected.mean() > 0.3
    assert (found != expected).sum() <= 3
    bent = shapely.Polygon(np.column_stack(~transform @ corners.T))
    assert (rasterio.features.rasterize([bent], out_shape=size) != expected).sum() > 100


def test_a_level_has_its_own_pixels(tmp_path):
    path = tmp_path / "levels.tif"
    with rasterio.open(
        path, "w", driver="GTiff", height=515, width=771, count=1, dtype="uint8", tiled=True,
        blockxsize=128, blockysize=128,
    ) as file:  # fmt: skip
        file.write(noise(515, 771, 1)[..., 0], 1)
        file.build_overviews([2], rasterio.enums.Resampling.nearest)
    source = open_source(path)
    assert len(source.levels) == 2
    at = source.levels[1]
    found = pixels(written(tmp_path, feature(STAR)), source, 1)
    expected = shapely.transform(STAR, lambda p: p / [at.col_factor, at.row_factor])
    size = at.size
    np.testing.assert_array_equal(
        found, rasterio.features.rasterize([expected], out_shape=size).astype(bool)
    )


def test_a_resampled_image_has_its_own_pixels(tmp_path, slide, scene):
    factors = Factors(1.7, 0.6)
    star = shapely.transform(STAR, lambda p: p / [factors.cols, factors.rows])
    there = shapely.transform(STAR, lambda p: np.column_stack(PLACE @ (p[:, 0], p[:, 1])))
    named = collection(feature(there), crs={"properties": {"name": CRS}})
    for image, content in [
        (slide, feature(STAR)),
        (scene, feature(STAR, **QUPATH)),
        (scene, named),
    ]:
        source = on_grid(open_source(image), factors)
        expected = rasterio.features.rasterize([star], out_shape=source.shape).astype(bool)
        found = pixels(written(tmp_path, content), source)
        assert (found != expected).sum() <= 2


def test_a_twisted_polygon_is_what_gdal_burns(tmp_path, slide):
    twisted = {"type": "Polygon", "coordinates": [[[9, 9], [80, 70], [80, 9], [9, 70], [9, 9]]]}
    found = pixels(written(tmp_path, twisted), open_source(slide))
    np.testing.assert_array_equal(found, rasterio.features.rasterize([twisted], SHAPE).astype(bool))


NAMED = {"type": "name", "properties": {"name": "EPSG:32633"}}
POINT = {"type": "Point", "coordinates": [3, 4]}
BAD = [
    ("{", "E-ROI", "not JSON"),
    ("[" * 100_000, "E-ROI", "not JSON"),
    ("3", "E-ROI", "another kind"),
    ({"a": 1}, "E-ROI", "damaged"),
    ({"type": "FeatureCollection"}, "E-ROI", "damaged"),
    ({"type": "FeatureCollection", "features": [7]}, "E-ROI", "damaged"),
    ({"type": "Polygon", "coordinates": [[[0, 0], [9, 0]]]}, "E-ROI", "geometry"),
    ({"type": "Polygon", "coordinates": "x"}, "E-ROI", "geometry"),
    (
        {"type": "Polygon", "coordinates": [[[0, 0], [9, 0], [9, float("nan")], [0, 0]]]},
        "E-ROI",
        "",
    ),
    (collection(), "E-ROI", "no polygon"),
    (collection({"type": "Feature", "geometry": POINT}), "E-ROI", "holds a point"),
    (collection(feature(STAR), crs=NAMED), "E-ROI", "the image has no CRS"),
    (collection(feature(STAR), crs={"type": "name"}), "E-ROI", "names no CRS"),
    (feature(shapely.box(131.5, 0, 400, 50)), "E-ROI-OUTSIDE", "cols 132 to 400"),
    (feature(shapely.box(-9, -9, -1, -1)), "E-ROI-OUTSIDE", "131 x 89 pixels"),
    (feature(shapely.segmentize(STAR, 0.001)), "E-ROI", "vertices, and up to 200,000"),
]


@pytest.mark.parametrize(("content", "id", "words"), BAD, ids=range(len(BAD)))
def test_what_is_no_region_of_interest(tmp_path, slide, content, id, words):
    with pytest.raises(InputError) as caught:
        read_roi(written(tmp_path, content), open_source(slide))
    assert caught.value.id == id
    assert words in caught.value.message
    assert "\n" not in caught.value.message


ON_MAP = [
    (feature(shapely.box(20, 40, 21, 41)), "E-ROI-OUTSIDE", "lie outside"),
    (feature(shapely.box(400000, 7e6, 500000, 8e6)), "E-ROI", "no longitude and latitude"),
    (feature(shapely.box(10, 91, 20, 95)), "E-ROI", "outside the image's CRS"),
    (collection(feature(STAR), crs={"properties": {"name": "EPSG:0"}}), "E-ROI", "can't be used"),
]


@pytest.mark.parametrize(("content", "id", "words"), ON_MAP, ids=range(len(ON_MAP)))
def test_a_wrong_crs_on_a_map(tmp_path, scene, content, id, words):
    with pytest.raises(InputError) as caught:
        read_roi(written(tmp_path, content), open_source(scene))
    assert caught.value.id == id
    assert words in caught.value.message


def test_the_command_says_it_in_one_line(tmp_path, slide):
    written(tmp_path, feature(shapely.box(500, 0, 600, 50)))
    for roi, id in [("roi.geojson", "E-ROI-OUTSIDE"), ("missing.geojson", "E-INPUT-MISSING")]:
        found = tilseg("run", "slide.tif", "--roi", roi, cwd=tmp_path)
        assert found.returncode == 4
        assert found.stderr.startswith(f"error[{id}]")
        assert found.stderr.count("\n") == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["roi.geojson", "slide.tif"]
