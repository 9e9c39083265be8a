"""report.html of a run: what it shows is what the result holds, and it needs nothing else."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import itertools
import json
import re
import shlex
import tracemalloc
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import tifffile
import zarr
from PIL import Image
from skimage.measure import label
from skimage.segmentation import find_boundaries
from tiny import noise, save_tiny_model, tree

import tilseg
from tilseg.cli.main import main
from tilseg.durable import unseal
from tilseg.plan import RegionOptions
from tilseg.regions.components import Rules
from tilseg.regions.grid import BlockGrid
from tilseg.regions.region_table import RegionTable
from tilseg.report import overview
from tilseg.report.page import report_page
from tilseg.sinks.probabilities import ProbabilityStore
from tilseg.sinks.zarr import MaskStore
from tilseg.window import Size, Window

SHAPE = (401, 523)
# As text these are a script, an image and an attribute that ends early.
NAMES = ("ground", "<script>alert(1)</script>", "\"'><img src=x onerror=alert(1)>")
IMAGE = "<b onclick=alert(1)>&amp;'$(touch x)\".tif"
COLORS = [(0, 128, 64), (40, 128, 64), (80, 128, 64)]


class Page(HTMLParser):
    """A report taken apart: its elements, its texts by element, and its tables."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.text = path.read_text()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.words: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.elements.append((tag, dict(attrs)))
        self._open.append(tag)

    def handle_data(self, data: str) -> None:
        if self._open and data.strip():
            self.words.setdefault(self._open[-1], []).append(data.strip())

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def pictures(self, kind: str) -> list[np.ndarray]:
        """(rows, cols, bands) pixels of the pictures of a kind: the overview's, then close-ups'."""
        found = [each["href"] for each in self.all("image") if each["class"] == kind]
        return [_decoded(each) for each in found]

    def cells(self) -> list[list[str]]:
        """The table of classes, row by row."""
        table = self.text.split("<table>")[1].split("</table>")[0]
        rows = re.findall(r"<tr>(.*?)</tr>", table, re.S)
        return [re.findall(r"<td>(?:<svg.*?</svg>)?(.*?)</td>", row, re.S) for row in rows]

    def sizes(self) -> list[Window]:
        """Where the close-ups are."""
        found = re.findall(r"rows ([\d,]+) to ([\d,]+), columns ([\d,]+) to ([\d,]+)", self.text)
        numbers = [[int(part.replace(",", "")) for part in each] for each in found]
        return [Window(top, left, low - top, right - left) for top, low, left, right in numbers]


def _decoded(href: str) -> np.ndarray:
    image = Image.open(io.BytesIO(base64.b64decode(href.partition(",")[2])))
    return np.asarray(image if image.mode == "RGB" else image.convert("RGBA"))


@pytest.fixture(scope="module")
def desk(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("desk")
    save_tiny_model(folder / "tiny.safetensors", classes=3, names=NAMES)
    save_tiny_model(folder / "two.safetensors", classes=2)
    tifffile.imwrite(
        folder / IMAGE,
        noise(*SHAPE),
        photometric="rgb",
        tile=(64, 64),
        resolution=(40_000, 40_000),
        resolutionunit="CENTIMETER",
    )
    return folder


def _tilseg(*order: object) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*map(str, order)])
    assert ended.value.code == 0


def _run(desk: Path, output: str, *options: object, image: str | Path = IMAGE) -> Path:
    order = ["run", str(image), "--model", "tiny.safetensors", "-o", output, "--threads", "1"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(desk)
        _tilseg(*order, *options)
    return desk / output


@pytest.fixture(scope="module")
def result(desk) -> Path:
    return _run(desk, "plain.tilseg", "--tile", 64, "--probabilities", "--instances", "none")


@pytest.fixture(scope="module")
def page(result) -> Page:
    return Page(result / "report.html")


def _mask(result: Path) -> np.ndarray:
    return zarr.open_group(result / "mask.zarr", mode="r")["0"][:]


def test_it_needs_nothing_else(page, result):
    assert len(page.text) < 3_000_000
    addresses = [
        value for _, each in page.elements for key, value in each.items() if key in ("href", "src")
    ]
    others = {each for each in addresses if not each.startswith(("data:image/", "#"))}
    assert others == {path.name for path in result.iterdir()} - {"report.html"}
    assert "://" not in re.sub(r'xmlns="[^"]*"', "", page.text)
    (policy,) = [each["content"] for each in page.all("meta") if "http-equiv" in each]
    for tag in ("script", "style"):
        (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", page.text, re.S)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_names_stay_text(page):
    assert {tag for tag, _ in page.elements} & {"b", "img", "script"} == {"script", "b"}
    assert len(page.all("script")) == 1
    # The bold ones are the titles of close-ups.
    assert len(page.all("b")) == len(page.sizes())
    assert not any(key.startswith("on") or key == "style" for _, at in page.elements for key in at)
    assert page.words["h1"] == [IMAGE.removesuffix(".tif")]
    assert set(NAMES[1:]) <= {re.sub(r"^.*?, ", "", text) for text in page.words["span"]}


def test_it_can_be_read_without_seeing(page):
    assert page.all("html") == [{"lang": "en"}]
    assert all(each["aria-label"] for each in page.all("image") if each["class"] == "photo")
    assert all(each.get("role") == "img" for each in page.all("image") if each["class"] == "photo")
    for each in page.all("svg"):
        if "viewBox" in each and each.get("role") == "img":
            assert "median" in each["aria-label"]
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def test_figures_are_those_of_the_mask(page, result):
    mask = _mask(result)
    _, *rows = page.cells()
    for value, (cells, name) in enumerate(zip(rows, NAMES, strict=True)):
        here = mask == value
        numbers = label(np.where(here, 1, 0), connectivity=2)
        areas = np.bincount(numbers[here])[1:] / 16  # pixels of 0.25 um
        assert cells[1:4] == [
            str(value),
            f"{here.sum():,}",
            f"{100 * here.mean():.2f} %",
        ]
        assert cells[4] == f"{here.sum() / 16:,.0f} µm²"
        assert html.unescape(cells[0]) == name
        if value:
            assert cells[5] == f"{numbers.max():,}"
            assert cells[6] == f"{np.median(areas):.4g} µm²"
        else:
            assert cells[5:] == ["-", "-"]


def test_pictures_are_those_of_image_and_mask(page, desk, result):
    image, mask = tifffile.imread(desk / IMAGE), _mask(result)
    opaque = np.array([[*color, 255] for color in COLORS])
    opaque[0, 3] = 0
    whole = Window.whole(Size(*SHAPE))
    windows = [whole, *page.sizes()]
    assert len(windows) == 13
    kinds = [page.pictures(kind) for kind in ("photo", "mask", "outlines")]
    for window, photo, fill, lines in zip(windows, *kinds, strict=True):
        np.testing.assert_array_equal(photo, image[window.slices])
        np.testing.assert_array_equal(fill, opaque[mask[window.slices]])
        scale = lines.shape[0] // window.rows
        grown = mask[window.slices].repeat(scale, 0).repeat(scale, 1)
        edges = find_boundaries(grown, connectivity=1, mode="thick") & (grown > 0)
        np.testing.assert_array_equal(lines[..., 3] == 255, edges)
        np.testing.assert_array_equal(lines[edges], opaque[grown][edges])


def test_close_ups_show_what_they_say(page, result):
    titles = re.findall(r"<b>\d+\. (.*?)</b>", page.text)
    kinds = ["Largest"] * 2 + ["Smallest"] * 2 + ["Chosen at random"] * 4 + ["Most uncertain"] * 4
    assert titles == kinds
    mask = _mask(result)
    numbers = label(np.where(mask == 255, 0, mask), background=0, connectivity=2)
    areas = np.bincount(numbers.ravel())[1:]
    shown = [int(each.replace(",", "")) for each in re.findall(r"\(([\d,]+) px\)", page.text)]
    assert shown[:2] == sorted(areas)[::-1][:2]
    assert shown[2:4] == sorted(areas)[:2]
    probabilities = zarr.open_group(result / "probabilities.zarr", mode="r")["1"][:]
    top = np.sort(probabilities.astype(int), axis=0)
    row, col = np.unravel_index(np.argmin(top[-1] - top[-2]), top.shape[1:])
    assert page.sizes()[8].contains(Window(2 * int(row), 2 * int(col), 1, 1))


def test_the_command_makes_it_again(desk, tmp_path, monkeypatch):
    polygon = {
        "type": "Polygon",
        "coordinates": [[[9, 9], [450, 30], [400, 390], [9, 350], [9, 9]]],
    }
    (desk / "roi.geojson").write_text(json.dumps({**polygon}))
    result = _run(
        desk,
        "rich.tilseg",
        *("--tile", 64, "--bands", "3,2,1", "--mpp", "0.3", "--roi", "roi.geojson"),
        *("--tta", "d4", "--min-area", "1.5um2", "--only", "1,2", "--connectivity", "4"),
        *("--instances", "watershed:1.5", "--labels", "--polygons", "geojson", "--simplify", 1.5),
    )
    (command,) = Page(result / "report.html").words["pre"]
    program, *order = shlex.split(command)
    assert program == "tilseg"
    monkeypatch.chdir(tmp_path)
    _tilseg(*order, "-o", "again.tilseg")
    assert tree(tmp_path / "again.tilseg") == tree(result)


@pytest.mark.parametrize(
    "options",
    [
        ("--level", "0", "--no-regions", "--outputs", "zarr"),
        ("--pixel-size", "0.7um", "--series", "0"),
        ("--mpp", "0.41um", "--tissue", "auto", "--shape"),
        ("--precision", "bf16", "--tissue", "none"),
    ],
)
def test_the_command_has_every_option(desk, tmp_path, monkeypatch, options):
    result = _run(desk, "options.tilseg", "--overwrite", "--tile", 64, *options)
    order = shlex.split(Page(result / "report.html").words["pre"][0])[1:]
    monkeypatch.chdir(tmp_path)
    _tilseg(*order, "-o", "again.tilseg")
    prints = [
        unseal((each / "run.json").read_bytes())["fingerprint"]
        for each in (result, tmp_path / "again.tilseg")
    ]
    assert prints[0] == prints[1]


def test_the_command_names_every_field_of_a_plan():
    # A new one belongs into the command, unless it changes no pixel.
    fields = set(tilseg.make_plan.__kwdefaults__) - {"memory", "workers", "processes", "cpus"}
    source = Path(report_page.__code__.co_filename).with_name("command.py").read_text()
    said = {"resolution": "mpp", "regions": "no-regions"}
    assert [name for name in fields if said.get(name, name).replace("_", "-") not in source] == []


def test_a_scene_without_data_everywhere(desk, tmp_path):
    save_tiny_model(desk / "four.safetensors", bands=4, classes=2)
    pixels = noise(211, 307, bands=4, dtype=np.uint16) * 9 + 1
    pixels[:60] = 0
    transform = rasterio.transform.from_origin(400_000, 5_000_000, 10, 10)
    with rasterio.open(
        tmp_path / "scene.tif", "w", driver="GTiff", width=307, height=211, count=4, dtype="uint16",
        crs="EPSG:32633", transform=transform, nodata=0,
    ) as file:  # fmt: skip
        file.write(np.moveaxis(pixels, 2, 0))
    order = ["run", tmp_path / "scene.tif", "--model", desk / "four.safetensors"]
    _tilseg(*order, "-o", tmp_path / "s.tilseg")
    page, mask = Page(tmp_path / "s.tilseg" / "report.html"), _mask(tmp_path / "s.tilseg")
    assert (mask[:60] == 255).all()
    (fill, *_), (photo, *_) = page.pictures("mask"), page.pictures("photo")
    assert (fill[:60] == (173, 181, 189, 255)).all()
    assert (photo[:60] == (233, 236, 239)).all()
    # Brightest and darkest of what has data are stretched from black to white.
    assert photo[60:].min() == 0
    assert photo[60:].max() == 255
    hectares = (mask == 1).sum() * 100 / 1e4
    assert f"{hectares:.4g} ha" in page.text or f"{hectares / 100:.4g} km²" in page.text
    assert "no data, 28 %" in page.words["span"]
    assert "500 m" in page.words["text"]


def test_what_is_not_exact_is_said(desk, tmp_path):
    corners = {"padding": "same", "upsampling": "bilinear-corners"}
    save_tiny_model(tmp_path / "inexact.safetensors", **corners)
    order = ["run", desk / IMAGE, "--model", tmp_path / "inexact.safetensors", "--tile", 64]
    _tilseg(*order, "--allow-inexact", "--precision", "bf16", "-o", tmp_path / "i.tilseg")
    receipt = unseal((tmp_path / "i.tilseg" / "run.json").read_bytes())["inexact"]
    warnings = Page(tmp_path / "i.tilseg" / "report.html").words["p"]
    for part in ("tiling", "precision"):
        assert any(f"{100 * receipt[part]['labels']:.2g} % of" in each for each in warnings)
    assert any(receipt["tiling"]["reason"] in each for each in warnings)


def test_tissue_and_what_was_not_segmented(desk, tmp_path):
    image = np.full((701, 523, 3), 240, np.uint8)
    image[300:500, 100:220] = noise(200, 120)
    tifffile.imwrite(tmp_path / "pale.tif", image, photometric="rgb")
    result = _run(
        desk, "tissue.tilseg", "--tissue", "auto", "--tile", 64, image=tmp_path / "pale.tif"
    )
    page = Page(result / "report.html")
    tissue = np.asarray(Image.open(result / "tissue.png")) > 0
    (shown,), (skipped,) = page.pictures("tissue"), page.pictures("skipped")
    assert shown.shape[:2] == skipped.shape[:2] == tissue.shape
    np.testing.assert_array_equal(shown[..., 3] == 150, ~tissue)
    blocks = json.loads((result / "summary.json").read_text())["blocks"]
    assert f"{blocks['skipped']['tissue']} without tissue, of {blocks['total']} blocks" in page.text
    assert not (skipped[tissue][:, 3] > 0).any()
    assert (skipped[..., 3] > 0).any()


def test_what_could_not_be_computed_is_said(desk, tmp_path):
    tifffile.imwrite(
        tmp_path / "bad.tif", noise(*SHAPE), photometric="rgb", tile=(64, 64), compression="zlib"
    )
    with tifffile.TiffFile(tmp_path / "bad.tif") as tif:
        offset, count = tif.pages[0].dataoffsets[20], tif.pages[0].databytecounts[20]
    with (tmp_path / "bad.tif").open("r+b") as file:
        file.seek(offset)
        file.write(bytes(count))
    plan = tilseg.make_plan(
        tilseg.open_source(tmp_path / "bad.tif"),
        tilseg.load_model(desk / "tiny.safetensors", threads=1),
        tile=64,
        threads=1,
    )
    report = tilseg.run(plan, tmp_path / "bad.tilseg", on_bad_tile="mask")
    page = Page(report.output / "report.html")
    assert f"{len(report.bad)} tiles could not be computed" in page.text
    assert str(report.bad[0].window) in page.text
    assert "Parts of the image could not be read." in page.text
    assert "--on-bad-tile=mask" in page.text


def test_the_last_lines_say_where_to_look_next(desk, result, capsys):
    _run(desk, "plain.tilseg", "--tile", 64, "--probabilities", "--instances", "none")
    lines = capsys.readouterr().out.splitlines()[-4:]
    names = ("report.html", "mask.tif", "mask.zarr", "regions.csv")
    assert [line.split()[1] for line in lines] == [f"plain.tilseg/{name}" for name in names]
    assert lines[0].startswith("report ")
    # In columns.
    assert {line.index("plain.tilseg") for line in lines} == {len("report ")}


def test_one_file_has_no_report(desk, tmp_path):
    _run(desk, str(tmp_path / "alone.tif"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alone.tif", "alone.tif.json"]


def test_an_array_has_no_command(desk, tmp_path):
    source = tilseg.open_source(noise(97, 61))
    plan = tilseg.make_plan(source, tilseg.load_model(desk / "two.safetensors"))
    tilseg.run(plan, tmp_path / "array.tilseg")
    page = Page(tmp_path / "array.tilseg" / "report.html")
    assert "pre" not in page.words
    assert "no command can make this again" in page.text


def test_an_image_too_large_to_read_for_a_picture(desk, tmp_path, monkeypatch):
    monkeypatch.setattr(overview, "_MOST_READ", SHAPE[0] * SHAPE[1] - 1)
    corner = [[[0, 0], [100, 0], [100, 50], [0, 50], [0, 0]]]
    roi = {"type": "Polygon", "coordinates": corner}
    (tmp_path / "roi.geojson").write_text(json.dumps(roi))
    small = ("--roi", tmp_path / "roi.geojson")
    page = Page(_run(desk, "large.tilseg", "--overwrite", "--tile", 64, *small) / "report.html")
    assert "this is the mask alone" in page.text
    assert (page.pictures("photo")[0] == (233, 236, 239)).all()
    # The close-ups are there all the same.
    np.testing.assert_array_equal(
        page.pictures("photo")[1], tifffile.imread(desk / IMAGE)[page.sizes()[0].slices]
    )
    # Where the network has read all of it, once more is little.
    page = Page(_run(desk, "large.tilseg", "--overwrite", "--tile", 64) / "report.html")
    assert "this is the mask alone" not in page.text
    assert len(np.unique(page.pictures("photo")[0].reshape(-1, 3), axis=0)) > 99


def test_worst_of_pictures_and_a_million_regions_stay_small(desk, tmp_path, monkeypatch):
    """Noise in image and mask, 200 classes and a million regions: below 3 MB, and in little memory."""
    pages: list[Any] = []
    monkeypatch.setattr("tilseg.finish.report_page", lambda of: pages.append(of) or "")
    result = _run(desk, "worst.tilseg", "--overwrite", "--tile", 64, "--probabilities")
    monkeypatch.undo()
    doubts = ProbabilityStore.open(result / "probabilities.zarr")
    of = replace(pages[0], stores=replace(pages[0].stores, probabilities=doubts))
    rng, shape = np.random.default_rng(0), Size(1301, 1499)
    store = MaskStore.create(tmp_path / "mask.zarr", shape, shape)
    store.commit(Window.whole(shape), rng.integers(0, 200, shape, np.uint8))
    classes = [of.card.classes[1].model_copy(update={"name": f"{k:03}" * 60}) for k in range(200)]
    store.finish(name="worst", classes=classes, georef=of.georef, background=None)
    card = of.card.model_copy(update={"classes": tuple(classes), "background": None})
    worst = _replace(of, card, store, shape, _million(rng, shape))
    tracemalloc.start()
    page = report_page(worst)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 500_000 < len(page.encode()) < 3_000_000
    assert peak < 250e6


def _million(rng: np.random.Generator, shape: Size) -> RegionTable:
    count = 1_000_000
    rows, cols = (rng.integers(0, side - 1, count) for side in shape)
    columns = {
        "label": np.arange(1, count + 1),
        "class": rng.integers(0, 200, count),
        "area": rng.integers(1, 400, count),
        "area_um2": rng.random(count),
        "eccentricity": rng.random(count),
        "bbox-0": rows,
        "bbox-1": cols,
        "bbox-2": rows + 1,
        "bbox-3": cols + 1,
    }
    return RegionTable(columns, BlockGrid(shape, shape), Rules(), 0, 0, {})


def _replace(of: Any, card: Any, store: MaskStore, shape: Size, regions: RegionTable) -> Any:
    summary = {
        **of.summary,
        "classes": [
            {**of.summary["classes"][1], "value": value, "name": each.name, "regions": 5000}
            for value, each in enumerate(card.classes)
        ],
    }
    plan = replace(
        of.plan, grid=replace(of.plan.grid, shape=shape), regions=RegionOptions(instances=None)
    )
    pixels = np.random.default_rng(1).integers(0, 256, (*shape, 3), np.uint8)
    return replace(
        of,
        plan=plan,
        card=card,
        source=tilseg.open_source(pixels),
        stores=replace(of.stores, mask=store),
        numbers=store.read,
        regions=regions,
        summary=summary,
    )
