"""The bundled model `nuclei`: its card is true, and it finds nuclei in stained tissue."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import tifffile
from conftest import ROOT

from tilseg.card import Normalization, read_card
from tilseg.instance_rule import Watershed
from tilseg.metrics.objects import count_objects
from tilseg.model import bundled_models, load_model
from tilseg.source import open_source
from tilseg.statistics import band_statistics
from tilseg.training.config import Data, TrainingClass
from tilseg.training.dataset import open_dataset
from tilseg.training.samples import in_memory, make_sample
from tilseg.training.scores import validate
from tilseg.truth.raster import open_raster
from tilseg.window import Window

CLASSES = ("background", "nucleus")


def _script(name):
    spec = importlib.util.spec_from_file_location(
        name, ROOT / "pipelines" / "nuclei" / f"{name}.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def prepare():
    return _script("prepare")


@pytest.fixture(scope="module")
def model():
    return load_model("nuclei", device="cpu")


def test_the_card_says_what_the_model_is():
    path = bundled_models()["nuclei"]
    card = read_card(path)
    assert path.stat().st_size < 8e6
    assert tuple(info.name for info in card.classes) == CLASSES
    assert card.background == 0
    assert card.bands == 3
    assert card.normalization == Normalization(kind="image", orient="bright-on-dark")
    assert card.licence
    assert card.description
    assert card.inexact is None
    assert set(card.metrics["groups"]) == {"fluorescence", "immuno", "stained"}
    assert set(card.metrics["real"]["groups"]) == {"fluorescence", "stained"}
    assert set(card.metrics["apart"]["groups"]) == {"brightfield"}
    assert card.metrics["real"]["dice"] > 0.88
    assert card.instances == Watershed(depth=0.75)
    objects = card.metrics["objects"]
    assert objects["told_apart"]["f1"] > objects["joined"]["f1"] + 0.05
    assert objects["told_apart"]["aji"] > objects["joined"]["aji"] + 0.2
    used = card.training["images"]
    assert not set(used["training"]) & set(used["validation"])
    # A made picture has the name of the one it was made from: both are on the same side.
    for part in used.values():
        of = {kind: {n.split("/")[1] for n in part if n.startswith(kind)} for kind in KINDS}
        assert of["immuno"] == of["stained"]


KINDS = ("immuno", "stained")


def test_validation_gives_the_figures_of_the_card(real_data, prepare, model, tmp_path):
    prepare.prepare(real_data / "nuclei_dsb2018", tmp_path)
    images, masks = (str(tmp_path / name) for name in ("images", "masks"))
    classes = [TrainingClass(name=name) for name in CLASSES]
    data = open_dataset(Data(images=images, masks=masks, orient="bright-on-dark"), classes)
    assert [sample.name for sample in data.validation] == model.card.training["images"][
        "validation"
    ]
    summary = validate(model, data.validation).summary()
    assert summary["dice"] == pytest.approx(model.card.metrics["dice"], abs=2e-3)
    for group, figures in model.card.metrics["groups"].items():
        assert summary["groups"][group]["dice"] == pytest.approx(figures["dice"], abs=2e-3)
    real = validate(model, [sample for sample in data.validation if sample.group != "immuno"])
    assert real.dice == pytest.approx(model.card.metrics["real"]["dice"], abs=2e-3)
    assert real.dice > 0.88


def test_objects_score_as_the_card_says(real_data, prepare, model, tmp_path):
    prepare.prepare(real_data / "nuclei_dsb2018", tmp_path)
    labels = real_data / "nuclei_dsb2018" / "labels"
    found = _script("score").object_scores(bundled_models()["nuclei"], tmp_path, labels)
    expected = model.card.metrics["objects"]
    assert found["images"] == expected["images"] == 10
    for way in ("joined", "told_apart"):
        assert found[way] == pytest.approx(expected[way], abs=5e-3)


def test_overlaps_of_label_images_are_counted():
    predicted = np.array([[0, 1, 1], [2, 2, 0]], np.uint32)
    truth = np.array([[0, 7, 7], [7, 9, 0]], np.uint16)
    counts = count_objects(_script("score").overlaps(predicted, truth), 1)[1]
    # 1 is two thirds of 7; 2 shares half with 9, which is no more than half.
    assert (counts.true_positives, counts.false_positives, counts.false_negatives) == (1, 1, 1)
    assert counts.aji == pytest.approx((2 + 1) / (3 + 2))


def test_nuclei_of_the_sample_slide_are_found_and_brown_is_not(sample_data, model):
    # The truth is a rough threshold, which misses pale nuclei; see sample_data/README.md.
    image = open_source(tifffile.imread(sample_data / "slide.tif"))
    mask = open_raster(tifffile.imread(sample_data / "slide_truth.tif"))
    statistics = band_statistics(image, model.card.normalization, bands=range(3))
    region = Window(500, 800, 511, 769)
    sample = in_memory(make_sample("slide", image, mask, region=region, statistics=statistics))
    assert validate(model, [sample]).dice > 0.5


def test_brown_is_laid_beside_nuclei_which_stay_blue(prepare):
    picture = np.full((61, 83, 3), (200, 180, 210), np.uint8)
    nuclei = np.zeros((61, 83), bool)
    nuclei[20:40, 30:60] = True
    picture[nuclei] = (90, 50, 140)
    brown = prepare.with_brown(picture, nuclei, np.random.default_rng(0))
    assert brown.shape == picture.shape
    assert brown.dtype == np.uint8
    red_over_blue = brown[..., 0].astype(float) - brown[..., 2]
    darkest = ~nuclei & (brown[..., 1] < np.percentile(brown[..., 1][~nuclei], 5))
    assert red_over_blue[darkest].mean() > 10
    assert red_over_blue[25:35, 35:55].mean() < -10
    again = prepare.with_brown(picture, nuclei, np.random.default_rng(0))
    np.testing.assert_array_equal(brown, again)
