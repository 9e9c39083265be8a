"""Validation is `tilseg run` and `tilseg evaluate`, and what it says of several images adds up."""

from __future__ import annotations

import resource
import tempfile

import numpy as np
import pytest
import tifffile
import torch
from training_shapes import sample_of, shapes

import tilseg
from tilseg.card import Card, ClassInfo, Normalization
from tilseg.errors import OutputError
from tilseg.metrics.pooled import pooled
from tilseg.models.network import save_model
from tilseg.models.torch_model import TorchModel
from tilseg.models.unet import build
from tilseg.source import open_source
from tilseg.statistics import band_statistics
from tilseg.training.samples import IGNORE, make_sample
from tilseg.training.scores import Scores, validate
from tilseg.truth.raster import open_raster


def _model(classes=2, background=0):
    torch.manual_seed(0)
    parameters = {"bands": 1, "classes": classes, "depth": 2, "width": 4, "norm": "batch"}
    network = build(parameters).eval()
    field = network.field
    card = Card(
        name="test",
        architecture="unet",
        parameters=parameters,
        bands=1,
        normalization=Normalization(kind="image"),
        head="softmax",
        classes=tuple(ClassInfo(name=f"c{k}", color=f"#0000{16 * k:02x}") for k in range(classes)),
        background=background,
        halo=field.halo,
        stride=field.stride,
        offset=field.offset,
    )
    return network, card


def test_validation_is_the_network_on_the_whole_image(monkeypatch):
    image, labels = shapes(131, 173, 5)
    labels[:20] = IGNORE
    network, card = _model()
    model, sample = TorchModel(network, card), sample_of(image, labels)
    field = model.field
    rows, cols = (field.input_for(side) for side in image.shape)
    halo = field.halo
    padded = np.pad(image, ((halo, rows - halo - 131), (halo, cols - halo - 173)), mode="reflect")
    whole = model.predict(padded[None, ..., None], sample.statistics).labels[0, :131, :173]
    monkeypatch.setattr("tilseg.training.scores._TILE", 24)
    seen = []
    found = validate(model, [sample], lambda _, predicted: seen.append(np.array(predicted))).all
    np.testing.assert_array_equal(seen[0], whole)
    for truth in (0, 1):
        for predicted in (0, 1):
            same = ((labels == truth) & (whole == predicted)).sum()
            assert found.confusion[truth][predicted] == same
    assert found.pixels == (131 - 20) * 173


@pytest.mark.parametrize("background", [0, None])
def test_validation_says_what_evaluate_says_of_the_run(tmp_path, background):
    """With nodata in the image, unlabelled pixels, and a class that nobody predicts."""
    image, labels = shapes(157, 211, 3)
    pixels = image.astype(np.float32)
    pixels[30:60, 40:90] = np.nan
    labels[100:, 150:] = IGNORE
    labels[5:9, 5:9] = 2
    network, card = _model(3, background)
    path = tmp_path / "model.safetensors"
    save_model(network, card, path)
    tifffile.imwrite(tmp_path / "image.tif", pixels)
    tifffile.imwrite(tmp_path / "truth.tif", labels)
    source = open_source(tmp_path / "image.tif")
    model = tilseg.load_model(path, device="cpu")
    tilseg.run(tilseg.make_plan(source, model, tile=64, regions=None), tmp_path / "out.tilseg")
    expected = tilseg.evaluate(tmp_path / "out.tilseg", tmp_path / "truth.tif").to_json()
    sample = make_sample(
        "image",
        source,
        open_raster(tmp_path / "truth.tif", ignore=(IGNORE,)),
        statistics=band_statistics(source, card.normalization, bands=(0,)),
    )
    found = validate(model, [sample]).all.to_json()
    for name in ("prediction", "truth", "notes"):
        del found[name], expected[name]
    present = {each["value"] for each in expected["classes"]}
    assert len(present) == 3
    assert found == expected


def test_scores_are_pooled_and_told_apart_by_group():
    images, predictions = _maps()
    scores = [tilseg.evaluate(p, t) for t, p in zip(images, predictions, strict=True)]
    # Side by side, apart from each other by a column that is ignored.
    gap = np.full((40, 3), 255, np.uint8)
    beside = [np.hstack([maps[0], gap, maps[1], gap, maps[2]]) for maps in (predictions, images)]
    whole, found = tilseg.evaluate(*beside).to_json(), pooled(scores).to_json()
    assert pooled(scores[:1]) is scores[0]
    partitions = found.pop("partition"), whole.pop("partition")
    assert partitions[0]["pixel_error"] == partitions[1]["pixel_error"]
    assert partitions[0]["split"] == pytest.approx(np.mean([s.partition.split for s in scores]))
    for name in ("prediction", "truth", "width", "height", "ignored", "not_predicted", "notes"):
        del found[name], whole[name]
    assert _rounded(found) == _rounded(whole)
    summary = Scores(tuple(scores), ("a", "b", "b")).summary()
    assert summary["images"] == 3
    dice = [score.classes[1].dice for score in scores]
    assert summary["dice_mean_of_images"] == round(np.mean(dice), 4)
    assert summary["groups"]["a"]["dice"] == round(dice[0], 4)
    assert summary["groups"]["b"]["images"] == 2
    assert summary["dice"] == round(whole["classes"][1]["dice"], 4)
    assert summary["mean_dice"] == round(whole["mean_dice"], 4)
    assert summary["object_f1"] == round(whole["objects"]["f1"], 4)
    assert "groups" not in Scores(tuple(scores), ("",) * 3).summary()


def _maps():
    """Three masks of blobs, and predictions that miss and make up some."""
    rng = np.random.default_rng(0)
    masks, predictions = [], []
    for _ in range(3):
        coarse = (rng.random((8, 9)) < 0.3).astype(np.uint8)
        other = np.where(rng.random(coarse.shape) < 0.2, 1 - coarse, coarse)
        masks.append(np.kron(coarse, np.ones((5, 7), np.uint8)))
        predictions.append(np.roll(np.kron(other, np.ones((5, 7), np.uint8)), 1, 0))
    return masks, predictions


def _rounded(value):
    if isinstance(value, dict):
        return {key: _rounded(own) for key, own in value.items()}
    if isinstance(value, list):
        return [_rounded(own) for own in value]
    return round(value, 12) if isinstance(value, float) else value


def test_a_full_disk_is_said_and_kills_nobody():
    """It is where temporary files are, in which the classes of a large image are kept."""
    network, card = _model()
    sample = sample_of(*shapes(131, 173, 5))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (131 * 173 // 2, before[1]))
        with pytest.raises(OutputError) as caught:
            validate(TorchModel(network, card), [sample])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.id == "E-OUTPUT-WRITE"
    assert tempfile.gettempdir() in caught.value.message
