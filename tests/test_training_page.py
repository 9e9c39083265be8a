"""The page and the table of a training: what they hold, and that names can't become markup."""

from __future__ import annotations

import csv
import io
import re
import tomllib
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from training_shapes import sample_of, shapes

from tilseg.card import Card, ClassInfo, Normalization
from tilseg.models.torch_model import TorchModel
from tilseg.models.unet import build
from tilseg.pages.encoding import png
from tilseg.training.config import Config
from tilseg.training.curves import HEIGHT, WIDTH, chart
from tilseg.training.gallery import Gallery
from tilseg.training.history import line_of, to_csv
from tilseg.training.page import Kept, as_toml, training_page
from tilseg.training.samples import IGNORE
from tilseg.training.scores import validate
from tilseg.training.trainer import Trainer

HOSTILE = "<script>alert('x')</script>"


@pytest.fixture(scope="module")
def trained():
    """A page and what went into it, of a network that has not learnt anything."""
    torch.manual_seed(0)
    parameters = {"bands": 1, "classes": 2, "depth": 1, "width": 4, "norm": "batch"}
    network = build(parameters)
    field = network.field
    config = Config.model_validate(
        {"classes": [{"name": HOSTILE, "weight": 2}, {"name": "b"}], "network": {"depth": 1}}
    )
    card = Card(
        name=HOSTILE,
        architecture="unet",
        parameters=parameters,
        bands=1,
        normalization=Normalization(kind="image"),
        head="softmax",
        classes=(ClassInfo(name=HOSTILE, color="#000000"), ClassInfo(name="b", color="#e69f00")),
        halo=field.halo,
        stride=field.stride,
        offset=field.offset,
    )
    samples = [sample_of(*shapes(157, 211, 3), HOSTILE), sample_of(*shapes(61, 83, 4), "x/y")]
    gallery = Gallery(card, side=50)
    scores = validate(TorchModel(network, card), samples, gallery.add)
    trainer = Trainer(network, config, torch.device("cpu"))
    trainer.losses = {"cross-entropy": 0.5, "dice": 0.25}
    history = []
    for step in (5, 10, 15):
        trainer.step = step
        history.append(line_of(trainer, scores, 0.3, kept=step == 10))
    training = {
        "images": {"training": ["a"], "validation": ["b", "c"]},
        "step": 10,
        "device": "cpu",
    }
    card = card.model_copy(
        update={"metrics": scores.summary(), "training": {**training, "computed_in": "fp32"}}
    )
    kept = Kept(card, scores.all, gallery)
    sheet = png(np.zeros((7, 9, 3), np.uint8))
    page = training_page(kept, history, config, state="complete", augmented=sheet)
    return page, kept, history, config, scores


class _Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.sources, self.links = [], [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        found = dict(attributes)
        self.sources += [found["src"]] if "src" in found else []
        self.links += [found["href"]] if "href" in found else []
        assert not [name for name in found if name.startswith("on") or name == "style"]


def test_the_page_needs_nothing_else_and_names_stay_names(trained):
    page, *_ = trained
    reader = _Reader()
    reader.feed(page)
    assert "script" not in reader.tags
    assert reader.links == []
    assert all(source.startswith("data:image/png;base64,") for source in reader.sources)
    # The matrix, and three pictures for each of four best and four worst patches, the sheet.
    assert len(reader.sources) == 1 + 3 * 8 + 1
    assert reader.tags.count("polyline") == 2 + 4 + 2 + 1
    assert "&lt;script&gt;" in page


def test_the_page_says_what_the_scores_are(trained):
    page, kept, _, _, scores = trained
    assert f"<b>{scores.dice:.4f}</b>" in page
    assert f"<td><b>{scores.all.pixel_accuracy:.4f}</b></td>" in page
    assert "1 images to train on, 2 held out" in page
    assert f"{100 * kept.gallery.worst()[0].wrong:.1f} % of the pixels wrong" in page


def test_the_configuration_of_the_page_is_a_file_that_says_the_same(trained):
    *_, config, _ = trained
    text = as_toml(config)
    assert text in _unescaped(trained[0])

    def renamed(value, inside=""):
        if isinstance(value, list):
            return [renamed(each, inside) for each in value]
        if isinstance(value, dict) and inside != "parameters":
            return {key.replace("-", "_"): renamed(own, key) for key, own in value.items()}
        return value

    found = Config.model_validate(renamed(tomllib.loads(text)))
    assert found == config
    other = Config.model_validate(
        {
            "network": {"parameters": {"halo": 5}},
            "augmentation": {"preset": "strong"},
            "classes": [{"name": 'a"b', "values": [1, "x"]}, {"name": "é", "color": "#ffffff"}],
        }
    )
    assert Config.model_validate(renamed(tomllib.loads(as_toml(other)))) == other


def _unescaped(page):
    import html

    return html.unescape(page)


def test_the_table_has_a_line_for_each_validation(trained):
    _, _, history, _, scores = trained
    rows = list(csv.DictReader(io.StringIO(to_csv(history))))
    assert [int(row["step"]) for row in rows] == [5, 10, 15]
    assert [row["kept"] for row in rows] == ["0", "1", "0"]
    row = rows[1]
    assert float(row["dice"]) == scores.dice
    assert float(row["loss"]) == 0.75
    assert float(row["loss dice"]) == 0.25
    assert float(row[f"dice {HOSTILE}"]) == scores.summary()["classes"][HOSTILE]["dice"]
    assert float(row["object_f1"]) == scores.summary()["object_f1"]


def test_the_gallery_keeps_the_worst_and_the_best():
    card = Card(
        name="test",
        architecture="unet",
        parameters={},
        bands=1,
        normalization=Normalization(kind="image"),
        head="softmax",
        classes=(ClassInfo(name="a", color="#000000"), ClassInfo(name="b", color="#102030")),
        halo=0,
        stride=1,
        offset=0,
    )
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, (70, 110)).astype(np.uint8)
    truth[:20, :20] = IGNORE
    truth[40:60, 40:60] = 1
    predicted = np.where(rng.random(truth.shape) < rng.random((70, 110)) ** 3, 1 - truth, truth)
    predicted = predicted.astype(np.uint8)
    gallery = Gallery(card, count=3, side=20)
    gallery.add(sample_of(truth * 100 + 3, truth), predicted)
    wrong = {}
    for row in range(0, 70, 20):
        for col in range(0, 110, 20):
            part = truth[row : row + 20, col : col + 20], predicted[row : row + 20, col : col + 20]
            if (part[0] != IGNORE).any():
                wrong[row, col] = (part[0] != part[1]).mean()
    worst = [(one.window.row, one.window.col) for one in gallery.worst()]
    assert worst == sorted(wrong, key=wrong.get)[:-4:-1]
    del wrong[40, 40]  # of a single class
    best = [(one.window.row, one.window.col) for one in gallery.best()]
    assert best == sorted(wrong, key=wrong.get)[:3]


@given(
    values=st.lists(st.none() | st.floats(0, 1e6), min_size=1, max_size=30),
    step=st.integers(1, 1000),
)
def test_curves_stay_in_their_drawing(values, step):
    steps = [step * (place + 1) for place in range(len(values))]
    found = chart("t", steps, {"a": values}, top=1.0)
    (line,) = found.lines
    points = [
        tuple(map(float, point.split(","))) for piece in line.pieces for point in piece.split()
    ]
    known = [(s, v) for s, v in zip(steps, values, strict=True) if v is not None]
    assert len(points) == len(known)
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in points)
    assert [x for x, _ in points] == sorted(x for x, _ in points)
    # Higher values are higher up, that is, at a smaller y.
    heights = sorted((value, -y) for (_, value), (_, y) in zip(known, points, strict=True))
    assert [height for _, height in heights] == sorted(height for _, height in heights)
    assert len(found.up) <= 8
    assert re.fullmatch(r"[\d.,e+-]+", found.up[-1][1])
