"""A scene is named by a list or a pattern; its bands and its results get names of their own."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilseg.names import common_name, distinct_words, file_names, joined, placed

# What a file may be called, separators of lists, patterns and uris among it.
NAMES = st.text(st.sampled_from("ab,_.-#*[]? ="), min_size=1).filter(lambda n: n not in (".", ".."))


@given(st.lists(NAMES, min_size=1, max_size=4))
def test_a_joined_list_is_taken_apart_again(names):
    paths = [f"/nowhere/{name}" for name in names]
    assert file_names(joined(paths)) == tuple(paths)


def test_names_are_made_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert joined(["b.tif", Path("c,d.tif")]) == f"{tmp_path}/b.tif,{tmp_path}/c,,d.tif"
    assert file_names("b.tif,c,,d.tif") == ("b.tif", "c,d.tif")


def test_patterns_give_the_files_that_fit(tmp_path):
    for name in ("x_B03.tif", "x_B02.tif", "x_B8A.tif", "a,b.tif", "c[1].tif"):
        (tmp_path / name).touch()
    found = file_names(f"{tmp_path}/x_B0[23].tif,{tmp_path}/*8A*")
    assert [Path(name).name for name in found] == ["x_B02.tif", "x_B03.tif", "x_B8A.tif"]
    # What is there is never a list or a pattern.
    for name in ("a,b.tif", "c[1].tif"):
        assert file_names(f"{tmp_path}/{name}") == (f"{tmp_path}/{name}",)
    assert file_names(f"{tmp_path}/z*.tif") == (f"{tmp_path}/z*.tif",)


def test_addresses_may_hold_commas_and_are_never_patterns():
    one = "https://host/a,b?.tif"
    assert file_names(one) == (one,)
    assert file_names(f"{one.replace(',', ',,')},http://host/c.tif") == (one, "http://host/c.tif")
    assert file_names(joined([one, "s3://bucket/c.tif"])) == (one, "s3://bucket/c.tif")


@pytest.mark.parametrize(
    ("names", "words", "common"),
    [
        (("lake/B02.tif", "lake/B8A.tif"), ("B02", "B8A"), "lake"),
        (("T33UUU_20230101_B02_10m.tif", "T33UUU_20230101_B03_10m.tif"), ("B02", "B03"),
         "T33UUU_20230101"),
        (("T33_B02_10m.tif", "T33_B11_20m.tif"), ("B02_10m", "B11_20m"), "T33"),
        (("B02_x/B02.tif", "B02_x/B03.tif"), ("B02", "B03"), "B02_x"),
        (("B02/img.tif", "B03/img.tif"), ("B02", "B03"), "img"),
        (("s/a.tif", "s/a_b.tif"), ("a", "b"), "s"),
        (("LC08.2023.SR_B4.TIF", "LC08.2023.SR_B5.TIF"), ("B4", "B5"), "LC08.2023.SR"),
        (("x/one.ome.tif",), ("tif",), "one.ome"),
    ],
)  # fmt: skip
def test_words_that_differ_name_bands_and_those_that_do_not_the_scene(names, words, common):
    if len(names) > 1:
        assert distinct_words(names) == words
    assert common_name(names) == common


# A comma at the beginning of a name can't be told from one that parts two.
@given(
    st.lists(NAMES.filter(lambda n: n[0] != ","), min_size=1, max_size=3),
    st.sampled_from(["", "x,y", "x"]),
)
def test_a_list_is_the_same_from_elsewhere(names, folder):
    listed = ",".join(name.replace(",", ",,") for name in names)
    place = Path("/nowhere", folder)
    assert file_names(placed(listed, place)) == tuple(f"{place}/{name}" for name in names)


def test_what_is_there_from_elsewhere_is_no_list(tmp_path, monkeypatch):
    (tmp_path / "in,put").mkdir()
    for name in ("a,b.tif", "x_2.tif", "x_1.tif"):
        (tmp_path / "in,put" / name).touch()
    # The same names lead elsewhere from here.
    for name in ("a", "b.tif", "x_3.tif"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    folder = Path("in,put")
    assert file_names(placed("a,b.tif", folder)) == ("in,put/a,b.tif",)
    assert file_names(placed("x_*.tif", folder)) == ("in,put/x_1.tif", "in,put/x_2.tif")
    assert placed("s3://bucket/a.tif", folder) == "s3://bucket/a.tif"
