"""The preflight's numbers, against what masks really take."""

from __future__ import annotations

import shutil
from collections import namedtuple
from dataclasses import replace

import numpy as np
import pytest
from test_resume import PLAN
from tiny import noise

from tilseg.card import ClassInfo
from tilseg.disk import check_disk, needed, tree_bytes
from tilseg.errors import OutputError
from tilseg.georef import Georef
from tilseg.plan import TileGrid
from tilseg.sink import load_sink
from tilseg.sinks.zarr import MaskStore
from tilseg.window import Size

Usage = namedtuple("Usage", "total used free")


def _plan(rows, cols, block=512):
    grid = TileGrid(Size(rows, cols), PLAN.grid.field, Size(64, 64), Size(block // 64, block // 64))
    return replace(PLAN, grid=grid)


def _taken(folder, labels) -> dict[str, int]:
    """Bytes that a mask takes as zarr with its pyramid, and as OME-TIFF."""
    store = MaskStore.create(folder / "mask.zarr", Size(*labels.shape), Size(512, 512))
    for block in _plan(*labels.shape).grid:
        store.commit(block.write, labels[block.write.slices].copy())
    classes = [ClassInfo(name=str(k), color="#102030") for k in range(int(labels.max()) + 1)]
    store.finish(name="m", classes=classes, georef=Georef(), background=0)
    load_sink("ometiff").write(store, folder / "mask.tif")
    return {
        "mask.zarr": tree_bytes(folder / "mask.zarr"),
        "mask.tif": (folder / "mask.tif").stat().st_size,
    }


def _blobs(rows, cols, classes):
    """A mask as people make them: smooth regions of some hundred pixels."""
    from scipy.ndimage import gaussian_filter

    field = gaussian_filter(np.random.default_rng(0).normal(size=(rows, cols)), 24)
    ranks = np.searchsorted(np.quantile(field, np.linspace(0, 1, classes + 1)[1:-1]), field)
    return ranks.astype(np.uint8)


@pytest.mark.parametrize("classes", [2, 5])
def test_masks_of_regions_take_no_more_than_expected(tmp_path, classes):
    labels = _blobs(1301, 1103, classes)
    need = needed(_plan(*labels.shape), classes, ("zarr", "tif"), is_map=False)
    for name, taken in _taken(tmp_path, labels).items():
        assert taken < need.parts[name]


@pytest.mark.parametrize("classes", [2, 5, 200])
def test_noise_takes_no_more_than_the_bound(tmp_path, classes):
    labels = np.random.default_rng(0).integers(0, classes, (1301, 1103)).astype(np.uint8)
    need = needed(_plan(*labels.shape), classes, ("zarr", "tif"), is_map=False)
    assert sum(_taken(tmp_path, labels).values()) < need.bound


def test_refused_with_numbers_only_when_the_expected_does_not_fit(tmp_path, monkeypatch):
    need = needed(_plan(20_000, 30_000), 2, ("zarr", "tif"), is_map=True)
    assert set(need.parts) == {"mask.zarr", "mask.tif", "staging"}

    def disk(free: int) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**12, 10**12 - free, free))

    disk(need.total)
    check_disk(tmp_path / "x.tilseg", need, 0)
    disk(need.total - 1)
    check_disk(tmp_path / "x.tilseg", need, 1)
    with pytest.raises(OutputError) as caught:
        check_disk(tmp_path / "x.tilseg", need, 0)
    assert caught.value.id == "E-DISK"
    assert caught.value.exit_code == 7
    words = caught.value.message
    assert "mask.zarr 30.0 MB, mask.tif 26.2 MB, staging 37.5 MB" in words
    assert "needs about 93.8 MB" in words
    assert "93.7 MB are free" in words


def test_what_is_there_is_not_needed_again(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_bytes(noise(3, 5).tobytes())
    assert tree_bytes(tmp_path) == 45
    assert tree_bytes(tmp_path / "nowhere") == 0
