"""`tilseg change` as a user types it: the table, the mask, its regions, refusals."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
import rasterio
from metrics_oracle import blobs
from PIL import Image
from rasterio.transform import from_origin
from skimage.measure import label
from tiny import tree

import tilseg
from tilseg.card import ClassInfo
from tilseg.changes import result
from tilseg.changes.words import area
from tilseg.cli.main import main
from tilseg.errors import InputError, OutputError
from tilseg.georef import Georef
from tilseg.sinks.zarr import MaskStore
from tilseg.verbs import change as verb
from tilseg.window import Size, Window

SHAPE = (211, 307)
UTM = from_origin(5e5, 6e6, 2, 2)


def write_map(path: Path, mask: np.ndarray, transform=UTM, crs="EPSG:32633", **profile) -> Path:
    rows, cols = mask.shape
    profile |= {"height": rows, "width": cols, "count": 1, "dtype": mask.dtype, "crs": crs}
    with rasterio.open(path, "w", "GTiff", transform=transform, **profile) as file:
        file.write(mask, 1)
    return path


def write_run(folder: Path, mask: np.ndarray, names: list[str]) -> Path:
    """The mask of a run with these classes."""
    store = MaskStore.create(folder / "mask.zarr", Size(*mask.shape), Size(64, 64))
    for row in range(0, mask.shape[0], 64):
        for col in range(0, mask.shape[1], 64):
            block = np.ascontiguousarray(mask[row : row + 64, col : col + 64])
            store.commit(Window(row, col, *block.shape), block)
    classes = [ClassInfo(name=name, color=f"#{n + 1:06x}") for n, name in enumerate(names)]
    store.finish(name="m", classes=classes, georef=Georef(), background=0)
    return folder


@pytest.fixture
def desk(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(verb, "_BLOCK", Size(96, 64))
    write_map(tmp_path / "a.tif", blobs(0, SHAPE, ignored=0.05), nodata=255)
    write_map(tmp_path / "b.tif", blobs(1, SHAPE, ignored=0.02), nodata=255)
    return tmp_path


def call(capsys, *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["change", *map(str, arguments)])
    out, err = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    return ended.value.code, out, err


def pixels(path: Path) -> np.ndarray:
    with rasterio.open(path) as file:
        return file.read(1)


def expected_mask(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """0, or 1, 2, ... for the pairs that occur, ascending; 255 where either has no class."""
    valid = (before != 255) & (after != 255)
    changed = valid & (before != after)
    kinds = before.astype(int) * 1000 + after
    mask = np.where(valid, 0, 255)
    mask[changed] = np.searchsorted(np.unique(kinds[changed]), kinds[changed]) + 1
    return mask


def test_the_result_is_that_of_the_whole_arrays(desk, capsys):
    code, out, err = call(capsys, "a.tif", "b.tif", "-o", "out", "--polygons", "geojson")
    assert (code, err) == (0, "")
    assert "out/change.html" in out
    mask = expected_mask(pixels(desk / "a.tif"), pixels(desk / "b.tif"))
    np.testing.assert_array_equal(pixels(desk / "out" / "change.tif"), mask)
    store = MaskStore.open(desk / "out" / "change.zarr")
    np.testing.assert_array_equal(store.read(Window(0, 0, *SHAPE)), mask)
    with rasterio.open(desk / "out" / "change.tif") as file:
        assert (file.nodata, file.transform, file.crs.to_epsg()) == (255, UTM, 32633)
        assert file.tags(1)["CLASS_0"] == "unchanged"
        assert file.tags(1)["CLASS_1"] == "class 0 to class 1"
        assert file.tags()["TILSEG_BEFORE"] == "a.tif"
        assert file.colormap(1)[1][:3] == (0xD5, 0x5E, 0)
    aux = ET.parse(desk / "out" / "change.tif.aux.xml").getroot()
    assert [each.text for each in aux.iter("Category")][:2] == ["unchanged", "class 0 to class 1"]
    style = ET.parse(desk / "out" / "change.qml").getroot()
    assert [entry.get("alpha") for entry in style.iter("paletteEntry")][:2] == ["0", "255"]

    rows = list(csv.DictReader((desk / "out" / "changes.csv").open()))
    for row in rows:
        value = int(row["value"])
        if value:
            assert int(row["pixels"]) == np.count_nonzero(mask == value)
            pieces = label(mask == value, connectivity=2).max()
            assert int(row["regions"]) == pieces
        # Pixels of 2 m; UTM is true to scale here.
        assert float(row["area_m2"]) == 4 * int(row["pixels"])
    assert sum(int(row["pixels"]) for row in rows) == np.count_nonzero(mask != 255)
    regions = list(csv.DictReader((desk / "out" / "regions.csv").open()))
    assert len(regions) == sum(int(row["regions"] or 0) for row in rows)
    drawn = json.loads((desk / "out" / "regions.geojson").read_text())["features"]
    assert len(drawn) == len(regions)
    assert main_verify(desk / "out") == 0


def main_verify(path: Path) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["verify", str(path)])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_the_receipt_finds_damage(desk, capsys):
    call(capsys, "a.tif", "b.tif", "-o", "out")
    content = json.loads((desk / "out" / "change.json").read_text())
    assert content["change"] == tilseg.change("a.tif", "b.tif", output="out").to_json()
    assert [Path(each["path"]).name for each in content["inputs"]] == ["a.tif", "b.tif"]
    with (desk / "out" / "changes.csv").open("a") as file:
        file.write("x")
    assert main_verify(desk / "out") == 12
    assert "changes.csv is damaged" in capsys.readouterr().out


def test_without_an_output_nothing_is_written(desk, capsys):
    code, out, _ = call(capsys, "a.tif", "b.tif", "--json")
    assert code == 0
    found = tilseg.change("a.tif", "b.tif")
    assert json.loads(out) == found.to_json()
    assert found.regions is None
    assert sorted(path.name for path in desk.iterdir()) == ["a.tif", "b.tif"]
    _, out, _ = call(capsys, "a.tif", "b.tif")
    assert re.search(r"class 0 +class 1 +[\d,]+ +\d+\.\d\d % +[\d,.]+ m²", out)


def test_areas_on_the_ground_add_up_where_pixels_differ(desk):
    place = from_origin(10, 60, 0.01, 0.02)
    for name in ("a", "b"):
        write_map(desk / f"{name}.tif", pixels(desk / f"{name}.tif"), place, "EPSG:4326")
    found = tilseg.change("a.tif", "b.tif", output="out")
    assert found.regions is not None
    areas, kinds = found.regions.columns["area_m2"], found.regions.columns["class"]
    for each in found.changes:
        assert each.area == pytest.approx(areas[kinds == each.value].sum(), rel=1e-9)
    # So large an area is shown in square kilometres.
    assert area(found, 2.5e6) == "2.50 km²"
    # On a sphere of the same radius a row's pixels shrink with the cosine; 0.7 % for its shape.
    mask = expected_mask(pixels(desk / "a.tif"), pixels(desk / "b.tif"))
    rows = np.deg2rad(60 - 0.02 * (np.arange(SHAPE[0]) + 0.5))
    sphere = np.deg2rad(0.01) * np.deg2rad(0.02) * 6371008.8**2 * np.cos(rows)
    expected = ((mask == 1).sum(axis=1) * sphere).sum()
    assert found.changes[0].area == pytest.approx(expected, rel=0.007)


def test_classes_go_by_name(desk):
    before = blobs(0, SHAPE)
    write_run(desk / "x.tilseg", before, ["land", "water", "field"])
    # The same map, its classes in another order, one of them new.
    swapped = np.array([0, 2, 1], np.uint8)[before]
    swapped[100:, :40] = 3
    write_run(desk / "y.tilseg", swapped, ["land", "field", "water", "town"])
    found = tilseg.change("x.tilseg", "y.tilseg", output="out")
    assert {each.after for each in found.changes} == {"town"}
    assert found.changed_pixels == 111 * 40
    assert [each.name for each in found.classes] == ["land", "water", "field", "town"]
    assert [each.after for each in found.classes] == [(0,), (2,), (1,), (3,)]
    write_run(desk / "z.tilseg", before, ["a", "b", "c"])
    with pytest.raises(InputError, match="classes a, b, c, and none of those of") as caught:
        tilseg.change("x.tilseg", "z.tilseg")
    assert caught.value.id == "E-CHANGE-CLASSES"


def test_many_kinds_of_change_need_wider_pixels(desk):
    rng = np.random.default_rng(7)
    before, after = rng.integers(0, 19, (2, 131, 97)).astype(np.uint8)
    before[:5] = 255
    found = tilseg.change(before, after, output="out")
    assert len(found.changes) == 19 * 18
    mask = expected_mask(before, after)
    np.testing.assert_array_equal(
        np.squeeze(tilseg.open_source(desk / "out" / "change.tif").read(Window(0, 0, 131, 97))),
        np.where(mask == 255, np.where(before == 255, 65535, mask), mask),
    )


def test_nothing_changed(desk):
    (desk / "copy.tif").write_bytes((desk / "a.tif").read_bytes())
    found = tilseg.change("a.tif", "copy.tif", output="out")
    assert (found.changes, len(found.regions), found.changed_area) == ((), 0, 0)
    assert "There are none." in (desk / "out" / "change.html").read_text()


def test_the_page_shows_every_changed_pixel(desk):
    before = np.zeros((1500, 2100), np.uint8)
    before[:, 1000:] = 1
    after = before.copy()
    after[700, 300] = 1
    after[:7, :7] = 255
    tilseg.change(before, after, output="out")
    text = (desk / "out" / "change.html").read_text()
    assert "<script" not in text
    assert "://" not in text
    shown = [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(png))))
        for png in re.findall(r"data:image/png;base64,([^\"]+)", text)
    ]
    assert [each.shape for each in shown] == [(500, 700, 3)] * 3
    odd = np.argwhere((shown[2] != shown[2][400, 400]).any(axis=2))
    # Cells of 3 x 3 pixels: nodata in the corner, and the one pixel.
    assert [tuple(cell) for cell in odd] == [
        (0, 0), (0, 1), (1, 0), (1, 1), (233, 100)
    ]  # fmt: skip


def test_names_cannot_break_the_page(desk):
    name = "</td><script>alert('x')</script>"
    classes = [{"value": 0, "name": "x" * 300}, {"value": 1, "name": name}, {"value": 2}]
    (desk / "legend.json").write_text(json.dumps({"classes": classes}))
    tilseg.change("a.tif", "b.tif", legend="legend.json", output="out")
    text = (desk / "out" / "change.html").read_text()
    assert "<script" not in text
    assert "&lt;script&gt;" in text


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        (("a.tif", "a.tif"), 2, "E-CHANGE-SAME"),
        (("a.tif", "b.tif", "--labels"), 2, "E-USAGE"),
        (("a.tif", "nothing.tif"), 4, "E-INPUT-MISSING"),
        (("a.tif", "float.tif"), 4, "E-CLASSES-DTYPE"),
        (("a.tif", "crs.tif"), 4, "E-CLASSES-GRID"),
        (("a.tif", "far.tif", "--align"), 4, "E-CLASSES-NONE"),
        (("a.tif", "b.tif", "-o", "a.tif"), 7, "E-OUTPUT-INPUT"),
        (("a.tif", "b.tif", "-o", "no/such"), 7, "E-OUTPUT-PARENT"),
        (("a.tif", "b.tif", "-o", "mine"), 10, "E-CHANGE-EXISTS"),
    ],
)
def test_what_is_refused_is_said_in_one_line(desk, capsys, arguments, code, error):
    write_map(desk / "float.tif", np.zeros(SHAPE, np.float32))
    write_map(desk / "crs.tif", np.zeros(SHAPE, np.uint8), crs="EPSG:32634")
    write_map(desk / "far.tif", np.zeros(SHAPE, np.uint8), from_origin(7e5, 6e6, 2, 2))
    (desk / "mine").mkdir()
    (desk / "mine" / "notes.txt").write_text("keep me")
    before = tree(desk)
    found, out, err = call(capsys, *arguments)
    assert (found, out) == (code, "")
    assert re.fullmatch(rf"error\[{error}\]: .+\n", err)
    assert tree(desk) == before


def test_a_failure_leaves_what_was_there(desk, monkeypatch):
    tilseg.change("a.tif", "b.tif", output="out")
    before = tree(desk)

    def fail(*_):
        raise OutputError("E-OUTPUT-READBACK", path="change.tif", reason="other pixels")

    monkeypatch.setattr(result, "check_export", fail)
    with pytest.raises(OutputError):
        tilseg.change("b.tif", "a.tif", output="out")
    assert tree(desk) == before
    monkeypatch.undo()
    monkeypatch.chdir(desk)
    tilseg.change("b.tif", "a.tif", output="out")
    assert tree(desk).keys() >= {"out/change.json", "out/change.tif"}
    assert sorted(path.name for path in desk.iterdir()) == ["a.tif", "b.tif", "out"]


def test_naip_of_two_years(desk, capsys, real_data):
    """Water by its index in 2009 and 2012; the second grid lies 2 m, 0.4 rows, lower."""
    masks = {}
    for year, day in (("2009", "20090818"), ("2012", "20120731")):
        name = f"m_4709963_se_14_1_{day}.tif"
        with rasterio.open(real_data / "geo_naip_wetlands" / name) as file:
            _, green, _, infrared = file.read().astype(np.int16)
            masks[year] = (green > infrared).astype(np.uint8)
            write_map(desk / f"{year}.tif", masks[year], file.transform, file.crs)
    code, _, err = call(capsys, "2009.tif", "2012.tif")
    assert code == 4
    assert re.search(r"E-CLASSES-GRID.*723 x 934.*5209245.*724 x 934.*5209247.*--align", err)
    code, _, err = call(capsys, "2009.tif", "2012.tif", "--align", "-o", "out")
    assert code == 0
    assert "from 0.4 rows below and 0 columns right" in err
    content = json.loads((desk / "out" / "change.json").read_text())["change"]
    common = 723 * 934
    assert (content["pixels"], content["missing_after"]) == (common, 934)
    assert sum(each["area"] for each in content["transitions"]) == common * 25 == content["area"]
    old, new = masks["2009"][:723], masks["2012"]
    assert {(each["before"][-1], each["after"][-1]): each["pixels"] for each in
            content["transitions"]} == {
        (str(one), str(two)): np.count_nonzero((old == one) & (new == two))
        for one in (0, 1) for two in (0, 1)
    }  # fmt: skip
