"""`tilseg train` as people call it: from folders of pictures to a model that predicts."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from training_shapes import shapes

from tilseg.card import read_card
from tilseg.cli.main import main
from tilseg.model import load_model
from tilseg.training.checkpoint import state_path
from tilseg.training.config import Config
from tilseg.training.course import records_path
from tilseg.training.train import train

PROGRAM = [sys.executable, "-c", "from tilseg.cli.main import main; main()", "train"]
SMALL = ["--depth=1", "--width=4", "--batch=2", "--patch=20", "--classes=background,ellipse"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Six pictures in two subfolders, with masks."""
    root = tmp_path_factory.mktemp("shapes")
    for number in range(6):
        image, labels = shapes(61, 83, number)
        labels[image > 200] = 0
        for folder, array in (("images", image), ("masks", labels)):
            path = root / folder / f"set{number % 2}" / f"p{number}.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(path, array)
    return str(root / "images"), str(root / "masks")


def _small(folders, model, steps, foreground="foreground", **schedule):
    """The training that SMALL describes."""
    return Config.model_validate(
        {
            "data": {"images": folders[0], "masks": folders[1]},
            "classes": [{"name": "background"}, {"name": foreground}],
            "network": {"depth": 1, "width": 4},
            "schedule": {"steps": steps, **schedule},
            "patches": {"batch": 2, "size": 20},
            "output": {"model": str(model)},
        }
    )


def _start(*arguments):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [*PROGRAM, *arguments], stdout=pipe, stderr=pipe, text=True, env=environment
    )


def _refused(capsys, *arguments):
    """Exit code and the one line of a command that refuses."""
    with pytest.raises(SystemExit) as ended:
        main(["train", *map(str, arguments)])
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    return ended.value.code, captured.err


def test_from_pictures_to_a_model_that_predicts(folders, tmp_path, capsys):
    model = tmp_path / "shapes.safetensors"
    process = _start(
        *folders, "-o", str(model), *SMALL, "--steps=20", "--json", "--licence=CC0-1.0"
    )
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert "validation Dice" in err
    metrics = json.loads(out)
    assert set(metrics["groups"]) == {"set0", "set1"}
    card = read_card(model)
    assert card.metrics == metrics
    assert [info.name for info in card.classes] == ["background", "ellipse"]
    assert card.background == 0
    assert card.instances is None
    assert card.licence == "CC0-1.0"
    used = card.training["images"]
    assert sorted(used["training"] + used["validation"]) == [
        f"set{number % 2}/p{number}" for number in (0, 2, 4, 1, 3, 5)
    ]
    assert len(used["validation"]) == 2
    assert card.training["seed"] == 0
    assert {"tilseg", "torch", "python"} <= set(card.training["versions"])
    assert not state_path(model).exists()
    loaded = load_model(model, device="cpu")
    side = loaded.field.input_for(20)
    pixels = np.zeros((1, side, side, 1), np.uint8)
    statistics = _statistics(loaded)
    assert loaded.predict(pixels, statistics).labels.shape[1] >= 20
    before = model.read_bytes(), (tmp_path / "shapes.training" / "metrics.csv").read_bytes()
    assert _done([*folders, "-o", model, *SMALL, "--steps=20", "--licence=CC0-1.0"]) == 0
    printed = capsys.readouterr()
    assert "already complete" in printed.err
    assert f"{metrics['dice']:.4f}" in printed.out
    assert (model.read_bytes(), (tmp_path / "shapes.training/metrics.csv").read_bytes()) == before
    code, line = _refused(capsys, *folders, "-o", model, *SMALL, "--steps=21", "--seed=1")
    assert code == 10
    assert "E-TRAIN-EXISTS" in line
    assert (
        "licence, training.images, training.samples, training.schedule, training.seed differ"
        in line
    )


def _statistics(model):
    from tilseg.source import open_source
    from tilseg.statistics import band_statistics

    source = open_source(shapes(61, 83, 0)[0])
    return band_statistics(source, model.card.normalization, bands=(0,))


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_an_interrupted_and_a_killed_training_continue_to_the_same_weights(folders, tmp_path):
    model = tmp_path / "a.safetensors"
    arguments = (*folders, "-o", str(model), *SMALL, "--steps=400", "--validations=5")
    process = _start(*arguments)
    assert process.stderr.readline().startswith("training: 0 %")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=300)
    assert process.returncode == -signal.SIGINT
    assert "the same command continues" in err
    assert state_path(model).exists()

    process = _start(*arguments)
    lines = iter(process.stderr.readline, "")
    # In the middle of things, after the second validation.
    assert sum("validation" in line for line in _seen(lines, 2)) == 2
    process.kill()
    process.communicate(timeout=300)
    assert process.returncode == -signal.SIGKILL

    process = _start(*arguments)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        whole = train(_small(folders, tmp_path / "b.safetensors", 400, "ellipse", validations=5))
    finally:
        torch.set_num_threads(threads)
    assert whole.finished
    one, other = (load_model(path, device="cpu").network for path in (model, whole.path))
    for value, again in zip(one.parameters(), other.parameters(), strict=True):
        assert value.equal(again)
    assert read_card(model).metrics == whole.metrics
    histories = [_history(path) for path in (model, whole.path)]
    assert histories[0] == histories[1]
    assert [int(line["step"]) for line in histories[0]] == [80, 160, 240, 320, 400]
    assert (whole.records / "training.html").exists()


def _seen(lines, validations):
    """Lines up to that of the last of so many validations."""
    for line in lines:
        yield line
        validations -= "validation" in line
        if not validations:
            return


def _history(model):
    with (records_path(model) / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    # Time is another in every run.
    return [{k: v for k, v in row.items() if k not in ("seconds", "mpix_per_s")} for row in rows]


def test_another_recipe_does_not_continue_a_training(folders, tmp_path, capsys):
    model = tmp_path / "c.safetensors"
    stopped = train(_small(folders, model, 50), stop=lambda: True)
    assert not stopped.finished
    assert stopped.metrics == {}
    assert not model.exists()
    code, line = _refused(capsys, *folders, "-o", model, *SMALL, "--steps=50", "--seed=1")
    assert code == 10
    assert "E-TRAIN-PARTIAL" in line
    assert "training.seed" in line
    state_path(model).write_bytes(b"PK nonsense")
    code, line = _refused(capsys, *folders, "-o", model, *SMALL, "--steps=50")
    assert code == 4
    assert "E-TRAIN-STATE" in line


def test_a_file_is_trained_from_and_ends_when_nothing_gets_better(folders, tmp_path, capsys):
    file, model = tmp_path / "shapes.toml", tmp_path / "f.safetensors"
    file.write_text(
        f'data = {{ images = "{folders[0]}", masks = "{folders[1]}" }}\n'
        f'output.model = "{model}"\n'
        "network = { depth = 1, width = 4 }\npatches = { size = 20, batch = 2 }\n"
        # So small a rate changes no validation.
        "optimizer.learning-rate = 1e-12\n"
        "schedule = { steps = 100, validations = 50, patience = 3 }\n"
    )
    assert _done([file, "--seed=2"]) == 0
    training = read_card(model).training
    assert training["seed"] == 2
    assert training["schedule"]["patience"] == 3
    assert training["step"] == 2
    assert "step 8," in capsys.readouterr().err
    assert not state_path(model).exists()


@pytest.mark.parametrize(
    ("options", "code", "id"),
    [
        (["--classes=one"], 2, "E-OPTION"),
        (["--classes=a,b,a"], 2, "E-OPTION"),
        (["--classes=a,b,c", "--head=sigmoid"], 2, "E-OPTION"),
        (["--colors=#000000"], 2, "E-OPTION"),
        (["--colors=black,blue"], 2, "E-OPTION"),
        (["--steps=0"], 2, "E-USAGE"),
        (["--depth=9"], 2, "E-USAGE"),
        (["--validation-fraction=1"], 2, "E-USAGE"),
        (["--device=gpu"], 2, "E-OPTION"),
        (["--network=unett"], 2, "E-OPTION"),
        (["--network=pspnet-small", "--depth=2"], 6, "E-MODEL-PARAMETERS"),
        (["--loss=dise"], 2, "E-OPTION"),
        (["--class-weights=1,x"], 2, "E-OPTION"),
        (["--class-weights=1,2,3"], 2, "E-OPTION"),
        (["--class-weights=1,-1"], 2, "E-OPTION"),
        (["--weights=nowhere.pth"], 6, "E-TRAIN-WEIGHTS"),
    ],
)
def test_options_that_cannot_be_are_refused(folders, tmp_path, capsys, options, code, id):
    arguments = [*folders, "-o", tmp_path / "d.safetensors", *options]
    found, line = _refused(capsys, *arguments)
    assert found == code
    assert line.startswith(f"error[{id}]")


def _spoil(folder, kind):
    """Turn good folders into bad input."""
    images, masks = folder / "images" / "set0", folder / "masks" / "set0"
    if kind == "size":
        tifffile.imwrite(masks / "p2.tif", np.zeros((61, 82), np.uint8))
    elif kind == "values":
        tifffile.imwrite(masks / "p2.tif", np.full((61, 83), 9, np.uint8))
    elif kind == "one class":
        for path in (folder / "masks").rglob("*.tif"):
            tifffile.imwrite(path, np.zeros((61, 83), np.uint8))
    elif kind == "no images":
        for path in (folder / "images").rglob("*.tif"):
            path.unlink()
    elif kind == "no mask":
        (masks / "p2.tif").unlink()
    elif kind == "bands":
        tifffile.imwrite(images / "p2.tif", np.zeros((61, 83, 3), np.uint8), photometric="rgb")


@pytest.mark.parametrize(
    ("kind", "options", "code", "id"),
    [
        ("size", [], 4, "E-TRAIN-SIZE"),
        ("values", [], 4, "E-TRAIN-CLASS"),
        ("one class", [], 4, "E-TRAIN-ONE-CLASS"),
        ("no images", [], 4, "E-TRAIN-EMPTY"),
        ("no mask", [], 4, "E-TRAIN-PAIR"),
        ("bands", [], 4, "E-TRAIN-BANDS"),
        ("none", ["--learning-rate=1e38", "--steps=40"], 6, "E-TRAIN-DIVERGED"),
        ("none", ["--split=blocks", "--block=5"], 2, "E-OPTION"),
        ("none", ["--split=blocks", "--block=200"], 4, "E-TRAIN-SPLIT"),
    ],
)
def test_bad_input_is_one_line_and_its_code(folders, tmp_path, capsys, kind, options, code, id):
    for name in folders:
        shutil.copytree(name, tmp_path / Path(name).name)
    _spoil(tmp_path, kind)
    arguments = (tmp_path / "images", tmp_path / "masks", "-o", tmp_path / "m.safetensors")
    with pytest.raises(SystemExit) as ended:
        main(["train", *map(str, arguments), *SMALL, "--validations=1", *options])
    captured = capsys.readouterr()
    assert ended.value.code == code
    # Progress comes before where it had begun.
    last = [line for line in captured.err.splitlines() if not line.startswith("training:")]
    assert len(last) == 1
    assert last[0].startswith(f"error[{id}]")


def test_images_smaller_than_a_patch_are_trained_on(folders, tmp_path):
    # A patch of 200 on pictures of 61 x 83: mirrored.
    small = [option for option in SMALL if not option.startswith("--patch")]
    model = tmp_path / "m.safetensors"
    assert _done([*folders, "-o", model, *small, "--patch=200", "--steps=1"]) == 0
    assert read_card(model).training["step"] == 1


def test_where_nothing_can_be_written_no_image_is_opened(folders, tmp_path, capsys):
    code, line = _refused(capsys, "nowhere", folders[1], "-o", tmp_path / "x" / "m.safetensors")
    assert code == 7
    assert "E-OUTPUT-PARENT" in line


def test_a_training_begins_with_weights_and_says_how_many(folders, tmp_path, capsys):
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    small = ["--depth=1", "--width=4", "--batch=2", "--patch=20"]
    options = ["--loss=tversky+focal", "--class-weights=1,3", "--colors=#102030,#0072b2"]
    assert _done([*folders, "-o", first, *small, "--steps=2", *options]) == 0
    three = [*folders, "-o", second, *small, "--steps=1", "--classes=a,b,c", "--weights", first]
    capsys.readouterr()
    assert _done(three) == 0
    # All but weight and bias of the head, which has another number of classes.
    count = len(load_model(first, device="cpu").network.state_dict())
    training = read_card(second).training
    begun = training["begun_with"]
    assert begun["of"] - begun["taken"] == 2
    assert begun["of"] > count  # batch norm, which a loaded network has folded
    assert f"begins with {begun['taken']} of its {begun['of']} weights" in capsys.readouterr().err
    assert read_card(first).training["loss"]["terms"] == "tversky+focal"
    assert [each["weight"] for each in read_card(first).training["classes"]] == [1, 3]
    assert [info.color for info in read_card(first).classes] == ["#102030", "#0072b2"]
    assert training["loss"]["terms"] == "cross-entropy+dice"


def _done(arguments):
    with pytest.raises(SystemExit) as ended:
        main(["train", *map(str, arguments)])
    return ended.value.code or 0


def _ended(arguments):
    with pytest.raises(SystemExit) as ended:
        main(["train", *arguments])
    return ended.value.code or 0


def test_a_preview_is_a_picture_and_trains_nothing(folders, tmp_path, capsys):
    sheet = tmp_path / "sheet.png"
    arguments = [*folders, *SMALL, "--augment=strong", f"--preview={sheet}"]
    assert _ended(arguments) == 0
    assert capsys.readouterr().out == f"preview {sheet}\n"
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.png"]
    # Patches of 20 pixels, enlarged eight times: five places, each seven times.
    assert Image.open(sheet).size == (6 + 7 * 166, 6 + 5 * 166)
    first = sheet.read_bytes()
    assert _ended(arguments) == 0
    assert sheet.read_bytes() == first


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        (["--preview", "sheet.tif"], 2, "E-OPTION"),
        (["--preview", "missing/sheet.png"], 7, "E-OUTPUT-PARENT"),
        (["--preview", "sheet.png", "--augment", "histology"], 2, "E-TRAIN-STAIN"),
    ],
)
def test_a_preview_that_cannot_be_is_one_line(
    folders, tmp_path, monkeypatch, capsys, arguments, code, error
):
    monkeypatch.chdir(tmp_path)
    assert _ended([*folders, *SMALL, *arguments]) == code
    message = capsys.readouterr().err
    assert message.startswith(f"error[{error}]")
    assert message.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
