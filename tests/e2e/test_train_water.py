"""The bundled model `water`: its card is true, and it finds the water of a scene it never saw."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import rasterio
from conftest import ROOT

import tilseg
from tilseg.card import Normalization, read_card
from tilseg.model import bundled_models, load_model
from tilseg.training.config import Data, TrainingClass
from tilseg.training.dataset import open_dataset
from tilseg.training.scores import validate

CLASSES = ("background", "water")


@pytest.fixture(scope="module")
def prepare():
    path = ROOT / "pipelines" / "water" / "prepare.py"
    spec = importlib.util.spec_from_file_location("prepare_water", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_card_says_what_the_model_is(prepare):
    path = bundled_models()["water"]
    card = read_card(path)
    assert path.stat().st_size < 1e6
    assert tuple(info.name for info in card.classes) == CLASSES
    assert (card.background, card.inexact, card.instances) == (0, None, None)
    assert card.band_names == prepare.BANDS
    assert (card.pixel_size, card.unit) == (10.0, "m")
    assert card.normalization == Normalization(kind="joint")
    assert "public-domain" in card.licence
    assert "NDWI" in card.description
    # The same places are held out of both years.
    used = card.training["images"]
    assert not set(used["training"]) & set(used["validation"])
    for part in used.values():
        years = [{n.split("/")[1] for n in part if n.startswith(y)} for y in ("2009", "2012")]
        assert years[0] == years[1] != set()


def test_validation_gives_the_figures_of_the_card(real_data, prepare, tmp_path):
    pictures = sorted((real_data / "geo_naip_wetlands").glob("*.tif"))
    assert prepare.prepare(tmp_path, pictures) == 24
    images, masks = (str(tmp_path / name) for name in ("images", "masks"))
    given = Data(images=images, masks=masks, normalization="joint", validation_fraction=0.25)
    data = open_dataset(given, [TrainingClass(name=name) for name in CLASSES])
    model = load_model("water", device="cpu")
    held = [sample.name for sample in data.validation]
    assert held == model.card.training["images"]["validation"]
    summary = validate(model, data.validation).summary()
    assert summary["dice"] == pytest.approx(model.card.metrics["dice"], abs=2e-3)
    assert summary["dice"] > 0.98
    for group, figures in model.card.metrics["groups"].items():
        assert summary["groups"][group]["dice"] == pytest.approx(figures["dice"], abs=2e-3)


def test_water_of_the_sample_scene_is_found(sample_data, tmp_path):
    """Drawn, of another sensor and another order of bands: nothing of it was trained on."""
    source = tilseg.open_source(sample_data / "scene.tif")
    plan = tilseg.make_plan(source, tilseg.load_model("water"), regions=None)
    assert plan.bands == (2, 1, 0, 3)
    tilseg.run(plan, tmp_path / "mask.tif")
    with (
        rasterio.open(tmp_path / "mask.tif") as mask,
        rasterio.open(sample_data / "scene_truth.tif") as file,
    ):
        found, truth = mask.read(1), file.read(1)
    known = truth != 255
    np.testing.assert_array_equal(found != 255, known)
    ours, theirs = found[known] == 1, truth[known] == 1
    assert 2 * np.sum(ours & theirs) / (ours.sum() + theirs.sum()) > 0.99


def test_weak_labels_are_water_land_and_what_the_index_can_not_tell(prepare):
    pixels = np.full((31, 37, 4), (90, 110, 80, 180), np.uint8)
    pixels[3:9, 5:20] = (60, 80, 70, 20)
    pixels[15:22, 11:30] = (20, 15, 12, 23)
    # Bright ground greener than infrared is no water, whatever NDWI says.
    pixels[25:30, :9] = (200, 215, 150, 205)
    # Something of every grey between, as in a picture, for a threshold to lie at.
    pixels[0, :, 3] = np.linspace(30, 170, 37)
    expected = np.zeros((31, 37), np.uint8)
    expected[3:9, 5:20] = prepare.WATER
    expected[15:22, 11:30] = prepare.UNKNOWN
    np.testing.assert_array_equal(prepare.weak_labels(pixels)[1:], expected[1:])


def test_pictures_are_averaged_and_cut_into_parts_that_cover_them_once(prepare):
    pixels = np.random.default_rng(0).integers(0, 256, (31, 43, 4), np.uint8)
    means = prepare.averaged(pixels)
    assert means.shape == (15, 21, 4)
    np.testing.assert_allclose(means[7, 9], pixels[14:16, 18:20].mean(axis=(0, 1)), atol=0.5)
    seen = np.zeros((15, 21), int)
    for rows, cols in prepare.parts(seen.shape):
        seen[rows, cols] += 1
    np.testing.assert_array_equal(seen, 1)
    assert len(prepare.parts(seen.shape)) == 12
