"""What is kept of a training that ends at a bad moment, and what the next call makes of it."""

from __future__ import annotations

import pytest
import tifffile
from training_shapes import shapes

from tilseg.card import read_card
from tilseg.errors import ModelError
from tilseg.training import train as train_module
from tilseg.training.checkpoint import state_path
from tilseg.training.config import Config
from tilseg.training.course import Course
from tilseg.training.train import train
from tilseg.training.trainer import Trainer


class _Killed(BaseException):
    pass


@pytest.fixture
def config(tmp_path) -> Config:
    for number in range(3):
        image, labels = shapes(61, 83, number)
        for folder, array in (("images", image), ("masks", labels)):
            (tmp_path / folder).mkdir(exist_ok=True)
            tifffile.imwrite(tmp_path / folder / f"{number}.tif", array)
    return Config.model_validate(
        {
            "data": {"images": str(tmp_path / "images"), "masks": str(tmp_path / "masks")},
            "network": {"depth": 1, "width": 4},
            "schedule": {"steps": 4, "validations": 2},
            "patches": {"batch": 2, "size": 20},
            "output": {"model": str(tmp_path / "m.safetensors")},
        }
    )


def test_killed_behind_its_first_model_it_is_not_taken_for_complete(config, tmp_path, monkeypatch):
    model = tmp_path / "m.safetensors"
    kept = Course._keep_state

    def killed(course: Course) -> None:
        if model.exists():
            raise _Killed
        kept(course)

    with monkeypatch.context() as patch:
        patch.setattr(Course, "_keep_state", killed)
        with pytest.raises(_Killed):
            train(config)
    assert read_card(model).training["step"] == 2
    # Of a state and a model that others were killed in writing.
    for half in (".m.safetensors.training.4711", ".m.safetensors.4711.tmp"):
        (tmp_path / half).touch()
    report = train(config)
    assert not list(tmp_path.glob(".*"))
    assert (report.computed, report.finished, report.step) == (True, True, 4)
    assert not state_path(model).exists()
    assert not train(config).computed


def test_an_error_before_the_first_model_leaves_nothing_in_the_way(config, tmp_path, monkeypatch):
    def diverged(*_: object) -> None:
        raise ModelError("E-TRAIN-DIVERGED", loss=float("nan"), step=1)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "learn", diverged)
        with pytest.raises(ModelError):
            train(config)
    assert train(config.model_copy(update={"seed": 1})).finished


def test_on_a_gpu_the_first_step_takes_the_kernels_of_the_last(config, monkeypatch):
    """A model that is validated sets them for the process; a continued training began without."""
    asked = []
    monkeypatch.setattr(train_module, "resolve_device", lambda _: "cuda:0")
    monkeypatch.setattr(train_module, "be_reproducible_on_cuda", lambda: asked.append("kernels"))

    def opened(_: Config) -> None:
        asked.append("images")
        raise _Killed

    monkeypatch.setattr(train_module, "_open_data", opened)
    with pytest.raises(_Killed):
        train(config)
    assert asked == ["kernels", "images"]
