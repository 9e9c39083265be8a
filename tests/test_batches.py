"""Which images a batch has, what their results are called, and the table of how they ended."""

from __future__ import annotations

import csv
import hashlib
import json
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import save_tiny_model

from tilseg.batches.listing import Listed, list_images
from tilseg.batches.naming import BatchImage, name_results
from tilseg.batches.overview import write_overview
from tilseg.batches.record import Record, Records
from tilseg.batches.request import request
from tilseg.batches.table import Line, lines
from tilseg.errors import InputError, UsageError
from tilseg.workspace import Workspace


@pytest.fixture
def slides(tmp_path, monkeypatch) -> Path:
    for name in ("b/2.svs", "b/10.svs", "a/2.svs", "a/deep/1.svs", "a/x,y.tif", "a/[1].svs"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _images(*arguments: str) -> list[str]:
    return [each.image for each in list_images(arguments)]


def test_patterns_paths_and_what_a_shell_expands_are_one(slides):
    quoted = _images("*/*.svs")
    assert quoted == [
        str(slides / name) for name in ("a/2.svs", "a/[1].svs", "b/10.svs", "b/2.svs")
    ]
    assert _images("b/2.svs", "b/10.svs", "a/[1].svs", "a/2.svs", "./b/2.svs", "b/*.svs") == quoted
    assert str(slides / "a/deep/1.svs") in _images("**/*.svs")


def test_a_list_with_commas_is_a_scene_and_a_comma_in_a_name_is_not(slides):
    assert _images("b/2.svs,b/10.svs") == [f"{slides}/b/2.svs,{slides}/b/10.svs"]
    assert _images("a/x,y.tif") == [f"{slides}/a/x,y.tif"]


def test_a_pattern_that_nothing_fits_is_refused_and_a_missing_file_is_not_yet(slides):
    with pytest.raises(InputError, match=r"\*\.ndpi: no such file"):
        _images("*.ndpi")
    assert _images("gone.svs") == [str(slides / "gone.svs")]


def _manifest(folder: Path, *lines: str) -> str:
    path = folder / "list.csv"
    path.write_text("\ufeff" + "\n".join(lines) + "\n")
    return str(path)


def test_a_manifest_tells_of_each_image(slides, monkeypatch):
    (slides / "a" / "m.safetensors").touch()
    name = _manifest(
        slides / "a",
        "out,path, roi,model,pixel_size",
        "one.tilseg,2.svs,here.geojson,m.safetensors,0.5um",
        "",
        " ,../b/2.svs,,nuclei,",
    )
    monkeypatch.chdir("/")
    assert list_images([name]) == [
        Listed(
            str(slides / "a/2.svs"),
            str(slides / "a/m.safetensors"),
            "0.5um",
            slides / "a/here.geojson",
            "one.tilseg",
        ),
        Listed(str(slides / "b/2.svs"), "nuclei"),
    ]


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["path,modell"], "unknown column 'modell' (did you mean 'model'?)"),
        (["model"], "there is no column path"),
        (["path,path"], "column 'path' is there twice"),
        (["path,out", "a,b,c"], "line 2 has 3 fields, the first line 2"),
        (["path,out", "a,b", ",c"], "line 3 has no path"),
        (["path", '"a'], "line 2: unexpected end of data"),
        (["path;model"], "unknown column 'path;model'"),
    ],
)
def test_a_wrong_manifest_is_one_line(tmp_path, lines, words):
    with pytest.raises(UsageError) as refused:
        list_images([_manifest(tmp_path, *lines)])
    assert words in refused.value.message
    assert "path, model, pixel_size, roi, out" in refused.value.message


def test_a_manifest_that_is_missing_or_no_text(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        list_images([str(tmp_path / "none.csv")])
    (tmp_path / "bytes.csv").write_bytes(b"path\n\xff\xfe")
    with pytest.raises(UsageError, match="not UTF-8"):
        list_images([str(tmp_path / "bytes.csv")])


def test_names_are_stems_and_where_these_are_not_enough_a_hash(tmp_path):
    listed = [Listed("/a/1.svs"), Listed("/a/2.svs"), Listed("/b/2.svs"), Listed("/c/3", out="z")]
    names = [each.output.name for each in name_results(listed, tmp_path / "new", {})]
    digests = [hashlib.sha256(path).hexdigest()[:8] for path in (b"/a/2.svs", b"/b/2.svs")]
    assert names == ["1.tilseg", f"2-{digests[0]}.tilseg", f"2-{digests[1]}.tilseg", "z"]


@pytest.mark.parametrize("name", ["a#1.tif", "a#series=1.tif", "#.tif", "a.tif"])
def test_a_name_like_one_with_a_choice_is_its_own(tmp_path, name):
    (tmp_path / name).touch()
    listed = [Listed(str(tmp_path / name))]
    (first,) = name_results(listed, tmp_path / "results", {})
    for uri in (listed[0].image, f"{listed[0].image}#series=2"):
        first.output.mkdir(parents=True, exist_ok=True)
        (first.output / "run.json").write_text(json.dumps({"plan": {"source": uri}}))
        assert name_results(listed, tmp_path / "results", {}) == [first]


def test_a_run_that_has_just_begun_is_waited_for_to_say_of_which_image_it_is(tmp_path):
    (tmp_path / ".a.tilseg.partial").mkdir()
    plan = tmp_path / ".a.tilseg.partial" / "plan.json"

    def begin(image: str) -> str:
        plan.unlink(missing_ok=True)
        content = json.dumps({"plan": {"source": image}})
        timer = threading.Timer(0.2, plan.write_text, [content])
        timer.start()
        (named,) = name_results([Listed("one/a.tif")], tmp_path, {})
        timer.join()
        return named.output.name

    assert begin("one/a.tif") == "a.tilseg"
    assert begin("two/a.tif").startswith("a-")


def test_a_run_that_was_killed_before_it_said_so_is_in_nobody_s_way(tmp_path, monkeypatch):
    monkeypatch.setattr("tilseg.batches.naming._BEGIN_SECONDS", 0.05)
    (tmp_path / ".a.tilseg.partial").mkdir()
    (named,) = name_results([Listed("one/a.tif")], tmp_path, {})
    assert named.output.name == "a.tilseg"


def test_two_images_of_one_result_are_refused(tmp_path):
    listed = [Listed("/a/1.svs", out="x.tif"), Listed("/b/1.svs", out="x.tif")]
    with pytest.raises(UsageError, match=r"/a/1.svs and /b/1.svs would both become x.tif"):
        name_results(listed, tmp_path, {})


PATHS = [f"/{folder}/{stem}.svs" for folder in "abc" for stem in ("1", "2")]


@given(calls=st.lists(st.sets(st.sampled_from(PATHS), min_size=1), min_size=1, max_size=5))
def test_an_image_keeps_the_name_of_its_first_result(calls, tmp_path_factory):
    """Whatever lists come one after the other, into one folder."""
    folder = tmp_path_factory.mktemp("results")
    kept: dict[str, str] = {}
    for number, paths in enumerate(calls):
        named = name_results([Listed(path) for path in sorted(paths)], folder, {})
        names = {each.image: each.output.name for each in named}
        assert len(set(names.values())) == len(names)
        for image, name in names.items():
            assert kept.setdefault(image, name) == name
            # Some are finished, some are not.
            place = folder / (name if number % 2 else f".{name}.partial")
            place.mkdir(exist_ok=True)
            content = json.dumps({"plan": {"source": f"{image}#series=1"}})
            (place / ("run.json" if number % 2 else "plan.json")).write_text(content)
    assert len(set(kept.values())) == len(kept)


def _record(name: str, **changes: object) -> Record:
    one = {"name": "cell, round", "pixels": 7, "fraction": 0.5, "area": None, "regions": 2}
    summary = {"width": 5, "height": 3, "area_unit": None, "classes": [one]}
    return Record(f"/in/{name}", name, "complete", summary=summary, **changes)


def test_records_outlive_damage_and_strangers(tmp_path):
    records = Records(tmp_path)
    records.begin()
    records.write(_record("a.tilseg"))
    records.write(_record("a.tilseg", seconds=2.0))
    (records.folder / "x.json").write_text('{"half')
    (records.folder / "y.json").write_text("[1]")
    assert [record.seconds for record in records] == [2.0]
    tmp_path.rename(tmp_path.with_name("moved"))
    moved = Records(tmp_path.with_name("moved"))
    assert moved.of(tmp_path.with_name("moved") / "a.tilseg") is not None
    assert records.of(tmp_path / "b.tilseg") is None


def test_table_and_page_say_what_hostile_names_say_and_no_more(tmp_path):
    records = Records(tmp_path)
    records.begin()
    bad = "<script>alert(1)</script>.svs"
    line = Line(f"/in/{bad}", tmp_path / "x.tilseg", "failed", '"quoted", and\nbroken', None)
    good = _record("a.tilseg")
    every = [Line(good.image, tmp_path / "a.tilseg", "complete", "", good), line]
    write_overview(records, lambda: every)
    with (tmp_path / "batch.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == ["/in/a.tilseg", f"/in/{bad}"]
    assert rows[1]["message"] == '"quoted", and\nbroken'
    assert rows[0]["cell, round regions"] == "2"
    assert rows[1]["cell, round regions"] == ""
    page = (tmp_path / "batch.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "1 complete, 1 failed" in page


def test_a_pattern_does_not_stand_for_what_lies_in_results(slides):
    for name in ("a/2.tilseg/mask.tif", "a/2.tilseg/mask.zarr/0.tif"):
        (slides / name).parent.mkdir(parents=True)
        (slides / name).touch()
    assert _images("**/*.tif") == [str(slides / "a/x,y.tif")]
    assert str(slides / "a/2.tilseg") not in _images("a/*")
    assert _images("a/*.tilseg/*.tif") == [str(slides / "a/2.tilseg/mask.tif")]


@pytest.mark.parametrize("letter", ["x", "é"])
def test_a_stem_too_long_for_a_disk_is_cut(tmp_path, letter):
    listed = [Listed(f"/in/{letter * (251 // len(letter.encode()))}.svs"), Listed("/in/1.svs")]
    first, other = name_results(listed, tmp_path, {})
    assert other.output.name == "1.tilseg"
    Workspace(first.output).check_parent()
    with Workspace(first.output).lock.held():
        pass
    assert (first.output.name, hashlib.sha256(listed[0].image.encode()).hexdigest()[:8]) == (
        letter * (200 // len(letter.encode())) + first.output.name[-16:],
        first.output.name[-15:-7],
    )
    first.output.mkdir()
    (first.output / "run.json").write_text(json.dumps({"plan": {"source": listed[0].image}}))
    assert name_results(listed, tmp_path, {})[0] == first


def test_a_result_that_was_removed_is_waited_for(tmp_path):
    records = Records(tmp_path)
    records.begin()
    for name in ("a.tilseg", "b.tilseg"):
        records.write(_record(name))
    (tmp_path / "a.tilseg").mkdir()
    images = [BatchImage(f"/in/{name}", tmp_path / name) for name in ("a.tilseg", "b.tilseg")]
    assert [line.status for line in lines(images, records, {})] == ["complete", "waiting"]


def test_which_gpu_it_was_is_not_asked(tmp_path):
    model = save_tiny_model(tmp_path / "tiny.safetensors")
    asked = [request({"model": str(model), "device": name}, ()) for name in DEVICES]
    assert asked[0] == asked[1] == asked[2]
    assert len(set(asked)) == 3


DEVICES = ("cuda", "cuda:0", "cuda:3", "cpu", "auto")
