"""Areas on the ellipsoid, against PROJ's own geodesic polygons and scale factors."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from rasterio.crs import CRS

from tilseg.errors import InputError
from tilseg.georef import Georef, PixelSize
from tilseg.regions import BlockGrid, measure_block, merge
from tilseg.regions.ellipsoid import Ellipsoid
from tilseg.regions.units import world_units
from tilseg.window import Size, Window

WGS84 = Ellipsoid(6378137.0, 298.257223563)


def grid_of(crs: str, transform: tuple[float, ...]) -> Georef:
    return Georef(CRS.from_user_input(crs).to_wkt(), transform)


def on_map(georef, rows, cols):
    a, b, c, d, e, f = georef.transform
    return a * cols + b * rows + c, d * cols + e * rows + f


def measured(mask, georef, block=(64, 64)):
    world = world_units(georef, Size(*mask.shape))
    grid = BlockGrid(Size(*mask.shape), Size(*block))
    tables = [
        measure_block(mask[w.slices], w, shape=grid.shape, weights=world.weights(w)) for w in grid
    ]
    return world, world.describe(merge(tables, grid))


def test_all_cells_of_the_earth_are_its_surface():
    e2 = (2 - 1 / 298.257223563) / 298.257223563
    e = e2**0.5
    # The closed form of the whole ellipsoid (Snyder 1987, 3-12 at the pole).
    surface = 2 * np.pi * 6378137.0**2 * (1 + (1 - e2) / e * np.arctanh(e))
    edges = np.radians(np.linspace(-90, 90, 721))
    cells = WGS84.cell_area(edges[:-1], edges[1:], np.radians(0.25)) * 1440
    assert cells.sum() == pytest.approx(surface, rel=1e-14)
    assert Ellipsoid(2.0, 0).cell_area(edges[:1], edges[-1:], 2 * np.pi) == pytest.approx(
        16 * np.pi, rel=1e-10
    )


def test_cells_beyond_a_pole_have_no_area():
    areas = WGS84.cell_area(np.radians([89.5, 90.0]), np.radians([90.5, 91.0]), 0.01)
    half = WGS84.cell_area(np.radians([89.5]), np.radians([90.0]), 0.01)
    assert areas[0] == half[0]
    assert areas[1] == 0


GRIDS = {
    "degrees": ("EPSG:4326", (0.01, 0, -20.0, 0, -0.01, 63.0)),
    "degrees of 0.1 m": ("EPSG:4326", (1e-6, 0, 13.4, 0, -1e-6, 52.5)),
    "degrees, south up": ("EPSG:4326", (0.02, 0, -20.0, 0, 0.02, -33.0)),
    "degrees, rotated": ("EPSG:4326", (0.01, 0.002, -60.0, 0.001, -0.01, 50.0)),
    "Web Mercator": ("EPSG:3857", (10.0, 0, 1e6, 0, -10.0, 8e6)),
    "polar stereographic": ("EPSG:3031", (1000.0, 0, -1e5, 0, -1000.0, 1.2e5)),
    "polar, large pixels": ("EPSG:3413", (25000.0, 0, -2.1e6, 0, -25000.0, 2.2e6)),
    "Lambert, rotated": ("EPSG:2154", (60.0, 9.0, 1e5, 9.0, -60.0, 6.2e6)),
    "gradians": ("EPSG:4807", (0.01, 0, 1.0, 0, -0.01, 54.0)),
}


@pytest.mark.parametrize("name", GRIDS)
def test_pixel_areas_are_those_of_geodesic_polygons(name):
    pyproj = pytest.importorskip("pyproj")
    code, transform = GRIDS[name]
    georef = grid_of(code, transform)
    shape = Size(170, 190)
    world = world_units(georef, shape)
    assert world is not None
    window = Window(3, 5, 160, 181)
    areas = world.weights(window)
    areas = areas[:, None] if areas.ndim == 1 else areas
    areas = np.broadcast_to(areas, window.size)
    crs = pyproj.CRS(code)
    to_lon_lat = pyproj.Transformer.from_crs(crs, pyproj.CRS("EPSG:4326"), always_xy=True)
    if crs.ellipsoid.name != "WGS 84":
        to_lon_lat = pyproj.Transformer.from_crs(crs, crs.geodetic_crs, always_xy=True)
    side = np.arange(64) / 64
    for row, col in ((0, 0), (159, 90), (53, 180), (80, 91)):
        rows = window.row + row + np.concatenate([0 * side, side, 0 * side + 1, 1 - side])
        cols = window.col + col + np.concatenate([side, 0 * side + 1, 1 - side, 0 * side])
        lon, lat = to_lon_lat.transform(*on_map(georef, rows, cols))
        if name == "gradians":
            lon, lat = np.asarray(lon) * 0.9, np.asarray(lat) * 0.9
        expected = abs(crs.get_geod().polygon_area_perimeter(lon, lat)[0])
        # The oracle rounds too: its longitudes, in areas of a few square centimetres.
        tolerance = 1e-6 if name == "degrees of 0.1 m" else 3e-8
        assert areas[row, col] == pytest.approx(expected, rel=tolerance), (row, col)


@pytest.mark.parametrize("code", ["EPSG:3857", "EPSG:3031", "EPSG:3395"])
def test_pixel_areas_are_the_inverse_of_projs_areal_scale(code):
    pyproj = pytest.importorskip("pyproj")
    georef = grid_of(code, (100.0, 0, 1e6, 0, -100.0, 7e6))
    if code == "EPSG:3031":
        georef = grid_of(code, (100.0, 0, 1e6, 0, -100.0, 1e6))
    world = world_units(georef, Size(600, 600))
    areas = world.weights(Window(300, 200, 50, 50))
    crs = pyproj.CRS(code)
    x, y = on_map(georef, 300 + 25.5, 200 + 25.5)
    lon, lat = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform(x, y)
    factors = pyproj.Proj(crs).get_factors(lon, lat)
    scale = factors.areal_scale
    if code == "EPSG:3857":
        # PROJ's factors are of the sphere that Web Mercator draws; ours of the ellipsoid.
        scale = 1 / (np.cos(np.radians(lat)) ** 2)
        e2 = (2 - 1 / 298.257223563) / 298.257223563
        scale *= (1 - e2 * np.sin(np.radians(lat)) ** 2) ** 2 / (1 - e2)
    assert areas[25, 25] * scale == pytest.approx(1e4, rel=1e-7)


@pytest.mark.parametrize(
    ("code", "transform", "area"),
    [
        ("EPSG:32633", (10.0, 0, 4e5, 0, -10.0, 5e6), 100.0),
        ("EPSG:3035", (100.0, 0, 2.5e6, 0, -100.0, 5e6), 1e4),
        ("EPSG:6933", (1000.0, 0, -1e7, 0, -1000.0, 7e6), 1e6),
        ("EPSG:8857", (1000.0, 0, -1e6, 0, -1000.0, 1e6), 1e6),
        ("EPSG:2263", (1.0, 0, 9e5, 0, -1.0, 2e5), (1200 / 3937) ** 2),
        ("EPSG:26914", (4.0, 3.0, 6e5, 3.0, -4.0, 4e6), 25.0),
    ],
)
def test_grids_true_to_scale_have_one_area(code, transform, area):
    world = world_units(grid_of(code, transform), Size(3000, 2000))
    assert world is not None
    assert world.method == "planar"
    assert world.weights(Window(0, 0, 10, 10)) is None
    assert world.pixel_area == pytest.approx(area, rel=1e-12)
    assert 0.9975 < world.scale[0] <= world.scale[1] < 1.0025


def test_an_equal_area_projection_is_found_to_be_one():
    world = world_units(grid_of("EPSG:3035", (100.0, 0, 2.5e6, 0, -100.0, 5e6)), Size(9000, 9000))
    assert world.scale == pytest.approx((1, 1), abs=1e-10)


def test_metres_of_web_mercator_are_no_metres():
    world = world_units(grid_of("EPSG:3857", (10.0, 0, 1e6, 0, -10.0, 8399738.0)), Size(999, 999))
    assert world.method == "pixels"
    # At 60 degrees north a square metre covers a quarter.
    assert world.scale == pytest.approx((0.25, 0.25), rel=0.02)


def test_areas_do_not_depend_on_the_window():
    world = world_units(grid_of("EPSG:3031", (500.0, 0, -1e5, 0, -500.0, 1.2e5)), Size(700, 800))
    whole = world.weights(Window(0, 0, 700, 800))
    for window in (Window(0, 0, 1, 1), Window(250, 240, 20, 40), Window(511, 3, 189, 790)):
        np.testing.assert_allclose(world.weights(window), whole[window.slices], rtol=1e-14)


def test_no_place_no_area():
    """A satellite's view of the disk: beyond its limb there is no Earth."""
    crs = "+proj=geos +h=35786023 +lon_0=-75 +datum=WGS84 +sweep=x"
    world = world_units(grid_of(crs, (20000.0, 0, -6e6, 0, -20000.0, 6e6)), Size(600, 600))
    areas = world.weights(Window(0, 0, 600, 600))
    assert np.isnan(areas[0, 0])
    assert areas[300, 300] == pytest.approx(4e8, rel=1e-3)


def test_regions_of_a_map():
    mask = np.zeros((150, 130), dtype=np.uint8)
    mask[10:100, 30:90] = 1
    mask[120:125, 5:25] = 2
    georef = grid_of("EPSG:4326", (0.05, 0, 10.0, 0, -0.05, 60.0))
    world, regions = measured(mask, georef)
    rows = world.weights(Window(0, 0, 150, 130))
    columns = regions.columns
    assert columns["area_m2"] == pytest.approx([rows[10:100].sum() * 60, rows[120:125].sum() * 20])
    assert "area_world" not in columns
    # At 57 degrees a pixel is twice as high as wide.
    assert "perimeter_m" not in columns
    assert columns["lon"] == pytest.approx([13.0, 10.75])
    assert columns["lat"] == pytest.approx([57.25, 53.875])
    assert columns["centroid_x"] == pytest.approx(columns["lon"])
    _, again = measured(mask, georef, block=(17, 23))
    assert columns["area_m2"] == pytest.approx(again.columns["area_m2"], rel=1e-14)


def test_perimeters_where_pixels_are_square():
    mask = np.zeros((90, 80), dtype=np.uint8)
    mask[20:60, 10:50] = 1
    mercator, stretched = measured(mask, grid_of("EPSG:3857", (10, 0, 1e6, 0, -10, 8399738.0)))
    assert mercator.square
    # 156 pixels of 10 m that are 5 m.
    assert stretched.columns["perimeter_m"] == pytest.approx([156 * 5], rel=0.01)
    _, utm = measured(mask, grid_of("EPSG:32633", (10, 0, 4e5, 0, -10, 5e6)))
    assert utm.columns["perimeter_m"] == pytest.approx([1560])


def test_regions_of_a_slide():
    mask = np.zeros((40, 50), dtype=np.uint8)
    mask[10:20, 5:25] = 1
    world, regions = measured(mask, Georef(pixel_size=PixelSize(0.5, 0.5, "um")))
    assert world.method == "planar"
    assert regions.columns["area_um2"].tolist() == [50.0]
    assert regions.columns["perimeter_um"].tolist() == [28.0]
    assert regions.columns["centroid_x"].tolist() == [7.5]
    assert regions.columns["centroid_y"].tolist() == [7.5]
    assert "lon" not in regions.columns
    _, oblong = measured(mask, Georef(pixel_size=PixelSize(0.5, 0.25, "um")))
    assert oblong.columns["area_um2"].tolist() == [25.0]
    assert "perimeter_um" not in oblong.columns


@pytest.mark.parametrize(
    "georef",
    [
        Georef(),
        Georef(transform=(1.0, 0, 0, 0, -1.0, 0)),
        Georef(pixel_size=PixelSize(0.1, 0.1, "degree")),
        grid_of("EPSG:4978", (1.0, 0, 0, 0, -1.0, 0)),
        Georef('LOCAL_CS["site",UNIT["metre",1]]', (1.0, 0, 0, 0, -1.0, 0)),
    ],
    ids=["nothing", "no CRS", "degrees of what", "geocentric", "local"],
)
def test_what_has_no_world_units(georef):
    assert world_units(georef, Size(10, 10)) is None


def test_a_broken_crs_is_an_error():
    with pytest.raises(InputError) as caught:
        world_units(Georef("PROJCS[nonsense", (1.0, 0, 0, 0, -1.0, 0)), Size(3, 3))
    assert caught.value.id == "E-INPUT-READ"


def test_a_world_travels_to_workers():
    world = world_units(grid_of("EPSG:3857", (10.0, 0, 1e6, 0, -10.0, 8e6)), Size(999, 999))
    again = pickle.loads(pickle.dumps(world))
    window = Window(5, 6, 7, 8)
    np.testing.assert_array_equal(again.weights(window), world.weights(window))
