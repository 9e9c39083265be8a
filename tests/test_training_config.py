"""A training is one set of choices, whether a file or the command line makes them."""

from __future__ import annotations

import json

import click
import pytest

from tilseg.cli import train as verb
from tilseg.cli.training_file import make_config
from tilseg.cli.training_options import LISTS, PLACES
from tilseg.errors import UsageError
from tilseg.training.config import Config
from tilseg.training.settings import AUGMENTATIONS

FILE = """\
seed = 7
precision = "fp32"

[data]
images = "pictures"
masks = "outlines"
ignore = [7]
normalization = "joint"

[[classes]]
name = "background"

[[classes]]
name = "vessel"
color = "#cc0000"
weight = 5
values = [1, "artery", "#ff0000"]

[network]
name = "unetpp-small"
parameters = { halo = 44 }

[optimizer]
name = "sgd"
learning-rate = 0.01

[schedule]
warm-up = 0.1
steps = 200

[augmentation]
preset = "strong"
blur = 2.0

[output]
model = "vessels.safetensors"
"""


def _config(*arguments):
    with click.Context(verb.command, info_name="train"):
        context = verb.command.make_context("train", [str(argument) for argument in arguments])
    return make_config(context, context.params["paths"])


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "vessels.toml"
    path.write_text(FILE)
    return path


def test_a_file_says_what_a_training_is(file):
    config = _config(file)
    assert config.class_names == ("background", "vessel")
    assert config.class_weights == (1, 5)
    assert config.classes[1].values == (1, "artery", "#ff0000")
    assert config.data.ignore == (7,)
    assert config.network.parameters == {"halo": 44}
    assert config.optimizer.rate == 0.01
    assert config.schedule.warm_up == 0.1
    assert config.augmentation.blur == 2
    assert config.augmentation.zoom == AUGMENTATIONS["strong"].zoom
    assert config.patches == Config().patches
    assert config.seed == 7


def test_the_command_line_goes_over_the_file(file):
    config = _config(
        file, "a", "b", "--steps=9", "--class-weights=1,2", "--augment=medium", "--depth=2"
    )
    assert (config.data.images, config.data.masks) == ("a", "b")
    assert config.data.normalization == "joint"
    assert config.schedule.steps == 9
    assert config.schedule.warm_up == 0.1
    assert config.classes[1].weight == 2
    assert config.classes[1].color == "#cc0000"
    assert config.augmentation.blur == 2
    assert config.augmentation.zoom == AUGMENTATIONS["medium"].zoom
    assert config.network.arguments["depth"] == 2


@pytest.mark.parametrize("preset", ["", 'preset = "strong"\n'])
def test_a_list_of_the_augmentation_is_taken(tmp_path, preset):
    path = tmp_path / "zoomed.toml"
    path.write_text(f"[augmentation]\n{preset}zoom = [0.9, 1.1]\n")
    assert _config(path).augmentation.zoom == (0.9, 1.1)


def test_the_short_form_is_a_file_of_defaults(tmp_path):
    path = tmp_path / "short.toml"
    path.write_text('[data]\nimages = "a"\nmasks = "b"\n[output]\nmodel = "m.safetensors"\n')
    assert _config("a", "b", "-o", "m.safetensors") == _config(path)


def test_every_choice_of_the_command_line_is_one_of_the_file(tmp_path):
    given = {
        "--output": "m.safetensors", "--classes": "a,b", "--colors": "#000000,#0072b2",
        "--class-weights": "1,3", "--augment": "strong", "--network": "unet-2015", "--depth": 2,
        "--width": 8, "--head": "sigmoid", "--weights": "w.pth", "--steps": 5, "--minutes": 2.5,
        "--schedule": "poly", "--warm-up": 0.2, "--validations": 3, "--patience": 2,
        "--patch": 64, "--batch": 2, "--accumulate": 3, "--loss": "dice", "--optimizer": "sgd",
        "--learning-rate": 0.5, "--momentum": 0.9, "--weight-decay": 0.1, "--averaging": 0.5,
        "--validation-fraction": 0.3, "--normalization": "joint", "--orient": "bright-on-dark",
        "--seed": 4, "--precision": "fp32", "--device": "cpu", "--description": "d",
        "--licence": "CC0", "--split": "blocks", "--block": 300, "--balance": 0.25,
    }  # fmt: skip
    assert given.keys() == PLACES.keys() | LISTS.keys()
    lines = [f"{PLACES[flag]} = {json.dumps(given[flag])}" for flag in PLACES]
    lines.append('data.images = "x"\ndata.masks = "y"')
    lines.append(
        'classes = [{name = "a", color = "#000000", weight = 1},'
        ' {name = "b", color = "#0072b2", weight = 3}]'
    )
    path = tmp_path / "all.toml"
    path.write_text("\n".join(lines))
    config = _config(path)
    assert config == _config("x", "y", *(f"{flag}={value}" for flag, value in given.items()))
    plain = Config().model_dump()
    for flag, place in PLACES.items():
        if flag == "--augment":
            continue
        *sections, key = place.replace("-", "_").split(".")
        found, before = config.model_dump(), plain
        for section in sections:
            found, before = found[section], before[section]
        assert found[key] == given[flag] != before[key]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('sead = 1', "line 1: unknown key 'sead' (did you mean 'seed'?); allowed are data,"),
        ('[optimizer]\nlearnin-rate = 1', "line 2: unknown key 'learnin-rate' of [optimizer] "
         "(did you mean 'learning-rate'?); allowed are name, learning-rate,"),
        ('[optimizer]\nlearning_rate = 1', "unknown key 'learning_rate' of [optimizer]"),
        ('[patches]\nsize = 9\n[schedule]\nsize = 9', "line 4: unknown key 'size' of [schedule]"),
        ('[augmentation]\nzom = 1', "unknown key 'zom' of [augmentation] (did you mean 'zoom'?)"),
        ('[augmentation]\npreset = "heavy"', "preset 'heavy' is none of light, medium, strong"),
        ('[[classes]]\nname = "a"\ncolour = "#000000"', "unknown key 'colour' of [classes]"),
        ('[[classes]]\nname = "a"\n[[classes]]\nname = "a"', "different names"),
        ('[[classes]]\nname = "a"', "at least 2 items"),
        ('[schedule]\nsteps = "many"', "line 2: steps of [schedule]: input should be a valid int"),
        ('[schedule]\nsteps = true', "line 2: steps of [schedule]: input should be a valid int"),
        ('[schedule]\nsteps = 0', "line 2: steps of [schedule]: input should be greater than"),
        ('[network.parameters]\nbands = 5', "bands and classes are the data's"),
        ('[network]\nname = "unett"', "name of [network]: `tilseg models` lists the networks"),
        ('[optimizer]\nname = "adam"', "name of [optimizer]: input should be 'adamw' or 'sgd'"),
        ('schedule = 3', "schedule"),
        ('[data\nx', "line 1"),
    ],
)  # fmt: skip
def test_what_a_file_can_not_say_is_refused_in_one_line(tmp_path, line, words):
    path = tmp_path / "bad.toml"
    path.write_text(line + "\n")
    with pytest.raises(UsageError) as caught:
        _config(path)
    assert caught.value.id == "E-CONFIG"
    assert caught.value.exit_code == 2
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("paths", [["a"], ["a", "b", "c"], ["x.toml", "a"]])
def test_arguments_that_name_no_data_are_refused(tmp_path, monkeypatch, paths):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.toml").write_text("")
    with pytest.raises(click.UsageError, match=r"IMAGES MASKS or TABLE\.csv"):
        _config(*paths)
