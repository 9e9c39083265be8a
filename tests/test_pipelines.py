"""The scripts of the pipelines, on made pictures."""

from __future__ import annotations

import importlib.util

import click
import numpy as np
import pytest
import tifffile
from conftest import ROOT
from PIL import Image
from scipy.ndimage import gaussian_filter, shift
from skimage.measure import label
from tiny import save_tiny_model

import tilseg
from tilseg.card import read_card
from tilseg.cli import train as verb
from tilseg.cli.training_file import make_config
from tilseg.training.table import read_table

PIPELINES = ROOT / "pipelines"
FILES = sorted(p for name in ("train", "finish") for p in PIPELINES.glob(f"*/{name}.toml"))


def _script(path):
    spec = importlib.util.spec_from_file_location(path.stem, PIPELINES / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(PIPELINES)
    return lambda name: _script(PIPELINES / name)


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(PIPELINES)) for path in FILES])
def test_what_a_training_file_says_is_taken(path):
    with click.Context(verb.command, info_name="train"):
        context = verb.command.make_context("train", [str(path), "images", "masks"])
    config = make_config(context, context.params["paths"])
    assert len(config.class_names) > 1
    assert config.output.description
    assert (path.parent / "README.md").is_file()


def test_both_eyes_of_a_child_are_on_one_side(script, tmp_path):
    source = tmp_path / "chase"
    source.mkdir()
    for name in ("01L", "01R", "06L", "07R"):
        Image.new("RGB", (31, 23)).save(source / f"Image_{name}.jpg")
        for number, suffix in enumerate(("1stHO", "2ndHO")):
            drawn = np.zeros((23, 31), bool)
            drawn[number] = True
            Image.fromarray(drawn).save(source / f"Image_{name}_{suffix}.png")
    assert script("vessels/prepare.py").prepare(source, tmp_path / "out") == 4
    pairs = read_table(tmp_path / "out" / "vessels.csv")
    assert [(pair.name, pair.part) for pair in pairs] == [
        ("01L", "training"),
        ("01R", "training"),
        ("06L", "validation"),
        ("07R", "validation"),
    ]
    for row, observer in enumerate(("first", "second")):
        mask = tifffile.imread(tmp_path / "out" / observer / "06L.tif")
        assert mask.dtype == np.uint8
        assert mask[row].all()
        assert mask.sum() == 31


def test_cells_behind_a_slanting_membrane_are_two(script, tmp_path):
    slice_ = np.full((13, 13), 255, np.uint8)
    np.fill_diagonal(slice_, 0)
    for part in ("image", "label"):
        (tmp_path / part).mkdir()
        Image.fromarray(slice_).save(tmp_path / part / "00.png")
    assert script("isbi_em/prepare.py").prepare(tmp_path, tmp_path / "out") == 1
    mask, cells = (tifffile.imread(tmp_path / "out" / p / "00.tif") for p in ("masks", "cells"))
    np.testing.assert_array_equal(mask, slice_ > 0)
    assert cells.max() == 2
    # The image is where its labels are, not the labels where the image is.
    image = np.asarray(Image.open(tmp_path / "out" / "images" / "00.png"))
    expected = shift(slice_.astype(float), (-0.6, -0.2), order=3, mode="mirror")
    np.testing.assert_allclose(image, np.clip(expected, 0, 255), atol=0.5)


def test_labels_that_lie_off_their_image_are_noticed(script):
    scene = gaussian_filter(np.random.default_rng(0).normal(size=(91, 113)), 2)
    image = np.uint8(np.clip(128 + 400 * scene, 0, 255))
    labels = np.where(shift(scene, (-0.6, 0.4), order=3, mode="mirror") > 0, 255, 0)
    offset = script("isbi_em/offset.py")
    np.testing.assert_allclose(offset.offset([image], [labels]), (-0.6, 0.4), atol=0.05)
    assert np.array_equal(offset.moved(image, (2, -3))[2:, :-3], image[:-2, 3:])


def test_the_threshold_that_closes_a_gap_scores_best(script):
    certain = np.full((41, 53), 250, np.uint8)
    certain[:, 20:23] = 60
    certain[17:19, 20:23] = 0.62 * 255
    mask = np.ones(certain.shape, np.uint8)
    mask[:, 20:23] = 0
    threshold = script("isbi_em/threshold.py")
    found = threshold.errors(certain, mask, label(mask, connectivity=1).astype(np.uint16))
    closed = np.array(threshold.THRESHOLDS) > 0.62
    assert 0 < closed.sum() < len(closed)
    assert (found[closed] == 0).all()
    # Both cells are one: 18 and 30 of 48 columns.
    joined = 1 - 2 * (18**2 + 30**2) / (18**2 + 30**2 + 48**2)
    np.testing.assert_allclose(found[~closed][:, :2], joined, atol=0.03)
    assert (found[~closed][:, 2] > 0).all()


def test_only_buildings_are_buildings_and_other_colours_are_not_labelled(script):
    colours = [(60, 16, 152), (132, 41, 246), (155, 155, 155), (60, 16, 151), (0, 0, 0)]
    mask = script("buildings/prepare.py").buildings(np.array([colours], np.uint8))
    assert mask.tolist() == [[1, 0, 0, 255, 255]]


def test_held_out_pictures_are_scored_together(script, tmp_path):
    held_out = script("held_out.py")
    model = tmp_path / "tiny.safetensors"
    save_tiny_model(model)
    card = read_card(model)
    names = {"training": ["x/c"], "validation": ["x/a", "y/b"]}
    held_out.write_card(model, card.model_copy(update={"training": {"images": names}}))
    assert held_out.held_out(model) == ["x/a", "y/b"]
    assert held_out.held_out(model, ["y"]) == ["y/b"]
    rng = np.random.default_rng(0)
    masks = {}
    for name, shape in (("x/a", (61, 83)), ("y/b", (47, 101))):
        for part in ("images", "truth"):
            (tmp_path / part / name).parent.mkdir(parents=True, exist_ok=True)
        image = rng.integers(0, 255, (*shape, 3), np.uint8)
        truth = rng.integers(0, len(card.classes), shape).astype(np.uint8)
        tifffile.imwrite(tmp_path / "images" / f"{name}.tif", image, photometric="rgb")
        tifffile.imwrite(tmp_path / "truth" / f"{name}.tif", truth)
        source = tilseg.open_source(image)
        plan = tilseg.make_plan(source, tilseg.load_model(model), regions=None)
        tilseg.run(plan, tmp_path / "mask.tif", outputs=("tif",))
        masks[name] = tifffile.imread(tmp_path / "mask.tif", level=0), truth
        (tmp_path / "mask.tif").unlink()
    found = held_out.scores(model, tmp_path / "images", tmp_path / "truth", names["validation"])
    predicted, truth = (
        np.concatenate([pair[i].ravel() for pair in masks.values()]) for i in (0, 1)
    )
    figures = held_out.figures(found.values())
    assert figures["pictures"] == 2
    assert figures["pixel_error"] == pytest.approx((predicted != truth).mean(), abs=1e-4)
    expected = [
        2 * ((predicted == c) & (truth == c)).sum() / ((predicted == c).sum() + (truth == c).sum())
        for c in range(len(card.classes))
    ]
    assert figures["dice"] == pytest.approx(expected, abs=1e-4)
