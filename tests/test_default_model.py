"""Which bundled model an image gets, and what is refused."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import rasterio
from tiny import save_tiny_model

from tilseg.bands import has_bands
from tilseg.card import read_card
from tilseg.cli.main import main
from tilseg.default_model import default_model
from tilseg.errors import ModelError
from tilseg.model import bundled_models
from tilseg.source import open_source

NAMED = ("blue", "green", "red", "near infrared")


def _map(folder, *, bands=4, names=(), crs="EPSG:32614", name="map.tif"):
    pixels = np.random.default_rng(0).integers(1, 255, (bands, 53, 71), np.uint8)
    grid = rasterio.Affine(10, 0, 500000, 0, -10, 5200000)
    options = {"driver": "GTiff", "height": 53, "width": 71, "count": bands, "dtype": "uint8"}
    options["photometric"] = "minisblack"  # else GDAL writes the last of four bands as alpha
    with rasterio.open(folder / name, "w", **options, crs=crs, transform=grid) as file:
        file.write(pixels)
        if names:
            file.descriptions = names
    return folder / name


def test_both_samples_get_their_model(sample_data):
    assert default_model(open_source(sample_data / "slide.tif")) == "nuclei"
    assert default_model(open_source(sample_data / "scene.tif")) == "water"


@pytest.mark.parametrize(
    ("bands", "names", "chosen", "crs"),
    [
        # Unnamed, four in the model's order.
        (4, (), None, "EPSG:32614"),
        (4, (), None, "EPSG:4326"),
        # More, but named; or the user says which.
        (5, ("coastal", *NAMED), None, "EPSG:32614"),
        (7, (), (3, 2, 1, 4), "EPSG:3857"),
        (3, (), (1, 1, 2, 3), "EPSG:3857"),
    ],
)
def test_maps_get_water(tmp_path, bands, names, chosen, crs):
    source = open_source(_map(tmp_path, bands=bands, names=names, crs=crs))
    assert default_model(source, chosen) == "water"


@pytest.mark.parametrize(("bands", "chosen"), [(3, None), (1, (1, 1, 1)), (4, (1, 2, 3))])
def test_images_without_a_map_get_nuclei(bands, chosen):
    assert default_model(open_source(np.ones((41, 59, bands), np.uint8)), chosen) == "nuclei"


def test_what_fits_neither_is_refused_and_says_what_each_takes(tmp_path):
    unnamed = open_source(_map(tmp_path, bands=3))
    with pytest.raises(ModelError) as map_of_three:
        default_model(unnamed)
    assert map_of_three.value.exit_code == 6
    assert str(map_of_three.value) == (
        f"{tmp_path / 'map.tif'}: an image on a map with 3 bands fits no model in the package "
        "(nuclei: 3 bands, not on a map; "
        "water: 4 bands (red, green, blue, near infrared), on a map); "
        "give one with --model, or its bands with --bands"
    )
    for pixels in (np.ones((41, 59), np.uint8), np.ones((41, 59, 4), np.uint8)):
        with pytest.raises(ModelError, match=r"not on a map with [14] bands? fits no model"):
            default_model(open_source(pixels))
    lacking = open_source(_map(tmp_path, bands=5, names=("a", "b", "red", "green", "blue")))
    with pytest.raises(ModelError, match="with 5 bands"):
        default_model(lacking)


def test_names_are_asked_where_the_number_is_another(tmp_path):
    water, nuclei = (read_card(bundled_models()[name]) for name in ("water", "nuclei"))
    five = open_source(_map(tmp_path, bands=5, names=("coastal", *NAMED)))
    assert has_bands(five, water)
    # Its card names none.
    assert not has_bands(five, nuclei)


def _run(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main([*map(str, arguments)])
    return ended.value.code, capsys.readouterr()


def test_a_run_says_which_it_took_and_its_receipt_too(tmp_path, monkeypatch, sample_data, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copy(sample_data / "scene.tif", tmp_path)
    code, printed = _run(capsys, "run", "scene.tif", "-o", "own.tilseg")
    assert code == 0
    assert "model water, for an image on a map (--model takes another)\n" in printed.err
    assert "water" in printed.out
    receipt = json.loads((tmp_path / "own.tilseg" / "run.json").read_text())
    assert receipt["model"]["name"] == "water"
    # By its name it is the same run.
    code, printed = _run(capsys, "run", "scene.tif", "--model", "water", "-o", "own.tilseg")
    assert code == 0
    assert "already complete" in printed.out
    assert "for an image on a map" not in printed.err


def test_a_model_that_is_named_wins(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save_tiny_model(tmp_path / "tiny.safetensors")
    _map(tmp_path, bands=3)
    code, printed = _run(capsys, "plan", "map.tif", "--model", "tiny.safetensors")
    assert code == 0
    assert "tiny: halo" in printed.out
    code, printed = _run(capsys, "plan", "map.tif")
    assert code == 6
    assert printed.err.startswith("error[E-MODEL-DEFAULT]: ")
    assert printed.err.count("\n") == 1
