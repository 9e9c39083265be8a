"""`tilseg evaluate` as a user types it: figures, files, refusals."""

from __future__ import annotations

import base64
import io
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import rasterio
import rasterio.features
import tifffile
from metrics_oracle import blobs
from PIL import Image
from rasterio.transform import from_origin
from tiny import tilseg

import tilseg as package
from tilseg.cli.main import main
from tilseg.metrics.difference import DifferenceCounter
from tilseg.metrics.page import write_evaluation

SHAPE = (211, 307)


def write_map(path: Path, mask: np.ndarray, x: float = 5e5, **profile) -> Path:
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=mask.shape[0],
        width=mask.shape[1],
        count=1,
        dtype=mask.dtype,
        crs="EPSG:32633",
        transform=from_origin(x, 6e6, 2, 2),
        **profile,
    ) as file:
        file.write(mask, 1)
    return path


@pytest.fixture
def desk(tmp_path, monkeypatch) -> Path:
    """A folder with a prediction and a truth of three classes on one grid."""
    monkeypatch.chdir(tmp_path)
    write_map(tmp_path / "pred.tif", blobs(0, SHAPE, ignored=0.05), nodata=255)
    write_map(tmp_path / "truth.tif", blobs(1, SHAPE))
    return tmp_path


def call(capsys, *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", *map(str, arguments)])
    out, err = capsys.readouterr()
    code = ended.value.code
    assert isinstance(code, int)
    return code, out, err


def test_a_person_sees_every_figure(desk):
    done = tilseg("evaluate", "pred.tif", "truth.tif", cwd=desk, check=True)
    for name in (
        *("pixel accuracy", "mean class accuracy", "mean precision", "mean IoU"),
        *("frequency-weighted IoU", "mean Dice", "mean boundary F1", "object F1"),
        *("panoptic quality", "AJI", "adapted Rand error", "variation of information"),
    ):
        assert re.search(rf"^{name} +\d\.\d{{4}}", done.stdout, re.M), name
    # One line a class, of pixels, then of objects.
    assert len(re.findall(r"^[012] ", done.stdout, re.M)) == 3 + 2
    assert max(map(len, done.stdout.splitlines())) <= 100


def test_json_is_what_python_returns(desk, capsys):
    code, out, err = call(capsys, "pred.tif", "truth.tif", "--json")
    assert (code, err) == (0, "")
    score = package.evaluate("pred.tif", "truth.tif")
    assert json.loads(out) == score.to_json()
    predicted, truth = (rasterio.open(name).read(1) for name in ("pred.tif", "truth.tif"))
    valid = predicted != 255
    assert score.pixel_accuracy == (predicted == truth)[valid].mean()
    assert score.not_predicted == np.count_nonzero(~valid)


def test_options_reach_the_score(desk, capsys):
    options = ("--ignore", "2", "--ignore", "255", "--tolerance", "1", "--connectivity", "4")
    _, out, _ = call(capsys, "pred.tif", "truth.tif", "--json", *options)
    score = package.evaluate(
        "pred.tif", "truth.tif", ignore=(2, 255), tolerance=1.0, connectivity=4
    )
    assert json.loads(out) == score.to_json()
    assert [each.value for each in score.classes] == [0, 1]
    assert (score.tolerance, score.neighbours) == (1.0, 4)


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.pictures: list[bytes] = []
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name in ("src", "href"):
                head, _, content = value.partition(",")
                if head == "data:image/png;base64":
                    self.pictures.append(base64.b64decode(content))
                else:
                    self.links.append(value)


def test_the_output_is_a_page_that_needs_nothing_else(desk, capsys):
    code, out, _ = call(capsys, "pred.tif", "truth.tif", "-o", "score")
    assert code == 0
    assert "score/evaluation.html" in out
    folder = desk / "score"
    names = ["classes.png", "confusion.png", "differences.png"]
    files = sorted(path.name for path in folder.iterdir())
    assert files == [*names, "evaluation.html", "evaluation.json"]
    score = package.evaluate("pred.tif", "truth.tif")
    assert json.loads((folder / "evaluation.json").read_text()) == score.to_json()
    page = _Page((folder / "evaluation.html").read_text())
    assert page.links == []
    assert page.pictures == [(folder / name).read_bytes() for name in names]
    for picture in page.pictures:
        Image.open(io.BytesIO(picture)).verify()
    # Written again, it is replaced, and nothing else is left behind.
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert call(capsys, "pred.tif", "truth.tif", "-o", "score")[0] == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert sorted(p.name for p in desk.iterdir()) == ["pred.tif", "score", "truth.tif"]


def test_the_picture_shows_where_they_differ(tmp_path):
    truth = np.zeros((300, 400), np.uint8)
    truth[:, 300:] = 1
    predicted = truth.copy()
    predicted[100:200, 50:150] = 1
    predicted[100:200, 320:380] = 0
    predicted[10, 250] = 2
    package.evaluate(predicted, truth, output=tmp_path / "score")
    # Each pixel is drawn as 2 x 2 dots, inside a margin of 24.
    picture = np.asarray(Image.open(tmp_path / "score" / "differences.png"))
    dots = picture[24 : 24 + 600 : 2, 24 : 24 + 800 : 2]
    false, missed, both, neither = dots[150, 100], dots[150, 350], dots[50, 350], dots[50, 50]
    assert tuple(false) == (213, 94, 0) == tuple(dots[10, 250])
    assert tuple(missed) == (0, 114, 178)
    expected = np.where(truth[..., None] > 0, both, neither)
    expected = np.where(((predicted > 0) & (truth == 0))[..., None], false, expected)
    expected = np.where(((predicted == 0) & (truth > 0))[..., None], missed, expected)
    np.testing.assert_array_equal(dots, expected)


def test_names_cannot_break_the_page(desk):
    legend = desk / "legend.json"
    name = "</td><script>alert('x')</script>"
    classes = [{"value": 0}, {"value": 1, "name": name}, {"value": 2, "name": "y" * 90}]
    legend.write_text(json.dumps({"classes": classes}))
    package.evaluate("pred.tif", "truth.tif", legend=legend, output=desk / "score")
    text = (desk / "score" / "evaluation.html").read_text()
    assert "<script" not in text
    assert "&lt;script&gt;" in text


def test_many_classes_have_a_page_too(tmp_path):
    mask = (np.arange(60 * 51).reshape(60, 51) % 251).astype(np.uint8)
    score = package.evaluate(mask, np.roll(mask, 1), output=tmp_path / "score")
    assert len(score.classes) == 251
    width, height = Image.open(tmp_path / "score" / "confusion.png").size
    assert min(width, height) > 251 * 16


@pytest.mark.parametrize("content", [None, "a file"])
def test_what_is_no_evaluation_is_never_replaced(desk, capsys, content):
    place = desk / "score"
    if content is None:
        place.mkdir()
        (place / "thesis.tex").write_text("all of it")
    else:
        place.write_text(content)
    code, _, err = call(capsys, "pred.tif", "truth.tif", "-o", "score")
    assert code == 10
    assert err.startswith("error[E-EVALUATION-EXISTS]")
    assert place.is_file() or (place / "thesis.tex").exists()


def test_a_disk_that_fails_leaves_the_old_evaluation(desk, monkeypatch):
    score = package.evaluate("pred.tif", "truth.tif", output="score")
    before = (desk / "score" / "evaluation.json").read_bytes()

    def full(self, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(package.TilsegError, match="No space left") as caught:
        write_evaluation(score, DifferenceCounter(_size(), 64, 0), desk / "score")
    assert caught.value.exit_code == 7
    assert (desk / "score" / "evaluation.json").read_bytes() == before
    assert len(list(desk.iterdir())) == 3


def _size():
    from tilseg.window import Size

    return Size(*SHAPE)


def test_another_grid_is_refused_or_aligned(desk, capsys):
    truth = rasterio.open("truth.tif").read(1)
    write_map(desk / "east.tif", truth[:, 7:], x=5e5 + 7 * 2)
    code, _, err = call(capsys, "pred.tif", "east.tif")
    assert code == 4
    assert re.fullmatch(r"error\[E-CLASSES-GRID\]: .*211 x 300.*211 x 307.*--align.*\n", err)
    code, out, err = call(capsys, "pred.tif", "east.tif", "--align", "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    truth[:, :7] = 255
    expected = package.evaluate(rasterio.open("pred.tif").read(1), truth).to_json()
    assert found["confusion"] == expected["confusion"]
    assert found["objects"] == expected["objects"]
    assert found["ignored"] == 7 * 211


def test_colours_with_a_legend(desk, capsys):
    truth = rasterio.open("truth.tif").read(1)
    colours = np.array([[0, 0, 0], [255, 0, 0], [0, 0, 255]], np.uint8)
    (desk / "truth.png").write_bytes(imagecodecs.png_encode(colours[truth]))
    code, _, err = call(capsys, "pred.tif", "truth.png")
    assert (code, "--legend" in err) == (4, True)
    names = ("nothing", "red", "blue")
    codes = ("#000000", "#ff0000", "#0000ff")
    (desk / "legend.json").write_text(
        json.dumps(
            {
                "classes": [
                    {"value": k, "name": name, "color": code}
                    for k, (name, code) in enumerate(zip(names, codes, strict=True))
                ]
            }
        )
    )
    code, out, _ = call(capsys, "pred.tif", "truth.png", "--legend", "legend.json", "--json")
    found = json.loads(out)
    assert found["confusion"] == package.evaluate("pred.tif", "truth.tif").to_json()["confusion"]
    assert [each["name"] for each in found["classes"]] == list(names)


def test_polygons_are_burnt_on_the_grid_of_the_prediction(desk, capsys):
    mask = (rasterio.open("truth.tif").read(1) > 0).astype(np.uint8)
    transform = rasterio.open("truth.tif").transform
    features = [
        {"type": "Feature", "properties": {}, "geometry": geometry}
        for geometry, _ in rasterio.features.shapes(mask, mask > 0, transform=transform)
    ]
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32633"}}
    content = {"type": "FeatureCollection", "crs": crs, "features": features}
    (desk / "truth.geojson").write_text(json.dumps(content))
    write_map(desk / "mask.tif", mask)
    code, out, _ = call(capsys, "mask.tif", "truth.geojson", "--json")
    assert code == 0
    found = json.loads(out)
    assert found["pixel_accuracy"] == 1.0
    assert found["objects"]["aji"] == 1.0
    assert found["confusion"][1][1] == mask.sum()


@pytest.mark.parametrize(
    ("mask", "id"),
    [
        (np.zeros(SHAPE, np.float32), "E-CLASSES-DTYPE"),
        (np.full(SHAPE, -1, np.int16), "E-CLASSES-NEGATIVE"),
        (np.full(SHAPE, 255, np.uint8), "E-CLASSES-NONE"),
        (np.zeros((3, *SHAPE), np.uint8), "E-CLASSES-BANDS"),
        (np.arange(211 * 307, dtype=np.uint16).reshape(SHAPE) % 999, "E-CLASSES-MANY"),
        (b"not an image", "E-INPUT-FORMAT"),
        (b"", "E-INPUT-EMPTY"),
        (None, "E-INPUT-MISSING"),
    ],
)
@pytest.mark.parametrize("place", ["truth", "prediction"])
def test_bad_masks_are_refused_in_one_line(desk, capsys, mask, id, place):
    if isinstance(mask, bytes):
        Path("bad.tif").write_bytes(mask)
    elif mask is not None:
        planar = {"planarconfig": "contig"} if mask.ndim == 2 else {"planarconfig": "separate"}
        tifffile.imwrite("bad.tif", mask, photometric="minisblack", **planar)
    pair = ("pred.tif", "bad.tif") if place == "truth" else ("bad.tif", "truth.tif")
    code, out, err = call(capsys, *pair)
    assert (code, out) == (4, "")
    assert err.startswith(f"error[{id}]: ")
    assert err.count("\n") == 1


def test_options_out_of_range(desk, capsys):
    assert call(capsys, "pred.tif", "truth.tif", "--tolerance", "99")[0] == 2
    assert call(capsys, "pred.tif", "truth.tif", "--connectivity", "6")[0] == 2
    assert call(capsys, "pred.tif", "truth.tif", "--ignore", "x")[0] == 2
    assert call(capsys, "pred.tif", "truth.tif", "--legend", "none.json")[0] == 2
    assert call(capsys, "pred.tif", "truth.tif", "-o", "no/such/place")[0] == 7


def test_help_loads_nothing_heavy():
    program = (
        "import sys; from tilseg.cli.main import main\n"
        "try: main(['evaluate', '--help'])\n"
        "finally: print(*[m for m in ('scipy', 'torch', 'PIL', 'rasterio') if m in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert found.stdout.splitlines()[-1] == ""
    assert "--tolerance" in found.stdout


def test_a_crop_of_the_world_against_itself_moved(real_data):
    # The short form of benchmarks/evaluate.py.
    world = real_data / "geo_world_landmask_648Mpx" / "cog_world.tif"
    with rasterio.open(world) as file:
        mask = file.read(1, window=((4000, 4700), (17_500, 18_401)))
    predicted, truth = mask[:, :-5], mask[:, 5:]
    score = package.evaluate(predicted, truth)
    both = int(np.count_nonzero(predicted & truth))
    assert score.confusion[1][1] == both > 100_000
    assert score.classes[1].iou == both / np.count_nonzero(predicted | truth)
    assert 0.5 < score.classes[1].boundary_f1 < 1
