"""Files of polygons: what their specifications say, what other programs read, the same bytes."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pyproj
import pytest
import rasterio
import shapely
from qupath_rules import check_import
from rasterio.transform import Affine, from_origin
from regions_oracle import tiled

import tilseg
from tilseg.errors import OutputError, UsageError
from tilseg.georef import Georef
from tilseg.plan import RegionOptions
from tilseg.polygons import arrow_files, formats, geojson
from tilseg.polygons.placing import Place
from tilseg.polygons.shapes import along_hilbert_curve
from tilseg.verbs import measure as verb
from tilseg.window import Size

SHAPE = (113, 87)
PLACE = from_origin(4e5, 5e6, 10, 10)
ALL = ("geojson", "geoparquet", "gpkg", "fgb")
FILES = {"geojson": "regions.geojson", "geoparquet": "regions.parquet"}
OGR = {"gpkg": "regions.gpkg", "fgb": "regions.fgb"}


def _mask(shape=SHAPE, grain=3, classes=3, seed=1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, classes + 1, (shape[0] // grain + 1, shape[1] // grain + 1))
    return np.kron(coarse, np.ones((grain, grain))).astype(np.uint8)[: shape[0], : shape[1]]


def _written(path: Path, mask: np.ndarray, crs: str | None, place: Affine | None) -> Path:
    size = {"height": mask.shape[0], "width": mask.shape[1], "count": 1, "dtype": mask.dtype}
    with rasterio.open(path, "w", driver="GTiff", crs=crs, transform=place, **size) as file:
        file.write(mask, 1)
    return path


def _measured(mask: Any, output: Path, *formats: str, **options: Any) -> tilseg.RegionTable:
    return tilseg.measure(mask, output=output, regions=RegionOptions(polygons=formats, **options))


def _features(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text())["features"]


def _shapes(features: list[dict[str, Any]]) -> np.ndarray:
    return shapely.from_geojson([json.dumps(feature["geometry"]) for feature in features])


@pytest.fixture(scope="module")
def on_map(tmp_path_factory) -> tuple[Path, dict[str, np.ndarray]]:
    """A mask in UTM with its polygons as GeoJSON and GeoParquet, and its table."""
    folder = tmp_path_factory.mktemp("map")
    mask = _written(folder / "map.tif", _mask(), "EPSG:32633", PLACE)
    table = _measured(mask, folder / "out", "geojson", "geoparquet")
    return folder, table.columns


def test_geojson_of_a_map_is_in_degrees(on_map):
    folder, table = on_map
    features = _features(folder / "out" / "regions.geojson")
    shapes = _shapes(features)
    assert shapely.is_valid(shapes).all()
    assert shapely.coverage_is_valid(shapes)
    for polygon in shapely.get_parts(shapes):
        assert polygon.exterior.is_ccw
        assert not any(ring.is_ccw for ring in polygon.interiors)
    back = pyproj.Transformer.from_crs("OGC:CRS84", "EPSG:32633", always_xy=True).transform
    metres = shapely.transform(shapes, lambda xy: np.stack(back(*xy.T), axis=1))
    # Corners are corners of pixels, to a thousandth of a pixel.
    off = np.abs(shapely.get_coordinates(metres) / 10 % 1 - 0.5)
    assert off.min() > 0.499
    np.testing.assert_allclose(shapely.area(metres), table["area_m2"], rtol=1e-3)
    for name, values in table.items():
        found = [feature["properties"][name] for feature in features]
        np.testing.assert_array_equal(found, values, err_msg=name)
    assert [feature["id"] for feature in features] == table["label"].tolist()


def test_geoparquet_is_as_its_specification_says(on_map):
    folder, table = on_map
    path = folder / "out" / "regions.parquet"
    geo = json.loads(pyarrow.parquet.read_schema(path).metadata[b"geo"])
    column = geo["columns"][geo["primary_column"]]
    assert geo["version"] == "1.1.0"
    assert column["encoding"] == "WKB"
    assert column["geometry_types"] == ["MultiPolygon"]
    assert pyproj.CRS.from_json_dict(column["crs"]) == pyproj.CRS.from_epsg(32633)
    content = pyarrow.parquet.read_table(path)
    shapes = shapely.from_wkb(content["geometry"].to_numpy())
    for polygon in shapely.get_parts(shapes):
        assert polygon.exterior.is_ccw
    bounds = [content["bbox"].combine_chunks().field(side) for side in column["covering"]["bbox"]]
    np.testing.assert_array_equal(np.stack(bounds, axis=1), shapely.bounds(shapes))
    order = np.argsort(content["label"].to_numpy())
    for name, values in table.items():
        np.testing.assert_array_equal(content[name].to_numpy()[order], values, err_msg=name)
    np.testing.assert_array_equal(shapely.area(shapes[order]), table["area_m2"])
    kinds = pyarrow.parquet.ParquetFile(path).metadata.row_group(0)
    assert kinds.column(0).compression == "ZSTD"


def test_neighbours_on_the_map_are_neighbours_in_the_file():
    mask = np.zeros((64, 64), np.uint8)
    mask[::2, ::2] = 1
    regions = tiled(mask, (64, 64), connectivity=1)
    order = along_hilbert_curve(regions)
    places = np.stack([regions.columns["bbox-0"], regions.columns["bbox-1"]], axis=1)[order]
    # On a full grid of a power of two the curve goes from each cell to one beside it.
    assert (np.abs(np.diff(places, axis=0)).sum(axis=1) == 2).all()


@pytest.mark.parametrize("driver", OGR)
@pytest.mark.parametrize("crs", ["EPSG:32633", None])
def test_gdal_reads_back_what_was_written(tmp_path, driver, crs):
    pyogrio = pytest.importorskip("pyogrio", reason="the gis extra is not installed")
    place = PLACE if crs else None
    mask = _written(tmp_path / "map.tif", _mask(), crs, place)
    table = _measured(mask, tmp_path / "out", driver).columns
    meta, _, geometry, values = pyogrio.raw.read(tmp_path / "out" / OGR[driver])
    columns = dict(zip(meta["fields"], values, strict=True))
    order = np.argsort(columns["label"])
    for name, expected in table.items():
        np.testing.assert_array_equal(columns[name][order], expected, err_msg=name)
    shapes = shapely.from_wkb(geometry)[order]
    assert shapely.is_valid(shapes).all()
    assert shapely.coverage_is_valid(shapes)
    np.testing.assert_array_equal(shapely.area(shapes), table["area_m2" if crs else "area"])
    assert meta["crs"] == crs
    assert meta["geometry_type"] == "MultiPolygon"


def test_geopandas_reads_all_formats_alike(on_map):
    geopandas = pytest.importorskip("geopandas", reason="the gis extra is not installed")
    folder, _ = on_map
    _measured(folder / "map.tif", folder / "all", *ALL)
    frames = [geopandas.read_file(folder / "all" / name) for name in OGR.values()]
    frames.append(geopandas.read_parquet(folder / "all" / "regions.parquet"))
    frames.append(geopandas.read_file(folder / "all" / "regions.geojson").to_crs("EPSG:32633"))
    for frame in frames:
        assert frame.crs == "EPSG:32633"
        ordered = frame.sort_values("label")
        np.testing.assert_allclose(ordered.area, ordered["area_m2"], rtol=1e-3)


@pytest.mark.parametrize("name", ["regions.geojson", *OGR.values()])
def test_ogrinfo_reads_it(tmp_path, name):
    if shutil.which("ogrinfo") is None:
        pytest.skip("ogrinfo (gdal-bin) is not installed")
    if name in OGR.values():
        pytest.importorskip("pyogrio", reason="the gis extra is not installed")
    mask = _written(tmp_path / "map.tif", _mask(), "EPSG:32633", PLACE)
    table = _measured(mask, tmp_path / "out", Path(name).suffix[1:])
    command = ["ogrinfo", "-ro", "-so", "-al", str(tmp_path / "out" / name)]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert f"Feature Count: {len(table)}" in found
    assert ("WGS 84" if name.endswith("json") else "UTM zone 33N") in found


def test_the_same_bytes_for_any_blocks_and_again(tmp_path, monkeypatch):
    pytest.importorskip("pyogrio", reason="the gis extra is not installed")
    mask = _written(tmp_path / "map.tif", _mask(), "EPSG:32633", PLACE)
    for name, block in {"one": (2048, 2048), "two": (31, 17), "three": (31, 17)}.items():
        monkeypatch.setattr(verb, "_BLOCK", Size(*block))
        _measured(mask, tmp_path / name, *ALL)
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == sorted(["regions.csv", *FILES.values(), *OGR.values()])
    for name in names:
        contents = {(tmp_path / run / name).read_bytes() for run in ("one", "two", "three")}
        assert len(contents) == 1, name


def test_qupath_takes_it(tmp_path, sample_data):
    image = tilseg.open_source(sample_data / "slide.tif")
    level = image.levels[1]
    mask = _mask(tuple(level.size), grain=29)
    regions = RegionOptions(polygons=("geojson",))
    table = tilseg.measure(mask, image=image, output=tmp_path / "out", regions=regions)
    text = (tmp_path / "out" / "regions.geojson").read_text()
    features = check_import(text, image.shape.cols, image.shape.rows)
    # In pixels of level 0.
    areas = shapely.area(_shapes(features)) / (level.row_factor * level.col_factor)
    np.testing.assert_allclose(areas, table.columns["area"], rtol=1e-3)
    for name, values in table.columns.items():
        found = [feature["properties"]["measurements"][name] for feature in features]
        np.testing.assert_array_equal(found, values, err_msg=name)


def test_many_regions_for_qupath_are_compressed(tmp_path, monkeypatch):
    monkeypatch.setattr(geojson, "_MANY", 100)
    table = _measured(_mask(), tmp_path / "out", "geojson")
    assert not (tmp_path / "out" / "regions.geojson").exists()
    packed = (tmp_path / "out" / "regions.geojson.gz").read_bytes()
    assert len(check_import(gzip.decompress(packed).decode(), 87, 113)) == len(table)
    # On a map other programs read it, and few of these unpack it.
    mask = _written(tmp_path / "map.tif", _mask(), "EPSG:32633", PLACE)
    _measured(mask, tmp_path / "map", "geojson")
    assert (tmp_path / "map" / "regions.geojson").exists()


def test_nothing_to_draw_is_a_file_without_features(tmp_path):
    _measured(np.zeros(SHAPE, np.uint8), tmp_path / "out", "geojson", "geoparquet")
    assert check_import((tmp_path / "out" / "regions.geojson").read_text(), 87, 113) == []
    assert pyarrow.parquet.read_table(tmp_path / "out" / "regions.parquet").num_rows == 0


@pytest.mark.parametrize("driver", OGR)
def test_nothing_to_draw_is_a_layer_without_features(tmp_path, driver):
    pyogrio = pytest.importorskip("pyogrio", reason="the gis extra is not installed")
    _measured(np.zeros(SHAPE, np.uint8), tmp_path / "out", driver)
    assert len(pyogrio.raw.read(tmp_path / "out" / OGR[driver])[2]) == 0


def test_simplified_neighbours_have_no_gaps(tmp_path):
    from scipy import ndimage

    field = ndimage.gaussian_filter(np.random.default_rng(3).standard_normal((211, 307)), 5)
    mask = np.digitize(field, np.quantile(field, (0.2, 0.4, 0.7, 0.8))).astype(np.uint8)
    parts = {}
    for tolerance in (0.0, 1.5, 4.0):
        _measured(mask, tmp_path / f"{tolerance}", "geojson", simplify=tolerance)
        text = (tmp_path / f"{tolerance}" / "regions.geojson").read_text()
        shapes = _shapes(check_import(text, 307, 211))
        assert shapely.coverage_is_valid(shapes)
        parts[tolerance] = shapely.get_num_coordinates(shapes).sum()
    assert parts[4.0] < parts[1.5] < parts[0.0] / 2


def test_only_some_classes_and_large_regions(tmp_path):
    mask = _mask()
    table = _measured(mask, tmp_path / "out", "geojson", only=(1, 3), min_area=30).columns
    assert set(table["class"]) == {1, 3}
    features = _features(tmp_path / "out" / "regions.geojson")
    assert [int(feature["properties"]["name"]) for feature in features] == table["label"].tolist()
    np.testing.assert_array_equal(shapely.area(_shapes(features)), table["area"])
    everything = tiled(mask, SHAPE, nodata=None).columns
    kept = np.isin(everything["class"], (1, 3)) & (everything["area"] >= 30)
    np.testing.assert_array_equal(everything["centroid-0"][kept], table["centroid-0"])


# Round the south pole; over the antimeridian; degrees from 0 to 360.
WIDE = {
    "pole": ("EPSG:3031", from_origin(-3e6, 3.3e6, 1e5, 1e5), (59, 67)),
    "strait": ("EPSG:32601", from_origin(1e5, 7.6e6, 1e4, 1e4), (67, 53)),
    "degrees": ("EPSG:4326", from_origin(90, 40, 2, 2), (37, 101)),
}


@pytest.mark.parametrize("name", WIDE)
def test_geojson_ends_at_the_antimeridian(tmp_path, name):
    crs, place, shape = WIDE[name]
    mask = np.ones(shape, np.uint8)
    # A ring, so that a hole goes where the region does.
    row, col = np.indices(shape)
    far = np.hypot(row - shape[0] / 2.1, col - shape[1] / 2.1)
    mask[(far < 9) & (far > 4)] = 2
    _written(tmp_path / "m.tif", mask, crs, place)
    table = _measured(tmp_path / "m.tif", tmp_path / "out", "geojson").columns
    shapes = _shapes(_features(tmp_path / "out" / "regions.geojson"))
    assert shapely.is_valid(shapes).all()
    left, bottom, right, top = shapely.total_bounds(shapes)
    assert (left, right) == (-180, 180)
    assert -90 <= bottom < top <= 90
    # In an equal-area projection. A side of a pixel of 100 km is no straight line in degrees.
    to_metres = pyproj.Transformer.from_crs("OGC:CRS84", "EPSG:6933", always_xy=True).transform
    metres = shapely.transform(
        shapely.segmentize(shapes, 1), lambda xy: np.stack(to_metres(*xy.T), axis=1)
    )
    np.testing.assert_allclose(shapely.area(metres), table["area_m2"], rtol=5e-3)


@pytest.mark.parametrize("left", np.linspace(3.4e5, 3.64e5, 9))
def test_cut_at_the_antimeridian_wherever_it_is_crossed(left):
    # Some of these rings miss their own beginning by a rounding, if turns are taken step by step.
    crs = pyproj.CRS.from_epsg(32601).to_wkt("WKT1_GDAL")
    place = Place(Georef(crs, (60.0, 0.0, left, 0.0, -60.0, 7.4e6)), Size(409, 557))
    (whole,) = place.in_degrees(np.array([shapely.box(0, 0, 557, 409)]))
    assert whole.is_valid
    assert len(whole.geoms) == 2
    west, south, east, north = whole.bounds
    assert (west, east) == (-180, 180)
    assert 66.4 < south < north < 66.8


def test_rotated_and_south_up_grids_stay_valid(tmp_path):
    for number, place in enumerate(
        (Affine.translation(5e5, 5e6) * Affine.rotation(33.3) * Affine.scale(0.3, -0.7),
         Affine.translation(5e5, 5e6) * Affine.scale(2.5, 2.5))
    ):  # fmt: skip
        _written(tmp_path / f"{number}.tif", _mask(grain=2), "EPSG:32633", place)
        table = _measured(tmp_path / f"{number}.tif", tmp_path / f"{number}", *FILES)
        content = pyarrow.parquet.read_table(tmp_path / f"{number}" / "regions.parquet")
        shapes = shapely.from_wkb(content["geometry"].to_numpy())
        assert shapely.is_valid(shapes).all()
        assert all(polygon.exterior.is_ccw for polygon in shapely.get_parts(shapes))
        areas = table.columns["area_m2"][content["label"].to_numpy() - 1]
        np.testing.assert_allclose(shapely.area(shapes), areas, rtol=1e-6)
        degrees = _shapes(_features(tmp_path / f"{number}" / "regions.geojson"))
        assert shapely.is_valid(degrees).all()
        assert shapely.coverage_is_valid(degrees)


def test_places_without_degrees_are_refused(tmp_path):
    # Beside the disk of the Earth that a geostationary satellite sees.
    crs = "+proj=geos +h=35785831 +lon_0=0 +sweep=y +ellps=WGS84"
    mask = _written(tmp_path / "m.tif", _mask(), crs, from_origin(-6e6, 6e6, 1e5, 1e5))
    with pytest.raises(OutputError) as caught:
        _measured(mask, tmp_path / "out", "geojson")
    assert caught.value.id == "E-POLYGON-DEGREES"
    assert not (tmp_path / "out").exists()
    _measured(mask, tmp_path / "out", "geoparquet")


def test_a_format_that_needs_an_extra_is_refused_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(formats.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError) as caught:
        _measured(_mask(), tmp_path / "out", "geojson", "fgb")
    assert caught.value.id == "E-POLYGON-EXTRA"
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_rots_is_noticed(tmp_path, monkeypatch, name):
    """Each reader meets one byte that is not as it was written."""
    if name == "geojson":
        read, module = geojson._crc, geojson
    else:
        read, module = arrow_files._check, arrow_files

    def spoiled(*arguments: Any) -> Any:
        (path,) = (each for each in arguments if isinstance(each, Path))
        content = bytearray(path.read_bytes())
        content[len(content) // 3] ^= 4
        path.write_bytes(content)
        return read(*arguments)

    monkeypatch.setattr(module, read.__name__, spoiled)
    with pytest.raises(OutputError) as caught:
        _measured(_mask(), tmp_path / "out", name)
    assert caught.value.id == "E-OUTPUT-READBACK"
    assert not (tmp_path / "out").exists()
