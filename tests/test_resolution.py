"""Which pixel size is chosen, and what is said about one that is wrong or missing."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import rasterio
from rasterio.crs import CRS
from rasterio.transform import Affine

from tilseg.card import Card, ClassInfo, Normalization
from tilseg.errors import InputError, UsageError
from tilseg.georef import PixelSize
from tilseg.lengths import convert, parse_length
from tilseg.resolution import choose_factors
from tilseg.source import open_source

PIXELS = np.zeros((211, 307), np.uint8)


CONSTANT = Normalization(kind="constants", mean=(0,), std=(1,))


def card(
    pixel_size: float | None = None, unit: str | None = None, normal: Normalization = CONSTANT
) -> Card:
    return Card(
        name="m",
        architecture="unet",
        parameters={},
        bands=1,
        head="softmax",
        normalization=normal,
        halo=4,
        stride=4,
        offset=0,
        classes=(ClassInfo(name="a", color="#000000"), ClassInfo(name="b", color="#ffffff")),
        pixel_size=pixel_size,
        unit=unit,
    )


def slide(size: str | None = "0.2427um"):
    return open_source(PIXELS, pixel_size=size)


@pytest.fixture
def on_map(tmp_path):
    def make(crs: str | None, *transform: float):
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.tif"
        with rasterio.open(
            path,
            "w",
            driver="GTiff",
            height=211,
            width=307,
            count=1,
            dtype="uint8",
            crs=crs and CRS.from_user_input(crs),
            transform=Affine(*transform),
        ) as dataset:
            dataset.write(PIXELS, 1)
        return open_source(path)

    return make


def chosen(source, model=None, resolution=None, level=None):
    return choose_factors(source, model or card(), resolution, level)


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("0.25", (0.25, None)),
        (0.25, (0.25, None)),
        (".5 um", (0.5, "um")),
        ("250nm", (250.0, "nm")),
        ("0.5µm", (0.5, "um")),
        ("0.5\u03bcm", (0.5, "um")),
        ("1e-4degree", (1e-4, "degree")),
        ("0", None),
        ("-1", None),
        ("nan", None),
        ("inf", None),
        ("1e30", None),
        ("1e400", None),
        ("0.5 furlong", None),
        ("", None),
        ("0.5um 0.5um", None),
    ],
)
def test_lengths_are_read(text, length):
    assert parse_length(text) == length


def test_lengths_are_converted_to_the_nearest_number():
    assert convert(250, "nm", "um") == 0.25
    assert convert(0.3, "m", "cm") == 30
    assert convert(1200, "US survey foot", "m") == 1200 * 1200 / 3937
    assert convert(1, "degree", "m") is None


def test_the_models_size_is_taken_where_it_differs_by_more_than_a_tenth(caplog):
    caplog.set_level(logging.INFO, "tilseg")
    assert chosen(slide(), card(0.5, "um")) == (0.5 / 0.2427, 0.5 / 0.2427)
    assert "resampling to 0.5 um" in caplog.text
    caplog.clear()
    assert chosen(slide(), card(500, "nm")) == (0.5 / 0.2427, 0.5 / 0.2427)
    assert chosen(slide("0.499um"), card(0.5, "um")) is None
    assert chosen(slide("0.46um"), card(0.5, "um")) is None
    assert chosen(slide(), card()) is None
    assert "WARNING" not in caplog.text


def test_the_images_own_size_is_kept_on_request_with_a_warning(caplog):
    assert chosen(slide(), card(0.5, "um"), "native") is None
    assert "0.5 um, which is 2.06 x 2.06 of the pixels" in caplog.text
    caplog.clear()
    assert chosen(slide(), card(0.5, "um"), level=0) is None
    assert "2.06" in caplog.text
    caplog.clear()
    assert chosen(slide("0.499um"), card(0.5, "um"), "native") is None
    assert not caplog.text


def test_an_image_without_a_size_is_taken_as_it_is_with_a_warning(caplog):
    assert chosen(slide(None), card(0.5, "um")) is None
    assert "states no pixel size (give it with --pixel-size)" in caplog.text
    caplog.clear()
    assert chosen(slide(None), card()) is None
    assert not caplog.text


@pytest.mark.parametrize(
    ("resolution", "factor"),
    [("0.5", 0.5 / 0.2427), (0.5, 0.5 / 0.2427), ("1um", 1 / 0.2427), ("0.0002427 mm", None)],
)
def test_a_size_asked_for_is_taken_whatever_the_model_says(resolution, factor):
    wanted = None if factor is None else (factor, factor)
    for model in (card(), card(0.5, "um"), card(7, "m")):
        assert chosen(slide(), model, resolution) == wanted


def test_stated_sizes_are_those_of_the_image_and_of_its_uri(tmp_path):
    path = tmp_path / "scan#1.png"
    from PIL import Image

    Image.fromarray(PIXELS).save(path)
    for text, size in [
        ("0.25", PixelSize(0.25, 0.25, "um")),
        (0.25, PixelSize(0.25, 0.25, "um")),
        ("250 nm", PixelSize(0.25, 0.25, "um")),
        ("30cm", PixelSize(0.3, 0.3, "m")),
        ("1e-05 km", PixelSize(0.01, 0.01, "m")),
    ]:
        source = open_source(path, pixel_size=text)
        again = open_source(source.uri)
        assert source.georef.pixel_size == again.georef.pixel_size == size
        assert source.identity() == again.identity() != open_source(path).identity()
        array = open_source(PIXELS, pixel_size=text)
        assert array.georef.pixel_size == size
        assert open_source(array.uri).georef.pixel_size == size
    assert open_source(path).georef.pixel_size is None


def test_a_map_has_a_size_that_is_not_to_be_stated(on_map):
    source = on_map("EPSG:32633", 10, 0, 5e5, 0, -10, 5e6)
    with pytest.raises(UsageError) as caught:
        open_source(source.uri, pixel_size="10m")
    assert caught.value.id == "E-CHOICE"
    loose = on_map(None, 10, 0, 5e5, 0, -10, 5e6)
    stated = open_source(loose.uri, pixel_size="10m")
    assert (stated.georef.transform, stated.georef.pixel_size) == (
        loose.georef.transform,
        PixelSize(10, 10, "m"),
    )


def test_on_a_map_a_bare_number_is_in_its_unit_and_a_length_on_the_ground(on_map):
    pyproj = pytest.importorskip("pyproj")
    utm = on_map("EPSG:32633", 10, 0, 4e5, 0, -12, 5e6)
    assert chosen(utm, resolution="20") == (20 / 12, 2)
    # UTM's metres are right to 0.04 %: they count as metres.
    assert chosen(utm, resolution="20m") == (20 / 12, 2)
    assert chosen(utm, card(20, "m")) == (20 / 12, 2)
    degrees = on_map("EPSG:4326", 1e-4, 0, 13.0, 0, -1e-4, 52.0)
    assert chosen(degrees, resolution="0.0002degree") == (2, 2)
    assert chosen(degrees, resolution=0.0002) == (2, 2)
    geod = pyproj.Geod(ellps="WGS84")
    lon, lat = 13 + 1e-4 * 307 / 2, 52 - 1e-4 * 211 / 2
    height = geod.inv(lon, lat - 5e-5, lon, lat + 5e-5)[2]
    width = geod.inv(lon - 5e-5, lat, lon + 5e-5, lat)[2]
    found = chosen(degrees, card(10, "m"))
    assert found == pytest.approx((10 / height, 10 / width), rel=1e-6)
    assert chosen(degrees, resolution="10m") == found
    mercator = on_map("EPSG:3857", 10, 0, 1e6, 0, -10, 8399738.0)
    assert chosen(mercator, resolution=10) is None
    # At 60 degrees north ten of its metres are five.
    assert chosen(mercator, card(10, "m")) == pytest.approx((1.99, 1.99), abs=0.02)
    assert chosen(mercator, card(5, "m")) is None


def test_feet_are_feet(on_map):
    feet = on_map("EPSG:2263", 1, 0, 9e5, 0, -1, 2e5)
    assert chosen(feet, resolution="0.6m") == pytest.approx((1.9685, 1.9685), rel=1e-4)
    assert chosen(feet, resolution=2) == (2, 2)


def test_what_can_not_be_compared_is_left_alone_with_a_warning(on_map, caplog):
    assert chosen(slide(), card(0.01, "degree")) is None
    assert "the image has pixels in um" in caplog.text


@pytest.mark.parametrize(
    ("size", "resolution", "level", "identity", "kind"),
    [
        (None, "0.5", None, "E-PIXEL-UNKNOWN", InputError),
        ("0.5um", "0.12", None, "E-PIXEL-FACTOR", InputError),
        ("0.5um", "furlong", None, "E-OPTION", UsageError),
        ("0.5um", "0", None, "E-OPTION", UsageError),
        ("0.5um", "1", 0, "E-OPTION", UsageError),
        ("0.5um", "1degree", None, "E-PIXEL-UNIT", UsageError),
    ],
)
def test_errors_say_what_to_do(size, resolution, level, identity, kind):
    with pytest.raises(kind) as caught:
        chosen(slide(size), resolution=resolution, level=level)
    assert caught.value.id == identity
    assert "\n" not in caught.value.message


def test_a_model_for_far_smaller_pixels_is_refused():
    with pytest.raises(InputError, match="--mpp native"):
        chosen(slide("30m"), card(0.5, "um"))
    assert chosen(slide("2um"), card(0.5, "um")) == (0.25, 0.25)


@pytest.mark.parametrize("text", ["0", "x", "1degree", "-2um", "nan"])
def test_no_size_is_no_statement(text):
    with pytest.raises(UsageError) as caught:
        slide(text)
    assert caught.value.id == "E-OPTION"


def test_a_card_has_a_size_with_a_unit_or_none():
    for size, unit in ((0.5, None), (None, "um"), (0.0, "um"), (-1.0, "m")):
        with pytest.raises(ValueError, match="pixel_size"):
            card(size, unit)


def test_degrees_do_not_fit_a_map_in_metres(on_map):
    with pytest.raises(UsageError) as caught:
        chosen(on_map("EPSG:3413", 9, 4, 1e5, 4, -9, 1e5), resolution="0.1degree")
    assert caught.value.id == "E-PIXEL-UNIT"


def test_a_card_has_percentiles_with_their_kind_alone():
    card(normal=Normalization(kind="percentiles", percentiles=(1, 99.8)))
    for kind, percentiles in (("percentiles", None), ("image", (1, 99)), ("percentiles", (9, 9))):
        with pytest.raises(ValueError, match="percentiles"):
            card(normal=Normalization(kind=kind, percentiles=percentiles))
