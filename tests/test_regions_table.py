"""Region tables as files: readable by others, the same bytes for the same regions."""

from __future__ import annotations

import numpy as np
import pyarrow.csv
import pyarrow.parquet
import pytest
from regions_oracle import tiled

import tilseg.regions.table as table
from tilseg.errors import OutputError
from tilseg.regions.table import write_csv, write_parquet


@pytest.fixture(scope="module")
def regions():
    rng = np.random.default_rng(2)
    mask = rng.integers(0, 3, (61, 83), dtype=np.uint8)
    return tiled(mask, (16, 20), rng.random((61, 83, 1)) * 1e-7)


WRITERS = {write_csv: pyarrow.csv.read_csv, write_parquet: pyarrow.parquet.read_table}


@pytest.mark.parametrize("write", WRITERS)
def test_every_value_comes_back(write, regions, tmp_path, monkeypatch):
    monkeypatch.setattr(table, "_ROWS", 100)
    write(regions, tmp_path / "regions")
    found = WRITERS[write](tmp_path / "regions")
    assert found.column_names == list(regions.columns)
    assert found.num_rows == len(regions) > 200
    for name, values in regions.columns.items():
        np.testing.assert_array_equal(found[name].to_numpy(), values, err_msg=name)


@pytest.mark.parametrize("write", WRITERS)
def test_the_same_regions_give_the_same_bytes(write, regions, tmp_path):
    write(regions, tmp_path / "one")
    write(regions, tmp_path / "two")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@pytest.mark.parametrize("write", WRITERS)
def test_no_regions_are_a_table_too(write, regions, tmp_path):
    write(regions.select(np.zeros(len(regions), dtype=bool)), tmp_path / "regions")
    found = WRITERS[write](tmp_path / "regions")
    assert (found.num_rows, found.column_names) == (0, list(regions.columns))


def test_parquet_is_written_in_row_groups_with_metadata(regions, tmp_path, monkeypatch):
    monkeypatch.setattr(table, "_ROWS", 100)
    write_parquet(regions, tmp_path / "regions", {"unit": "pixel"})
    file = pyarrow.parquet.ParquetFile(tmp_path / "regions")
    assert file.num_row_groups == -(-len(regions) // 100)
    assert file.schema_arrow.metadata[b"unit"] == b"pixel"


@pytest.mark.parametrize("write", WRITERS)
def test_a_folder_that_is_not_there(write, regions, tmp_path):
    with pytest.raises(OutputError) as caught:
        write(regions, tmp_path / "no" / "regions")
    assert caught.value.id == "E-OUTPUT-WRITE"
    assert "\n" not in str(caught.value)
