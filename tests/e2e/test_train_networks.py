"""Every architecture is trained for some steps and then segments an image."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
import torch
from click.testing import CliRunner
from training_shapes import shapes

from tilseg.card import read_card
from tilseg.cli.main import cli
from tilseg.model import ARCHITECTURES
from tilseg.models.settings import SETTINGS
from tilseg.sinks.zarr import MaskStore
from tilseg.window import Window

SMALL = [name for name in SETTINGS if name.endswith("-small")]


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """An image and its mask."""
    folder = tmp_path_factory.mktemp("scene")
    for name, array in zip(("image", "mask"), shapes(61, 83, 1), strict=True):
        tifffile.imwrite(folder / f"{name}.tif", array)
    return folder / "image.tif", folder / "mask.tif"


def call(*arguments):
    return CliRunner().invoke(cli, [str(each) for each in arguments], catch_exceptions=True)


def test_every_architecture_has_a_small_setting():
    assert {SETTINGS[name].architecture for name in SMALL} == set(ARCHITECTURES)


@pytest.mark.parametrize("name", SMALL)
def test_train_then_run(name, scene, tmp_path):
    model = tmp_path / "model.safetensors"
    trained = call(
        "train", *scene, "-o", model, "--network", name, "--steps=2", "--batch=1", "--patch=20"
    )
    assert trained.exit_code == 0, trained.output
    card = read_card(model)
    assert card.architecture == SETTINGS[name].architecture
    assert card.parameters == {"bands": 1, "classes": 2, **SETTINGS[name].parameters}

    output = tmp_path / "image.tilseg"
    arguments = ["run", scene[0], "--model", model, "-o", output, "--no-regions"]
    if card.inexact:
        refused = call(*arguments)
        assert refused.exception.id == "E-MODEL-INEXACT"
        assert card.inexact in refused.exception.message
        arguments.append("--allow-inexact")
    ran = call(*arguments)
    assert ran.exit_code == 0, ran.output
    mask = MaskStore.open(output / "mask.zarr")
    assert set(np.unique(mask.read(Window.whole(mask.shape)))) <= {0, 1}
