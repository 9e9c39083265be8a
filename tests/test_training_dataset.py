"""Images and masks: found, paired, split, checked. Each refusal says what to do."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from tilseg.errors import InputError
from tilseg.statistics import band_statistics
from tilseg.training import dataset
from tilseg.training.config import Data, TrainingClass
from tilseg.training.dataset import open_dataset
from tilseg.training.pairs import Pair, find_pairs
from tilseg.training.samples import IGNORE
from tilseg.training.split import split_ends, split_pairs
from tilseg.window import Size, Window

CLASSES = ("background", "thing")


def _write(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, array, **options)


def _picture(seed, rows=23, cols=31, dtype=np.uint8):
    rng = np.random.default_rng(seed)
    return rng.integers(1, 200, (rows, cols)).astype(dtype)


@pytest.fixture
def folders(tmp_path):
    """Five images of 23 x 31 with masks of both classes."""
    for number in range(5):
        image = _picture(number)
        _write(tmp_path / "images" / f"p{number}.tif", image)
        _write(tmp_path / "masks" / f"p{number}.tif", (image > 100).astype(np.uint8))
    return tmp_path / "images", tmp_path / "masks"


def _open(images, masks, *, classes=CLASSES, seed=0, **data):
    given = Data(images=str(images), masks=str(masks), **data)
    return open_dataset(given, [TrainingClass(name=name) for name in classes], seed=seed)


def _refusal(folders, **options):
    with pytest.raises(InputError) as caught:
        _open(*folders, **options)
    assert "\n" not in str(caught.value)
    return caught.value


def test_pixels_and_labels_are_those_of_the_files(folders):
    data = _open(*folders, seed=3)
    assert len(data.training) == 4
    assert len(data.validation) == 1
    for sample in (*data.training, *data.validation):
        image = tifffile.imread(folders[0] / f"{sample.name}.tif")
        whole = Window.whole(sample.shape)
        np.testing.assert_array_equal(sample.raw(whole)[..., 0], image)
        np.testing.assert_array_equal(sample.target(whole), image > 100)
        normal = (image - image.mean()) / image.std()
        np.testing.assert_allclose(sample.input(whole)[..., 0], normal, atol=1e-5)


def test_constants_are_mean_and_deviation_of_all_training_pixels(folders):
    data = _open(*folders, normalization="constants")
    pixels = [tifffile.imread(folders[0] / f"{sample.name}.tif") for sample in data.training]
    assert data.normalization.mean == pytest.approx([np.mean(pixels)])
    assert data.normalization.std == pytest.approx([np.std(pixels)])
    assert data.normalization.dtype == "uint8"


def test_constants_are_of_one_dtype_or_of_none(folders, tmp_path):
    _write(folders[0] / "p0.tif", _picture(0, dtype=np.uint16))
    table = tmp_path / "table.csv"

    def opened(*held):
        parts = ("validation" if number in held else "training" for number in range(5))
        rows = (f"images/p{n}.tif,masks/p{n}.tif,{part}" for n, part in enumerate(parts))
        table.write_text("\n".join(["image,mask,split", *rows]))
        data = Data(table=str(table), normalization="constants")
        return open_dataset(data, [TrainingClass(name=name) for name in CLASSES])

    assert opened(1).normalization.dtype is None
    with pytest.raises(InputError, match=r"p0\.tif: pixels are uint16, .* of uint8") as caught:
        opened(0)
    assert caught.value.id == "E-INPUT-SCALE"


def test_of_blocks_too_every_image_counts_once(tmp_path, monkeypatch):
    """One has three blocks, the other thirty: mean and deviation are those of two images."""
    pixels = [_picture(0, 256, 768), _picture(1, 1280, 1536) // 2]
    for number, image in enumerate(pixels):
        _write(tmp_path / "images" / f"p{number}.tif", image)
        _write(tmp_path / "masks" / f"p{number}.tif", (image > 50).astype(np.uint8))
    asked = []
    monkeypatch.setattr(
        dataset, "band_statistics", lambda *a, **k: asked.append(a) or band_statistics(*a, **k)
    )
    data = _open(tmp_path / "images", tmp_path / "masks", split="blocks", normalization="constants")
    assert len(data.training) > 20
    assert len(asked) == 4  # for the constants, and for the samples
    norm = data.normalization
    assert norm.mean[0] == pytest.approx(np.mean([image.mean() for image in pixels]), rel=0.01)


def test_an_image_of_one_block_is_named_with_a_way_out(folders):
    error = _refusal(folders, split="blocks")
    assert error.id == "E-TRAIN-SPLIT"
    assert f"{folders[0]}/p0.tif: 23 x 31 pixels can't be split into blocks of 256" in str(error)
    assert "a smaller --block" in str(error)


def test_a_single_image_is_split_without_a_shared_pixel(tmp_path):
    image = _picture(1, 23, 61)
    _write(tmp_path / "a.tif", image)
    _write(tmp_path / "b.tif", (image > 100).astype(np.uint8))
    data = _open(tmp_path / "a.tif", tmp_path / "b.tif")
    parts = [part.raw(Window.whole(part.shape)) for part in (*data.training, *data.validation)]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1)[..., 0], image)
    assert data.validation[0].shape == Size(23, 12)
    # What lies beyond the cut is mirrored, not read: no step sees a held-out pixel.
    beyond = data.training[0].raw(Window(0, 49, 23, 5))
    np.testing.assert_array_equal(beyond[..., 0], image[:, 47:42:-1])


@given(rows=st.integers(1, 300), cols=st.integers(1, 300), fraction=st.floats(0.01, 0.99))
def test_the_parts_of_a_single_image_tile_it(rows, cols, fraction):
    if max(rows, cols) < 2:
        with pytest.raises(InputError, match="two pixels"):
            split_ends(Size(rows, cols), fraction)
        return
    seen = np.zeros((rows, cols), int)
    for (part,) in split_ends(Size(rows, cols), fraction):
        assert part.window == part.counted
        assert part.window.size.area > 0
        seen[part.window.slices] += 1
    assert (seen == 1).all()


@given(
    counts=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    fraction=st.floats(0.05, 0.9),
    seed=st.integers(0, 99),
)
def test_every_group_is_split_and_no_pair_is_in_both_parts(counts, fraction, seed):
    pairs = [
        Pair(f"g{group}/n{number}", "", "", f"g{group}")
        for group, count in enumerate(counts)
        for number in range(count)
    ]
    if len(pairs) < 2:
        return
    training, validation = split_pairs(pairs, fraction, seed)
    assert sorted(p.name for p in training + validation) == sorted(p.name for p in pairs)
    assert training
    assert validation
    assert split_pairs(pairs, fraction, seed) == (training, validation)
    if len(counts) < len(pairs):
        for group, count in enumerate(counts):
            held = sum(pair.group == f"g{group}" for pair in validation)
            assert held == (min(max(1, round(fraction * count)), count - 1) if count > 1 else 0)


def test_groups_of_equal_names_are_split_alike():
    pairs = [Pair(f"{group}/{n}", "", "", group) for group in ("a", "made") for n in range(14)]
    _, validation = split_pairs(pairs, 0.2, 0)
    held = {pair.name.split("/")[1] for pair in validation}
    assert len(validation) == 2 * len(held) == 6


def test_subfolders_and_double_suffixes_pair(tmp_path):
    for name in ("x/one.ome.tif", "two.tiff"):
        _write(tmp_path / "images" / name, _picture(0))
    for name in ("x/one.tif", "two.tif"):
        _write(tmp_path / "masks" / name, _picture(0) % 2)
    (tmp_path / "masks" / "two.tif.aux.xml").write_text("<a/>")
    pairs = find_pairs(tmp_path / "images", tmp_path / "masks")
    assert [(pair.name, pair.group) for pair in pairs] == [("two", ""), ("x/one", "x")]


def test_unlabelled_pixels_and_nodata_have_no_label(tmp_path):
    for number in range(2):
        image = _picture(number, dtype=np.float32)
        mask = (image > 100).astype(np.uint16)
        mask[0] = 65535
        image[1, 2] = np.nan
        _write(tmp_path / "images" / f"{number}.tif", image)
        _write(tmp_path / "masks" / f"{number}.tif", mask)
    data = _open(tmp_path / "images", tmp_path / "masks")
    sample = data.training[0]
    labels = sample.target(Window.whole(sample.shape))
    assert (labels[0] == IGNORE).all()
    assert labels[1, 2] == IGNORE
    assert (labels == IGNORE).sum() == 32
    assert np.isfinite(sample.input(Window.whole(sample.shape))).all()


def test_a_boolean_mask_is_two_classes(folders):
    for path in folders[1].iterdir():
        tifffile.imwrite(path, tifffile.imread(path).astype(bool))
    counts = _open(*folders).training[0].class_pixels()
    assert counts[:2].all()
    assert counts.sum() == 23 * 31


def test_large_images_are_read_by_windows(folders, monkeypatch):
    held = _open(*folders).training[0]
    monkeypatch.setattr("tilseg.training.dataset._MEMORY", 0)
    read = _open(*folders).training[0]
    window = Window(-5, 17, 19, 40)
    np.testing.assert_array_equal(read.input(window), held.input(window))
    np.testing.assert_array_equal(read.target(window), held.target(window))


def test_an_undeclared_value_is_named(folders):
    mask = tifffile.imread(folders[1] / "p3.tif")
    mask[4, 5] = 7
    mask[6, 6] = 2
    tifffile.imwrite(folders[1] / "p3.tif", mask)
    error = _refusal(folders)
    assert error.id == "E-TRAIN-CLASS"
    assert "2, 7" in str(error)
    assert "background, thing" in str(error)
    assert _open(*folders, classes=tuple("abcdefgh")).bands == 1


def test_a_mask_of_another_size_is_refused(folders):
    tifffile.imwrite(folders[1] / "p1.tif", np.zeros((23, 30), np.uint8))
    error = _refusal(folders)
    assert error.id == "E-TRAIN-SIZE"
    assert "23 x 30" in str(error)
    assert "23 x 31" in str(error)


@pytest.mark.parametrize(
    "mask", [np.zeros((23, 31), np.float32), np.zeros((23, 31, 3), np.uint8)], ids=["float", "rgb"]
)
def test_a_mask_that_holds_no_class_values_is_refused(folders, mask):
    photometric = "rgb" if mask.ndim == 3 else "minisblack"
    tifffile.imwrite(folders[1] / "p1.tif", mask, photometric=photometric)
    assert _refusal(folders).id in ("E-CLASSES-DTYPE", "E-CLASSES-BANDS")


def test_masks_of_one_class_are_refused(folders):
    for path in folders[1].iterdir():
        tifffile.imwrite(path, np.where(_picture(0) > 100, 255, 0).astype(np.uint8))
    error = _refusal(folders)
    assert error.id == "E-TRAIN-ONE-CLASS"
    assert "only the class background" in str(error)
    assert "255 means not labelled" in str(error)


def test_images_of_different_bands_are_refused(folders):
    rgb = np.zeros((23, 31, 3), np.uint8)
    tifffile.imwrite(folders[0] / "p2.tif", rgb, photometric="rgb")
    assert _refusal(folders).id == "E-TRAIN-BANDS"


def test_what_cannot_be_paired_is_refused(folders, tmp_path):
    (tmp_path / "empty").mkdir()
    assert _refusal((tmp_path / "empty", folders[1])).id == "E-TRAIN-EMPTY"
    assert _refusal((folders[0], tmp_path / "empty")).id == "E-TRAIN-EMPTY"
    assert _refusal((tmp_path / "none", folders[1])).id == "E-INPUT-MISSING"
    assert _refusal((folders[0], folders[1] / "p1.tif")).id == "E-TRAIN-PAIR"
    (folders[1] / "p4.tif").unlink()
    error = _refusal(folders)
    assert error.id == "E-TRAIN-PAIR"
    assert "p4.tif" in str(error)
    (folders[0] / "p4.tif").unlink()
    tifffile.imwrite(folders[0] / "p0.tiff", _picture(0))
    assert "p0.tif" in str(_refusal(folders))
