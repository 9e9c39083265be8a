"""Class maps from files and arrays: what is a class, what is none, what is refused."""

from __future__ import annotations

import json

import imagecodecs
import numpy as np
import pytest
import rasterio
import tifffile
import zarr
from rasterio.transform import from_origin

from tilseg.card import ClassInfo
from tilseg.errors import InputError, UsageError
from tilseg.georef import Georef
from tilseg.sinks.zarr import MaskStore
from tilseg.truth.class_map import IGNORED
from tilseg.truth.legend import read_legend
from tilseg.truth.raster import open_raster
from tilseg.window import Size, Window

SHAPE = (7, 11)


@pytest.fixture
def mask() -> np.ndarray:
    return np.arange(77, dtype=np.uint8).reshape(SHAPE) % 4


def whole(opened) -> np.ndarray:
    return opened.read(Window.whole(opened.shape))


def legend_file(folder, **content):
    path = folder / "legend.json"
    path.write_text(json.dumps(content))
    return read_legend(path)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int8", "int64", "uint32", "bool"])
def test_arrays_of_any_whole_numbers(mask, dtype):
    opened = open_raster((mask > 1).astype(dtype))
    assert opened.values == (0, 1)
    np.testing.assert_array_equal(whole(opened), mask > 1)


def test_formats_agree(tmp_path, mask):
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(mask))
    tifffile.imwrite(tmp_path / "a.tif", mask)
    palette = np.zeros((3, 256), np.uint16)
    palette[:, :4] = np.arange(4) * 1000
    tifffile.imwrite(tmp_path / "palette.tif", mask, photometric="palette", colormap=palette)
    zarr.save_array(tmp_path / "a.zarr", mask)
    for name in ("a.png", "a.tif", "palette.tif", "a.zarr"):
        opened = open_raster(tmp_path / name)
        assert opened.values == (0, 1, 2, 3), name
        np.testing.assert_array_equal(whole(opened), mask, err_msg=name)
        window = Window(2, 3, 4, 5)
        np.testing.assert_array_equal(opened.read(window), mask[2:6, 3:8], err_msg=name)
        opened.close()


def test_the_mask_of_a_run_names_its_classes(tmp_path, mask):
    mask[0, 0] = 255
    store = MaskStore.create(tmp_path / "x.tilseg" / "mask.zarr", Size(*SHAPE), Size(16, 16))
    store.commit(Window(0, 0, *SHAPE), mask)
    classes = [ClassInfo(name=f"kind {k}", color=f"#00000{k}") for k in range(4)]
    # Unfinished, it is no image yet.
    with pytest.raises(InputError):
        open_raster(tmp_path / "x.tilseg")
    store.finish(name="x", classes=classes, georef=Georef(), background=None)
    for path in (tmp_path / "x.tilseg", tmp_path / "x.tilseg" / "mask.zarr"):
        opened = open_raster(path)
        assert opened.background is None
        assert opened.names[2] == "kind 2"
        assert opened.colors[3] == "#000003"
        np.testing.assert_array_equal(
            whole(opened), np.where(mask == 255, IGNORED, mask.astype(int))
        )


def test_a_run_without_zarr_is_read_from_its_tif(tmp_path, mask):
    (tmp_path / "x.tilseg").mkdir()
    tifffile.imwrite(tmp_path / "x.tilseg" / "mask.tif", mask)
    np.testing.assert_array_equal(whole(open_raster(tmp_path / "x.tilseg")), mask)


def test_zero_and_255_are_two_classes_unless_something_says_otherwise(tmp_path):
    mask = np.zeros(SHAPE, np.uint8)
    mask[2:4] = 255
    opened = open_raster(mask)
    assert opened.values == (0, 1)
    assert "taken as the classes 0 and 1" in opened.notes[0]
    np.testing.assert_array_equal(whole(opened), mask > 0)
    assert open_raster(mask, ignore=[255]).values == (0,)
    assert open_raster(mask, ignore=[0]).values == (255,)
    # 255 alone, or beside other classes, is none.
    mask[0, 0] = 2
    assert open_raster(mask).values == (0, 2)
    assert open_raster(np.full(SHAPE, 255, np.uint8)).values == ()
    assert open_raster(np.full(SHAPE, 65535, np.uint16)).values == ()
    # A file that calls 255 nodata says so.
    path = tmp_path / "a.tif"
    _write(path, np.where(mask == 2, 0, mask).astype(np.uint8), nodata=255)
    stated = open_raster(path)
    assert (stated.values, stated.notes) == ((0,), ())


def _write(path, mask, **profile):
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=mask.shape[0],
        width=mask.shape[1],
        count=1,
        dtype=mask.dtype,
        crs="EPSG:32633",
        transform=from_origin(5e5, 6e6, 2, 2),
        **profile,
    ) as file:
        file.write(mask, 1)


def test_nodata_is_no_class_but_0_is(tmp_path, mask):
    path = tmp_path / "a.tif"
    _write(path, mask, nodata=3)
    assert open_raster(path).values == (0, 1, 2)
    _write(path, mask, nodata=0)
    opened = open_raster(path)
    assert opened.values == (0, 1, 2, 3)
    assert "calls 0 nodata" in opened.notes[0]
    assert open_raster(path, ignore=[0]).values == (1, 2, 3)


def test_what_alpha_hides_is_no_class(tmp_path, mask):
    alpha = np.full(SHAPE, 255, np.uint8)
    alpha[:, 2] = 0
    path = tmp_path / "a.png"
    path.write_bytes(imagecodecs.png_encode(np.stack([mask, alpha], axis=-1)))
    expected = np.where(alpha, mask.astype(int), IGNORED)
    np.testing.assert_array_equal(whole(open_raster(path)), expected)


def test_colours_by_a_legend(tmp_path, mask):
    colours = np.array([[155, 155, 155], [60, 16, 152], [132, 41, 246], [1, 2, 3]], np.uint8)
    path = tmp_path / "a.png"
    path.write_bytes(imagecodecs.png_encode(colours[mask]))
    legend = legend_file(
        tmp_path,
        classes=[
            {"value": 0, "name": "none", "color": "#9B9B9B"},
            {"value": 7, "name": "house", "from": ["#3c1098", "#8429F6"]},
        ],
        ignore=["#010203"],
    )
    opened = open_raster(path, legend)
    assert opened.values == (0, 7)
    assert opened.names == {0: "none", 7: "house"}
    np.testing.assert_array_equal(whole(opened), np.array([0, 7, 7, IGNORED])[mask])
    # A palette's colours are colours too.
    wide = np.zeros((3, 256), np.uint16)
    wide[:, :4] = colours.T.astype(np.uint16) * 257
    tifffile.imwrite(tmp_path / "p.tif", mask, photometric="palette", colormap=wide)
    np.testing.assert_array_equal(whole(open_raster(tmp_path / "p.tif", legend)), whole(opened))
    # A prediction of numbers keeps its numbers.
    np.testing.assert_array_equal(
        whole(open_raster(tmp_path / "p.tif", legend, numbers=False)), mask
    )


def test_a_colour_that_the_legend_does_not_name_is_refused_with_its_place(tmp_path):
    picture = np.zeros((5, 6, 3), np.uint8)
    picture[3, 4] = (255, 254, 0)
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(picture))
    legend = legend_file(tmp_path, classes=[{"value": 0, "color": "#000000"}])
    with pytest.raises(InputError, match=r"holds #fffe00 \(row 3, col 4\), which .*legend.json"):
        open_raster(tmp_path / "a.png", legend)


def test_numbers_by_a_legend(tmp_path, mask):
    legend = legend_file(
        tmp_path,
        classes=[{"value": 0, "from": [0, 2]}, {"value": 1, "from": [1]}],
        ignore=[3],
    )
    expected = np.array([0, 1, 0, IGNORED])[mask]
    np.testing.assert_array_equal(whole(open_raster(mask, legend)), expected)
    mask[1, 1] = 9
    with pytest.raises(InputError, match="holds 9, which"):
        open_raster(mask, legend)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("nonsense", "Invalid JSON"),
        ('{"classes": []}', "classes"),
        ('{"classes": [{"value": -1}]}', "classes.0.value"),
        ('{"classes": [{"value": 1, "colour": "#000000"}]}', "classes.0.colour"),
        ('{"classes": [{"value": 1, "color": "red"}]}', "classes.0.color"),
        (
            '{"classes": [{"value": 1, "from": ["#ABCDEF"]}, {"value": 2, "from": ["#abcdef"]}]}',
            "'#abcdef' twice",
        ),
        ('{"classes": [{"value": 1}], "ignore": [1]}', "names 1 twice"),
        (None, "No such file"),
    ],
)
def test_a_bad_legend_is_refused_in_one_line(tmp_path, content, says):
    path = tmp_path / "legend.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UsageError, match=says) as caught:
        read_legend(path)
    assert caught.value.id == "E-LEGEND"
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("array", "id"),
    [
        (np.zeros(SHAPE, np.float32), "E-CLASSES-DTYPE"),
        (np.zeros((*SHAPE, 3), np.uint8), "E-CLASSES-BANDS"),
        (np.full(SHAPE, -3, np.int16), "E-CLASSES-NEGATIVE"),
        (np.arange(400, dtype=np.uint16).reshape(20, 20), "E-CLASSES-MANY"),
        (np.full(SHAPE, 70_000), "E-INPUT-DTYPE"),
    ],
)
def test_what_is_no_map_of_classes_is_refused(array, id):
    with pytest.raises(InputError) as caught:
        open_raster(array)
    assert caught.value.id == id


def test_a_negative_value_can_be_ignored():
    mask = np.array([[-1, 0, 1]], np.int16)
    np.testing.assert_array_equal(whole(open_raster(mask, ignore=[-1])), [[IGNORED, 0, 1]])
