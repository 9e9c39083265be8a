"""Labels of every kind on the pixels of their image, and tables that name them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import rasterio
import rasterio.features
import shapely
import tifffile
import zarr
from affine import Affine

from tilseg.errors import InputError, TilsegError, UsageError
from tilseg.source import open_source
from tilseg.training.config import Data, TrainingClass
from tilseg.training.dataset import open_dataset
from tilseg.training.labels import LabelRules, open_labels
from tilseg.training.samples import IGNORE
from tilseg.training.table import read_table
from tilseg.truth.class_map import IGNORED
from tilseg.window import Window

ROWS, COLS = 53, 67
PLACE = Affine(0.5, 0, 500_000, 0, -0.5, 4_000_000)
SHAPES = {
    "building": shapely.Polygon([(5.2, 6.1), (30.7, 8.3), (25.1, 29.9), (8.8, 22.2)]),
    "water": shapely.Polygon([(40.3, 10.4), (60.6, 15.5), (44.4, 44.4)]),
}


def _classes(**values):
    return [TrainingClass(name=name, values=own) for name, own in values.items()]


NAMED = _classes(ground=(), building=(), water=())


def _image(path, place=None, crs="EPSG:32633"):
    pixels = np.random.default_rng(0).integers(0, 255, (ROWS, COLS), dtype=np.uint8)
    if place is None:
        tifffile.imwrite(path, pixels)
    else:
        with rasterio.open(path, "w", "GTiff", COLS, ROWS, 1, crs, place, pixels.dtype) as file:
            file.write(pixels, 1)
    return open_source(path)


def _geojson(path, shapes, properties, crs=None):
    rows = zip(shapes, properties, strict=True)
    content = {
        "type": "FeatureCollection",
        "features": [
            {"type": "Feature", "geometry": shapely.geometry.mapping(shape), "properties": own}
            for shape, own in rows
        ],
    }
    if crs:
        content["crs"] = {"type": "name", "properties": {"name": crs}}
    path.write_text(json.dumps(content))
    return path


def _burnt():
    """GDAL's own: building 1, water 2."""
    pairs = [(shape, value) for value, shape in enumerate(SHAPES.values(), start=1)]
    return rasterio.features.rasterize(pairs, (ROWS, COLS), dtype="uint8")


def _read(labels, image, classes=NAMED, **data):
    found = open_labels(labels, image, LabelRules.of(Data(**data), classes))
    return found.read(Window.whole(image.shape))


@pytest.mark.parametrize(
    ("properties", "data"),
    [
        ([{"class": "building"}, {"class": "water"}], {}),
        ([{"class": 1}, {"class": 2}], {}),
        ([{"classification": {"name": n, "color": [1, 2, 3]}} for n in SHAPES], {}),
        ([{"use": "building", "class": 7}, {"use": "water"}], {"property": "use"}),
    ],
    ids=["names", "numbers", "QuPath", "property"],
)
def test_polygons_in_pixels_are_burnt_as_gdal_does(tmp_path, properties, data):
    image = _image(tmp_path / "a.tif")
    path = _geojson(tmp_path / "a.geojson", SHAPES.values(), properties)
    np.testing.assert_array_equal(_read(path, image, **data), _burnt())


def test_polygons_without_a_class_are_the_first_after_the_ground(tmp_path):
    image = _image(tmp_path / "a.tif")
    path = _geojson(tmp_path / "a.geojson", SHAPES.values(), [{}, {}])
    np.testing.assert_array_equal(_read(path, image), _burnt() > 0)


@pytest.mark.parametrize("crs", ["EPSG:32633", "OGC:CRS84"])
def test_polygons_on_the_map_are_burnt_on_the_image(tmp_path, crs):
    image = _image(tmp_path / "a.tif", PLACE)
    shapes = [
        shapely.transform(shape, lambda xy: np.column_stack(PLACE * xy.T))
        for shape in SHAPES.values()
    ]
    if crs != "EPSG:32633":
        from pyproj import Transformer

        onto = Transformer.from_crs("EPSG:32633", crs, always_xy=True)
        shapes = [
            shapely.transform(s, lambda xy: np.column_stack(onto.transform(*xy.T))) for s in shapes
        ]
    path = _geojson(tmp_path / "a.geojson", shapes, [{"class": n} for n in SHAPES], crs)
    assert (_read(path, image) != _burnt()).mean() < 1e-3


def test_a_word_that_is_no_class_is_named(tmp_path):
    image = _image(tmp_path / "a.tif")
    path = _geojson(tmp_path / "a.geojson", SHAPES.values(), [{"class": "tree"}] * 2)
    with pytest.raises(InputError, match="'tree', which the configuration does not name"):
        _read(path, image)


def test_a_class_map_says_what_numbers_and_colours_stand_for(tmp_path):
    image = _image(tmp_path / "a.tif")
    numbers = np.choose(_burnt(), [0, 255, 7]).astype(np.uint8)
    numbers[3] = 9
    colours = np.zeros((ROWS, COLS, 3), np.uint8)
    colours[_burnt() == 1] = (255, 0, 0)
    colours[_burnt() == 2] = (0, 0, 255)
    colours[3] = (9, 9, 9)
    tifffile.imwrite(tmp_path / "numbers.tif", numbers)
    tifffile.imwrite(tmp_path / "colours.tif", colours, photometric="rgb")
    expected = _burnt().astype(int)
    expected[3] = IGNORED
    for name, own, ignore in (
        ("numbers", [(0,), (255,), (7,)], [9]),
        ("colours", [("#000000",), ("#FF0000",), ("#0000ff",)], ["#090909"]),
    ):
        classes = _classes(**dict(zip(("ground", "building", "water"), own, strict=True)))
        found = _read(tmp_path / f"{name}.tif", image, classes, ignore=ignore)
        np.testing.assert_array_equal(found, expected)
    with pytest.raises(InputError, match="holds 9, which the configuration does not name"):
        _read(tmp_path / "numbers.tif", image, _classes(a=(0,), b=(255, 7)))


def test_a_mask_of_another_place_is_refused(tmp_path):
    image = _image(tmp_path / "a.tif", PLACE)
    _image(tmp_path / "b.tif", PLACE * Affine.translation(3, 0))
    with pytest.raises(InputError) as caught:
        _read(tmp_path / "b.tif", image)
    assert caught.value.id == "E-TRAIN-PLACE"


def test_a_folder_is_paired_with_one_file_of_polygons(tmp_path):
    (tmp_path / "images").mkdir()
    for number in range(3):
        _image(tmp_path / "images" / f"{number}.tif", PLACE * Affine.translation(2 * number, 0))
    shapes = [
        shapely.transform(shape, lambda xy: np.column_stack(PLACE * xy.T))
        for shape in SHAPES.values()
    ]
    path = _geojson(tmp_path / "all.geojson", shapes, [{"class": n} for n in SHAPES], "EPSG:32633")
    given = Data(images=str(tmp_path / "images"), masks=str(path))
    data = open_dataset(given, NAMED)
    for sample in (*data.training, *data.validation):
        shift = 2 * int(sample.name)
        found = sample.target(Window(0, 0, ROWS, COLS - shift))
        np.testing.assert_array_equal(found, _burnt()[:, shift:])


def test_images_of_any_source_are_found(tmp_path):
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    values = _burnt()
    for number in range(2):
        array = zarr.create_array(
            tmp_path / "images" / f"{number}.zarr", shape=(ROWS, COLS), chunks=(20, 20), dtype="u1"
        )
        array[:] = 20 * values + number
        tifffile.imwrite(tmp_path / "masks" / f"{number}.tif", values)
    folders = {name: str(tmp_path / name) for name in ("images", "masks")}
    data = open_dataset(Data(**folders), NAMED)
    (sample,) = data.training
    np.testing.assert_array_equal(sample.raw(Window.whole(sample.shape))[..., 0] // 20, values)
    assert data.summary["training"]["pixels"] == {
        name: int((values == value).sum()) for value, name in enumerate(("ground", *SHAPES))
    }


def _table(tmp_path, *lines):
    path = tmp_path / "pairs.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_table_names_images_groups_and_patients(tmp_path):
    (tmp_path / "data").mkdir()
    for name in "abcdef":
        _image(tmp_path / "data" / f"{name}.tif")
        tifffile.imwrite(tmp_path / "data" / f"{name}_mask.tif", _burnt())
    rows = [
        f"data/{n}.tif,data/{n}_mask.tif,{g},{p}"
        for n, g, p in zip("abcdef", "xxxxyy", "112345", strict=True)
    ]
    path = _table(tmp_path, "image,mask,group,patient", *rows)
    for seed in range(6):
        data = open_dataset(Data(table=str(path), validation_fraction=0.5), NAMED, seed=seed)
        held = {sample.name for sample in data.validation}
        assert ("a" in held) == ("b" in held)
        assert len(held & {"e", "f"}) == 1
        assert {sample.group for sample in (*data.training, *data.validation)} == {"x", "y"}
    path = _table(tmp_path, "mask,image,split", *(
        f"data/{n}_mask.tif,data/{n}.tif,{'validation' if n in 'be' else 'training'}" for n in "abcdef"
    ))  # fmt: skip
    data = open_dataset(Data(table=str(path)), NAMED)
    assert [sample.name for sample in data.validation] == ["b", "e"]


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["image,maks", "a,b"], "unknown column 'maks' (did you mean 'mask'?)"),
        (["image", "a"], "has no column 'mask'"),
        (["image,mask"], "has no row"),
        (["image,mask", "a"], "line 2 has another number of columns"),
        (["image,mask", "a,b,c"], "line 2 has another number of columns"),
        (["image,mask", "a,"], "line 2 has no mask"),
        (["image,mask,split", "a,b,test"], "line 2 has the split 'test'"),
        (["image,mask,split", "a,b,training", "c,d,"], "needs a split in every row"),
        (["image,mask,split", "a,b,training", "c,d,training"], "both of training and validation"),
        (["image,mask", "a,b", "a,c"], "names"),
    ],
)
def test_a_table_that_can_not_be_is_refused(tmp_path, lines, words):
    with pytest.raises(InputError) as caught:
        read_table(_table(tmp_path, *lines))
    assert caught.value.id == "E-TRAIN-TABLE"
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("classes", "ignore", "value"),
    [
        (_classes(a=(1, 2), b=(2,)), (), 2),
        (_classes(a=(1,), b=()), (), 1),
        (_classes(a=("#FF0000",), b=("#ff0000",)), (), "#ff0000"),
        (_classes(a=("b",), b=()), (), "b"),
        (NAMED, (2,), 2),
        (_classes(a=(), b=(255,)), (255,), 255),
    ],
)
def test_what_stands_for_two_things_is_refused(classes, ignore, value):
    with pytest.raises(UsageError, match=f"^{value!r} in the labels would stand for two") as caught:
        LabelRules.of(Data(ignore=ignore), classes)
    assert caught.value.id == "E-TRAIN-VALUES"


def test_what_stands_for_one_thing_is_not():
    colors = [TrainingClass(name=name, color="#000000") for name in "abc"]
    colors.append(TrainingClass(name="d", values=("#000000", 255)))
    rules = LabelRules.of(Data(ignore=(9, 255 + 256)), colors)
    keys = {0: 0, "b": 1, "#000000": 3, 255: 3, 9: IGNORED, 511: IGNORED, 65535: IGNORED}
    assert {key: rules.legend.class_of[key] for key in keys} == keys
    assert sorted(rules.ignore) == [9, 511, 65535]


def test_images_of_one_patient_can_not_be_split(tmp_path):
    for name in "ab":
        _image(tmp_path / f"{name}.tif")
    path = _table(tmp_path, "image,mask,patient", "a.tif,a.tif,p", "b.tif,b.tif,p")
    with pytest.raises(TilsegError) as caught:
        open_dataset(Data(table=str(path)), _classes(a=(), b=()))
    # Not before the masks are looked at, which are none.
    assert caught.value.id == "E-TRAIN-CLASS"
    tifffile.imwrite(tmp_path / "m.tif", _burnt())
    path = _table(tmp_path, "image,mask,patient", "a.tif,m.tif,p", "b.tif,m.tif,p")
    with pytest.raises(InputError, match="all images are of the patient p"):
        open_dataset(Data(table=str(path)), NAMED)


def test_labels_are_none_where_the_image_has_no_data(tmp_path):
    pixels = np.full((ROWS, COLS), 3.5, np.float32)
    pixels[10:20, 30:50] = np.nan
    tifffile.imwrite(tmp_path / "a.tif", pixels + np.arange(COLS, dtype=np.float32))
    tifffile.imwrite(tmp_path / "m.tif", _burnt())
    given = Data(images=str(tmp_path / "a.tif"), masks=str(tmp_path / "m.tif"))
    data = open_dataset(given, NAMED)
    part = data.training[0]
    whole = Window.whole(part.shape)
    assert (part.target(whole)[10:20, 30:50] == IGNORE).all()
    np.testing.assert_array_equal(part.truth(whole), _burnt()[:, : part.shape.cols])
