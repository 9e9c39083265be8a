"""The loop learns the ellipse task, repeats itself, continues where it stopped, refuses NaN."""

from __future__ import annotations

import functools
import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from training_shapes import sample_of, shapes

from tilseg.card import Card, ClassInfo, Normalization
from tilseg.errors import ModelError
from tilseg.models.torch_model import TorchModel
from tilseg.models.unet import build
from tilseg.training.centres import Centres
from tilseg.training.config import Config
from tilseg.training.loop import run
from tilseg.training.patches import PatchReader
from tilseg.training.scores import validate
from tilseg.training.trainer import Trainer

CPU = torch.device("cpu")


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@functools.cache
def _shapes(first, count):
    return tuple(sample_of(*shapes(157, 211, first + number)) for number in range(count))


def _network(**parameters):
    torch.manual_seed(0)
    classes = parameters.setdefault("classes", 2)
    network = build({"bands": 1, "norm": "batch", **parameters})
    field = network.field
    card = Card(
        name="test",
        architecture="unet",
        parameters={"bands": 1, **parameters},
        bands=1,
        normalization=Normalization(kind="image"),
        head="sigmoid" if classes == 1 else "softmax",
        classes=(
            ClassInfo(name="background", color="#000000"),
            ClassInfo(name="ellipse", color="#e69f00"),
        ),
        halo=field.halo,
        stride=field.stride,
        offset=field.offset,
    )
    return network, card


def _learn(network, card, config, training, validation, *, stop=lambda trainer: False, state=None):
    trainer = Trainer(network, config, CPU)
    if state is not None:
        trainer.restore(state)
    patches = config.patches
    reader = PatchReader(network.field, patches.size, config.augmentation)
    centres, count = Centres(training), patches.batch * patches.accumulate
    told = []
    finished = run(
        trainer,
        lambda step: reader.batch(centres, count, config.seed, step),
        lambda rate: validate(TorchModel(trainer.average, card), validation),
        report=told.append,
        stop=lambda: stop(trainer),
    )
    return trainer, told, finished


@pytest.mark.parametrize(
    ("parameters", "steps", "at_least"),
    # Without skips outlines take longer to learn.
    [({"skips": True}, 160, 0.9), ({"skips": False}, 240, 0.8), ({"classes": 1}, 160, 0.85)],
    ids=["skips", "no skips", "sigmoid"],
)
def test_the_ellipse_task_is_learnt_in_seconds(parameters, steps, at_least):
    training, validation = _shapes(0, 8), _shapes(100, 2)
    pixels = np.concatenate([shapes(157, 211, seed)[0].ravel() for seed in (100, 101)])
    truth = np.concatenate([shapes(157, 211, seed)[1].ravel() for seed in (100, 101)]) == 1
    by_threshold = max(_dice(pixels > level, truth) for level in range(0, 250, 5))
    config = _config(steps=steps, size=64, learning_rate=8e-3, averaging=0.97)
    network, card = _network(depth=3, width=8, **parameters)
    _, told, finished = _learn(network, card, config, training, validation)
    assert finished
    dice = told[-1].scores.dice
    assert by_threshold < 0.65
    assert dice > at_least, f"a threshold reaches {by_threshold:.2f}"


def _config(**choices):
    """A configuration from fields of any of its sections."""
    content = {}
    for name, value in choices.items():
        own = [key for key in SECTIONS if name in Config.model_fields[key].annotation.model_fields]
        (content.setdefault(own[0], {}) if own else content)[name] = value
    return Config.model_validate(content)


SECTIONS = ("schedule", "patches", "optimizer", "loss")


def _dice(found, truth):
    return 2 * (found & truth).sum() / (found.sum() + truth.sum())


def _tiny(steps=12, **options):
    config = _config(**{"steps": steps, "batch": 2, "size": 20, "learning_rate": 5e-3, **options})
    return (*_network(depth=1, width=4), config, _shapes(0, 2), _shapes(100, 1))


def test_the_same_seed_gives_the_same_weights_and_another_does_not():
    weights = []
    for seed in (3, 3, 4):
        trainer, *_ = _learn(*_tiny(seed=seed))
        weights.append(torch.cat([value.ravel() for value in trainer.average.parameters()]))
    assert weights[0].equal(weights[1])
    assert not weights[0].equal(weights[2])


def test_a_stopped_training_continues_to_the_same_weights():
    whole, told, _ = _learn(*_tiny())
    half, before, finished = _learn(*_tiny(), stop=lambda trainer: trainer.step == 5)
    assert not finished
    assert half.step == 5
    rest, after, finished = _learn(*_tiny(), state=half.state())
    assert finished
    for one, other in zip(whole.average.parameters(), rest.average.parameters(), strict=True):
        assert one.equal(other)
    assert [step.step for step in (*before, *after)] == [step.step for step in told]
    assert after[-1].scores.dice == told[-1].scores.dice
    assert after[-1].loss == pytest.approx(told[-1].loss)


def test_progress_goes_from_nothing_to_all_and_validates_at_the_end():
    _, told, _ = _learn(*_tiny(steps=30))
    assert [step.step for step in told] == list(range(1, 31))
    assert told[-1].done == 1
    assert told[-1].left == 0
    assert told[-1].scores is not None
    assert sum(step.scores is not None for step in told) == 20
    assert all(step.rate > 0 for step in told)


def test_sgd_takes_the_step_of_its_formula():
    trainer = Trainer(
        _network(depth=1, width=4)[0],
        _config(name="sgd", momentum=0.99, weight_decay=0.01, rate="constant", precision="fp32"),
        CPU,
    )
    sample = _shapes(0, 2)
    reader = PatchReader(trainer.network.field, 20, trainer.config.augmentation)
    weight = next(trainer.network.parameters())
    velocity = torch.zeros_like(weight)
    for step in range(3):
        before, rate = weight.detach().clone(), trainer.rate
        trainer.learn(*reader.batch(Centres(sample), 2, 0, step))
        # Nesterov's momentum, as torch.optim.SGD documents it.
        gradient = weight.grad + 0.01 * before
        velocity = gradient if step == 0 else 0.99 * velocity + gradient
        torch.testing.assert_close(weight, before - rate * (gradient + 0.99 * velocity))


def test_accumulated_gradients_are_the_mean_over_the_batches():
    gradients = []
    for batch, accumulate in ((4, 1), (2, 2)):
        # Without batch norm, in which a patch depends on those beside it.
        network, _ = _network(depth=1, width=4, norm="none")
        config = _config(
            batch=batch, accumulate=accumulate, terms="cross-entropy", precision="fp32"
        )
        trainer = Trainer(network, config, CPU)
        reader = PatchReader(network.field, 20, config.augmentation)
        trainer.learn(*reader.batch(Centres(_shapes(0, 2)), 4, 0, 0))
        gradients.append(torch.cat([p.grad.ravel() for p in network.parameters()]))
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("name", ["cosine", "poly", "constant"])
def test_the_learning_rate_rises_and_falls_as_its_formula(name):
    config = _config(steps=100, rate=name, warm_up=0.1, learning_rate=1.0)
    trainer = Trainer(_network(depth=1, width=4)[0], config, CPU)
    fall = {
        "cosine": lambda t: (1 + np.cos(np.pi * t)) / 2,
        "poly": lambda t: (1 - t) ** 0.9,
        "constant": lambda t: 1.0,
    }[name]
    for step in (0, 3, 10, 50, 99):
        trainer.step = step
        t = step / 100
        assert trainer.rate == pytest.approx(min(1, (t + 0.001) / 0.1) * fall(t))


def test_no_more_steps_are_taken_once_it_is_enough():
    network, _, config, training, _ = _tiny(steps=40)
    trainer = Trainer(network, config, CPU)
    reader = PatchReader(network.field, 20, config.augmentation)
    finished = run(
        trainer,
        lambda step: reader.batch(Centres(training), 2, 0, step),
        lambda rate: None,
        report=lambda progress: None,
        stop=lambda: False,
        enough=lambda: trainer.step >= 7,
    )
    assert finished
    assert trainer.step == 7


def test_minutes_bound_a_training_too(monkeypatch):
    seconds = itertools.count()
    monkeypatch.setattr("tilseg.training.loop.monotonic", lambda: float(next(seconds)))
    _, told, finished = _learn(*_tiny(steps=10**6, minutes=0.5))
    assert finished
    assert told[-1].done == 1
    assert 3 < told[-1].step < 30
    assert told[3].left == pytest.approx(30 - told[3].done * 30)


def test_a_loss_that_is_not_a_number_stops_the_training():
    network, card, config, _, validation = _tiny()
    image, labels = shapes(41, 53, 1)
    sample = sample_of(image, labels)
    broken = replace(sample, pixels=lambda window: sample.pixels(window) * np.float32(np.nan))
    with pytest.raises(ModelError, match="the loss is nan at step 1"):
        _learn(network, card, config, (broken,), validation)


def test_an_image_smaller_than_a_patch_is_learnt_from():
    network, card, config, *_ = _tiny(steps=2)
    image, labels = shapes(5, 3, 0)
    labels[2] = 1
    small = (sample_of(image, labels),)
    _, told, finished = _learn(network, card, config, small, small)
    assert finished
    assert told[-1].scores.all.pixels == 15
