"""The bundled model `nuclei`: its card is true, and it finds nuclei in stained tissue."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import tifffile
from conftest import ROOT

import tilseg
from tilseg.card import Normalization, read_card
from tilseg.instance_rule import Border
from tilseg.model import bundled_models

CLASSES = ("background", "nucleus", "border")


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
    assert card.instances == Border(radius=4, border=2)
    found = card.metrics["nuclei"]
    assert set(found) == {"fluorescence", "stained", "immuno", "brightfield", "real"}
    assert found["real"]["images"] == 10
    assert found["real"]["dice"] >= 0.9
    assert found["real"]["f1"] >= 0.75
    used = card.training["images"]
    assert not set(used["training"]) & set(used["validation"])
    # A made picture has the name of the one it was made from: both are on the same side.
    for part in used.values():
        of = {kind: {n.split("/")[1] for n in part if n.startswith(kind)} for kind in KINDS}
        assert of["immuno"] == of["stained"]


KINDS = ("immuno", "stained")


def test_runs_score_as_the_card_says(real_data, prepare, tmp_path):
    prepare.prepare(real_data / "nuclei_dsb2018", tmp_path)
    found = _script("score").scores(bundled_models()["nuclei"], tmp_path)
    for kind, figures in read_card(bundled_models()["nuclei"]).metrics["nuclei"].items():
        assert found[kind] == pytest.approx(figures, abs=5e-3)


def test_borders_are_two_pixels_and_leave_every_nucleus_some(prepare):
    numbers = np.zeros((31, 47), np.uint16)
    numbers[3:17, 5:20] = 4
    numbers[3:17, 20:41] = 9
    numbers[23, 5], numbers[25:28, 11:14] = 2, 7
    mask = prepare.with_borders(numbers)
    assert np.array_equal(mask > 0, numbers > 0)
    inner = np.zeros(mask.shape, bool)
    inner[5:15, 7:18] = inner[5:15, 22:39] = True
    inner[23, 5] = inner[26, 12] = True
    np.testing.assert_array_equal(mask == 1, inner)


def test_nuclei_of_the_sample_slide_are_found_and_brown_is_not(sample_data, tmp_path):
    # The truth is a rough threshold, which misses pale nuclei; see sample_data/README.md.
    source = tilseg.open_source(sample_data / "slide.tif")
    plan = tilseg.make_plan(source, tilseg.load_model("nuclei"), regions=None)
    tilseg.run(plan, tmp_path / "mask.tif", outputs=("tif",))
    part = np.s_[500:1011, 800:1569]
    found = tifffile.imread(tmp_path / "mask.tif", level=0)[part]
    truth = tifffile.imread(sample_data / "slide_truth.tif")[part]
    assert tilseg.evaluate((found > 0).astype(np.uint8), truth).classes[1].dice > 0.5


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
