"""The bundled model `vessels`: its card is true."""

from __future__ import annotations

import importlib.util

import pytest
from conftest import ROOT

from tilseg.card import Normalization, read_card
from tilseg.model import bundled_models

HELD_OUT = ["06L", "06R", "07L", "07R"]


def _script(name):
    path = ROOT / "pipelines" / "vessels" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"vessels_{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_card_says_what_the_model_is():
    path = bundled_models()["vessels"]
    card = read_card(path)
    assert path.stat().st_size < 8e6
    assert [info.name for info in card.classes] == ["background", "vessel"]
    assert (card.bands, card.background, card.inexact, card.instances) == (3, 0, None, None)
    assert card.normalization == Normalization(kind="image")
    # CC BY 4.0 asks for who made the pictures and for the licence.
    assert "CHASE_DB1" in card.licence
    assert "CC BY 4.0" in card.licence
    assert "not for diagnosis" in card.description
    # Both eyes of a child are on one side.
    used = card.training["images"]
    assert used["validation"] == HELD_OUT
    assert not {name[:2] for name in used["training"]} & {name[:2] for name in used["validation"]}
    observers = card.metrics["observers"]
    assert observers["model_against_first"]["dice"] >= 0.83
    assert observers["second_against_first"]["dice"] > 0.7
    page = (ROOT / "pipelines" / "vessels" / "README.md").read_text()
    for figures in observers.values():
        assert f"| {figures['dice']:.3f} | {figures['dice_mean_of_images']:.3f} |" in page


def test_a_run_scores_as_the_card_says(real_data, tmp_path):
    assert _script("prepare").prepare(real_data / "retina_chasedb1", tmp_path) == 14
    model = bundled_models()["vessels"]
    found = _script("score").observers(model, tmp_path)
    for who, figures in read_card(model).metrics["observers"].items():
        assert found[who] == pytest.approx(figures, abs=2e-3)
