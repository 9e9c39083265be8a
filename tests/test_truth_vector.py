"""Vector truth: what a polygon's class is, and burning, against GDAL on the whole raster."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import rasterio.features
import rasterio.warp
import shapely
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from rasterio.crs import CRS

from tilseg.errors import InputError
from tilseg.georef import Georef
from tilseg.truth.burn import BurntMap
from tilseg.truth.class_map import IGNORED
from tilseg.truth.features import Features, is_vector, read_features
from tilseg.truth.legend import read_legend
from tilseg.truth.raster import RasterMap, open_raster
from tilseg.window import Size, Window

UTM = CRS.from_epsg(32633).to_wkt()
HERE = Affine(2, 0, 500_000, 0, -2, 5_000_000)


def grid(shape: tuple[int, int], transform: Affine | None = None, crs: str = UTM) -> RasterMap:
    georef = Georef() if transform is None else Georef(crs, tuple(transform)[:6])
    return replace(open_raster(np.zeros(shape, np.uint8)), georef=georef)


def whole(of) -> np.ndarray:
    return of.read(Window.whole(of.shape))


def geojson(path, features, **members):
    content = {
        "type": "FeatureCollection",
        "features": [
            {"type": "Feature", "properties": properties, "geometry": shapely.geometry.mapping(g)}
            for g, properties in features
        ],
    }
    path.write_text(json.dumps(content | members))
    return path


def coco(path, annotations, shape=(20, 30), **more):
    content = {
        "images": [{"id": 4, "file_name": "scene.png", "height": shape[0], "width": shape[1]}],
        "categories": [{"id": 1, "name": "tree"}, {"id": 3, "name": "house"}],
        "annotations": [
            {"id": k, "image_id": 4, "category_id": category, "segmentation": drawn, **extra}
            for k, (category, drawn, extra) in enumerate(annotations)
        ],
    }
    path.write_text(json.dumps(content | more))
    return path


def read(path, legend=None, *, on_map=False, image="scene.tif") -> Features:
    return read_features(path, legend, image=image, on_map=on_map)


triangles = st.lists(
    st.tuples(*[st.tuples(st.floats(-5, 90), st.floats(-5, 70))] * 3), min_size=1, max_size=8
)


@given(
    corners=triangles,
    window=st.tuples(*[st.integers(0, 60)] * 2, *[st.integers(1, 15)] * 2),
)
def test_burning_equals_gdal_on_the_whole(corners, window):
    polygons = np.array([shapely.Polygon(three) for three in corners], object)
    values = np.arange(1, len(polygons) + 1, dtype=np.uint16)
    features = Features("a", polygons, values, None, None, {})
    burnt = BurntMap(features, grid((61, 83)), align=False)
    expected = rasterio.features.rasterize(
        list(zip(polygons, values.tolist(), strict=True)), out_shape=(61, 83), dtype="uint16"
    )
    np.testing.assert_array_equal(whole(burnt), expected)
    place = Window(*window).intersection(Window.whole(burnt.shape))
    if place.size.area:
        np.testing.assert_array_equal(burnt.read(place), expected[place.slices])
    assert burnt.values == (0, *values.tolist())


def test_burning_over_many_blocks_equals_gdal_on_the_whole():
    rng = np.random.default_rng(0)
    centres = rng.random((150, 2)) * [2300, 2100]
    polygons = shapely.buffer(shapely.points(centres), rng.random(150) * 90 + 1)
    values = rng.integers(0, 6, 150).astype(np.uint16)
    values[7] = IGNORED
    features = Features("a", polygons, values, None, None, {})
    burnt = BurntMap(features, grid((2081, 2207)), align=False)
    expected = rasterio.features.rasterize(
        list(zip(polygons, values.tolist(), strict=True)), out_shape=(2081, 2207), dtype="uint16"
    )
    np.testing.assert_array_equal(whole(burnt), expected)
    assert burnt.values == (0, 1, 2, 3, 4, 5)
    window = Window(1000, 1020, 77, 1100)
    np.testing.assert_array_equal(burnt.read(window), expected[window.slices])


@pytest.mark.parametrize("crs", [None, "urn:ogc:def:crs:EPSG::32633", "EPSG:3857"])
def test_coordinates_on_the_earth_are_brought_over(tmp_path, crs):
    # Without a CRS, GeoJSON is in longitude and latitude.
    own = CRS.from_user_input(crs or "OGC:CRS84")
    square = shapely.Polygon(
        [(500_011.3, 4_999_993.1), (500_053.7, 4_999_990.2), (500_040.4, 4_999_951.9)]
    )
    x, y = rasterio.warp.transform(UTM, own, *shapely.get_coordinates(square).T)
    moved = shapely.Polygon(zip(x, y, strict=True))
    members = {"crs": {"type": "name", "properties": {"name": crs}}} if crs else {}
    path = geojson(tmp_path / "a.geojson", [(moved, {})], **members)
    burnt = BurntMap(read(path, on_map=True), grid((31, 37), HERE), align=False)
    expected = rasterio.features.rasterize([square], out_shape=(31, 37), transform=HERE)
    np.testing.assert_array_equal(whole(burnt), expected)
    assert expected.any()


def test_classes_of_geojson(tmp_path):
    box = shapely.box(1, 2, 5, 4)
    plain = read(geojson(tmp_path / "a.geojson", [(box, {"name": "x"}), (box, {})]))
    assert plain.classes.tolist() == [1, 1]
    assert plain.crs is None
    numbered = read(geojson(tmp_path / "b.json", [(box, {"class": 4}), (box, {"class": 2.0})]))
    assert numbered.classes.tolist() == [4, 2]
    (tmp_path / "l.json").write_text(
        '{"classes": [{"value": 2, "name": "wood"}, {"value": 3, "from": ["road", 7]}],'
        ' "ignore": ["cloud"], "property": "kind"}'
    )
    legend = read_legend(tmp_path / "l.json")
    kinds = [(box, {"kind": kind}) for kind in ("wood", "road", 7.0, "cloud", 2)]
    named = read(geojson(tmp_path / "c.json", kinds), legend)
    assert named.classes.tolist() == [2, 3, 3, IGNORED, 2]
    assert named.names == {2: "wood"}
    with pytest.raises(InputError, match="holds 'lake', which"):
        read(geojson(tmp_path / "d.json", [(box, {"kind": "lake"})]), legend)
    with pytest.raises(InputError, match="holds None, which"):
        read(geojson(tmp_path / "d.json", [(box, {})]), legend)


def test_features_without_a_geometry_are_left_out(tmp_path):
    path = geojson(tmp_path / "a.geojson", [(shapely.box(0, 0, 3, 2), {"class": 1})])
    content = json.loads(path.read_text())
    content["features"].append({"type": "Feature", "properties": {"class": 9}, "geometry": None})
    path.write_text(json.dumps(content))
    assert read(path).classes.tolist() == [1]
    empty = read(geojson(tmp_path / "b.geojson", []))
    burnt = BurntMap(empty, grid((5, 6)), align=False)
    assert burnt.values == (0,)
    assert not whole(burnt).any()


def test_coco_polygons_and_runs(tmp_path):
    ring = [2, 3, 12.4, 3, 12.4, 11, 2, 11]
    # Columns 20 and 21, from row 4 down to row 9.
    runs = {"size": [20, 30], "counts": [20 * 20 + 4, 6, 14, 6, 20 * 30 - (20 * 20 + 30)]}
    path = coco(
        tmp_path / "a.json",
        [
            (3, [ring, [1, 1, 1, 5, 5, 5, 5, 1]], {}),
            (1, runs, {"iscrowd": 1}),
            (1, [[0, 0, 4, 0, 4, 2, 0, 2]], {"iscrowd": 1}),
        ],
    )
    features = read(path)
    # The crowd is painted first.
    assert features.classes.tolist() == [1, 1, 3, 3]
    assert features.shape == Size(20, 30)
    assert features.names == {1: "tree", 3: "house"}
    burnt = whole(BurntMap(features, grid((20, 30)), align=False))
    expected = np.zeros((20, 30), np.uint16)
    expected[4:10, 20:22] = 1
    expected[0:2, 0:4] = 1
    expected[3:11, 2:12] = 3
    expected[1:5, 1:5] = 3
    np.testing.assert_array_equal(burnt, expected)


def test_compressed_runs(tmp_path):
    # What pycocotools 2.0 writes for the mask below.
    mask = np.zeros((20, 30), np.uint8)
    mask[3:17, 5:9] = 1
    mask[10, 12:29] = 1
    runs = {"size": [20, 30], "counts": "W3>600000S2CZN" + "0" * 31 + ":"}
    features = read(coco(tmp_path / "a.json", [(1, runs, {})]))
    np.testing.assert_array_equal(whole(BurntMap(features, grid((20, 30)), align=False)), mask)


def test_coco_chooses_the_image_of_the_prediction(tmp_path):
    images = [
        {"id": k, "file_name": f"x/{name}.jpg", "height": 9, "width": 8}
        for k, name in ((4, "one"), (5, "two"))
    ]
    drawn = [(1, [[0, 0, 3, 0, 3, 3]], {"image_id": k}) for k in (4, 5, 5)]
    path = coco(tmp_path / "a.json", drawn, images=images)
    assert len(read(path, image="/tmp/two.tilseg").classes) == 2
    with pytest.raises(InputError, match="of 2 images, 0 are named 'three'"):
        read(path, image="three.tif")


def test_coco_names_decide_by_a_legend(tmp_path):
    (tmp_path / "l.json").write_text('{"classes": [{"value": 5, "from": ["tree", "house"]}]}')
    legend = read_legend(tmp_path / "l.json")
    path = coco(tmp_path / "a.json", [(3, [[0, 0, 3, 0, 3, 3]], {})])
    assert read(path, legend).classes.tolist() == [5]
    zero = coco(tmp_path / "b.json", [], categories=[{"id": 0, "name": "tree"}])
    with pytest.raises(InputError, match=r"category 0 \(tree\), and 0 is the background"):
        read(zero)


def test_drawn_on_another_size(tmp_path):
    path = coco(tmp_path / "a.json", [(1, [[10, 2, 20, 2, 20, 12, 10, 12]], {})])
    with pytest.raises(InputError, match="drawn on 20 x 30 pixels, but array is 10 x 15"):
        BurntMap(read(path), grid((10, 15)), align=False)
    expected = np.zeros((10, 15), int)
    expected[1:6, 5:10] = 1
    burnt = BurntMap(read(path), grid((10, 15)), align=True)
    np.testing.assert_array_equal(whole(burnt), expected)


BOX = {"type": "Polygon", "coordinates": [[[0, 0], [4, 0], [4, 4], [0, 0]]]}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "is not JSON"),
        ("[1, 2]", "is JSON of another kind"),
        ('{"type": "Feature"}', "is JSON of another kind"),
        ('{"type": "FeatureCollection"}', "is damaged .KeyError"),
        ('{"type": "FeatureCollection", "features": 7}', "is damaged .TypeError"),
        ('{"annotations": [], "images": [], "categories": []}', "of 0 images"),
        (_feature := '{"type": "FeatureCollection", "features": [%s]}', "is not JSON"),
        (_feature % '{"geometry": {"type": "Polygon", "coordinates": 3}}', "bad geometry"),
        (
            _feature % '{"geometry": {"type": "Point", "coordinates": [1, 2]}}',
            "holds a point, not only polygons",
        ),
        (
            _feature % json.dumps({"geometry": BOX, "properties": {"class": "tree"}}),
            "of the class 'tree'",
        ),
        (_feature % json.dumps({"geometry": BOX, "properties": {"class": True}}), "True"),
        (_feature % json.dumps({"geometry": BOX, "properties": {"class": 1.5}}), "1.5"),
    ],
)
def test_what_is_no_truth_is_refused_in_one_line(tmp_path, text, says):
    path = tmp_path / "a.geojson"
    path.write_text(text)
    with pytest.raises(InputError, match=says) as caught:
        read(path)
    assert caught.value.id == "E-TRUTH-VECTOR"
    assert "\n" not in str(caught.value)


def test_other_refusals(tmp_path):
    path = tmp_path / "a.geojson"
    with pytest.raises(InputError) as caught:
        read(path)
    assert caught.value.id == "E-INPUT-MISSING"
    geojson(path, [(shapely.box(0, 0, 1, 1), {"class": -2})])
    with pytest.raises(InputError) as caught:
        read(path)
    assert caught.value.id == "E-CLASSES-NEGATIVE"
    named = {"crs": {"properties": {"name": "EPSG:32633"}}}
    geojson(path, [(shapely.box(0, 0, 1, 1), {})], **named)
    with pytest.raises(InputError, match="its CRS is EPSG:32633, and the image has none"):
        read(path, on_map=False)
    geojson(path, [(shapely.box(0, 0, 1, 1), {})], crs={"properties": {"name": "EPSG:0"}})
    with pytest.raises(InputError, match="its CRS can't be used"):
        BurntMap(read(path, on_map=True), grid((5, 5), HERE), align=False)
    geojson(path, [(shapely.box(0, 89, 1, 95), {})])
    with pytest.raises(InputError, match="outside the image's CRS"):
        BurntMap(read(path, on_map=True), grid((5, 5), HERE), align=False)


def test_geopackage(tmp_path):
    pyogrio = pytest.importorskip("pyogrio", reason="the gis extra is not installed")
    shapes = [
        shapely.Polygon(
            [(500_011.3, 4_999_993.1), (500_053.7, 4_999_990.2), (500_040.4, 4_999_951.9)]
        )
    ]
    shapes.append(shapely.box(500_003.6, 4_999_971.7, 500_017.1, 4_999_995.2))
    path = tmp_path / "a.gpkg"
    pyogrio.raw.write(
        path,
        np.array([shapely.to_wkb(shape) for shape in shapes], object),
        [np.array([4, 2])],
        np.array(["class"]),
        layer="a",
        driver="GPKG",
        geometry_type="Polygon",
        crs="EPSG:32633",
    )
    features = read(path, on_map=True)
    assert features.classes.tolist() == [4, 2]
    burnt = BurntMap(features, grid((31, 37), HERE), align=False)
    expected = rasterio.features.rasterize(
        list(zip(shapes, (4, 2), strict=True)), out_shape=(31, 37), transform=HERE
    )
    np.testing.assert_array_equal(whole(burnt), expected)
    with pytest.raises(InputError, match="the image has none"):
        read(path, on_map=False)
    path.write_bytes(b"no GeoPackage")
    with pytest.raises(InputError) as caught:
        read(path, on_map=True)
    assert caught.value.id == "E-TRUTH-VECTOR"


def test_other_formats_want_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyogrio.raw", None)
    monkeypatch.setitem(__import__("sys").modules, "pyogrio.errors", None)
    path = tmp_path / "a.gpkg"
    path.touch()
    assert is_vector(path)
    with pytest.raises(InputError, match=r"pip install 'tilseg\[gis\]'"):
        read(path)
