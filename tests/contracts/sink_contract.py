"""What every export of a mask must do. Subclass `SinkContract` and write its two members."""

from __future__ import annotations

import random
import subprocess
import sys
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tilseg.card import ClassInfo
from tilseg.errors import DamageError
from tilseg.georef import Georef, PixelSize
from tilseg.sink import Sink, load_sink
from tilseg.sinks.zarr import MaskStore
from tilseg.window import Size, Window

CLASSES = tuple(
    ClassInfo(name=name, color=color)
    for name, color in [
        ("background", "#000000"),
        ("nucleus", "#1f77b4"),
        ("Fläche <&> µ", "#FF7F0e"),
        ("border", "#2ca02c"),
    ]
)
PROVENANCE = {"software": "tilseg 0", "model": "Fläche <&> µ", "tile": "384 x 400"}
SLIDE = Georef(pixel_size=PixelSize(rows=0.2527, cols=0.2431, unit="um"))

# rows, columns, block: never square, never a multiple; the reason on the line
SHAPES = [
    (1, 1, 64),  # period 0 everywhere
    (1, 1501, 128),  # a line with levels
    (701, 1, 96),
    (509, 512, 194),  # no level below; a chunk that is not 512
    (513, 1031, 384),  # one pixel more than a tile
    (1201, 797, 1024),  # fewer pixels than blocks have
    (2111, 1693, 582),  # several levels, chunks that fit no tile
]


def random_mask(
    rows: int, cols: int, *, classes: int = 4, dtype: Any = np.uint8, seed: int = 0
) -> NDArray[Any]:
    """Class values in rectangles and dots, with nodata among them."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, classes, (rows // 7 + 1, cols // 5 + 1)).astype(dtype)
    labels = np.kron(coarse, np.ones((7, 5), dtype))[:rows, :cols].copy()
    labels[rng.random(labels.shape) < 0.05] = classes - 1
    labels[rng.random(labels.shape) < 0.05] = np.iinfo(dtype).max
    return labels


def committed(path: Path, labels: NDArray[Any], block: int | Size, seed: int = 0) -> MaskStore:
    """A store with all blocks of `labels`, committed in random order."""
    side = block if isinstance(block, Size) else Size(block, block)
    store = MaskStore.create(path, Size(*labels.shape), side, dtype=labels.dtype)
    windows = blocks(store)
    random.Random(seed).shuffle(windows)
    for window in windows:
        store.commit(window, labels[window.slices])
    return store


def blocks(store: MaskStore) -> list[Window]:
    """The blocks of a store, by arithmetic of the test's own."""
    (rows, cols), (height, width) = store.shape, store.block
    return [
        Window(row, col, min(height, rows - row), min(width, cols - col))
        for row in range(0, rows, height)
        for col in range(0, cols, width)
    ]


def finished(
    path: Path,
    labels: NDArray[Any],
    block: int | Size = 384,
    *,
    georef: Georef = SLIDE,
    classes: tuple[ClassInfo, ...] = CLASSES,
) -> MaskStore:
    store = committed(path, labels, block)
    store.finish(name="mask", classes=classes, georef=georef, background=0, provenance=PROVENANCE)
    return store


def run_limited(limit: int, code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run `code` in a process that can write no file longer than `limit` bytes: a full disk."""
    lines = (
        "import resource, sys",
        "from pathlib import Path",
        "from tilseg.errors import TilsegError",
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))",
        "try:",
        *("    " + line for line in code.strip().splitlines()),
        "except TilsegError as error:",
        "    print(type(error).__name__, error.id)",
    )
    command = [sys.executable, "-c", "\n".join(lines), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


_EXPORT = """
from tilseg.sink import load_sink
from tilseg.sinks.zarr import MaskStore
load_sink(sys.argv[1]).write(MaskStore.open(sys.argv[2]), Path(sys.argv[3]))
print("written")
"""


class SinkContract(ABC):
    """Subclasses name a registered sink and read its files with a library we did not write.

    beside: how the names of the files end that it puts beside the one it is asked for.
    """

    name: str
    beside: tuple[str, ...] = ()

    @abstractmethod
    def read(self, path: Path, level: int) -> NDArray[Any]:
        """Pixels (rows, cols) of a level of the file, level 0 the whole image."""

    @pytest.fixture
    def sink(self) -> Sink:
        return load_sink(self.name)

    def test_is_a_sink(self, sink):
        assert isinstance(sink, Sink)
        assert sink.suffix.startswith(".")

    @pytest.mark.parametrize(("rows", "cols", "block"), SHAPES)
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    def test_pixels_are_those_of_the_mask(self, sink, tmp_path, rows, cols, block, dtype):
        labels = random_mask(rows, cols, dtype=dtype)
        path = tmp_path / "mask.tif"
        sink.write(finished(tmp_path / "mask.zarr", labels, block), path)
        found = self.read(path, 0)
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, labels)

    # Each subclass runs it with its own sink: that is meant.
    @settings(
        max_examples=15,
        deadline=None,
        suppress_health_check=[HealthCheck.differing_executors],
    )
    @given(
        rows=st.integers(1, 700),
        cols=st.integers(1, 700),
        block=st.tuples(st.integers(40, 800), st.integers(40, 800)),
        classes=st.integers(1, 4),
    )
    def test_any_shape(self, tmp_path_factory, rows, cols, block, classes):
        folder = tmp_path_factory.mktemp("any")
        labels = random_mask(rows, cols, classes=classes)
        mask = finished(folder / "mask.zarr", labels, Size(*block), classes=CLASSES[:classes])
        load_sink(self.name).write(mask, folder / "mask.tif")
        np.testing.assert_array_equal(self.read(folder / "mask.tif", 0), labels)

    def test_same_mask_same_bytes_whatever_the_blocks(self, sink, tmp_path):
        labels = random_mask(1201, 797)
        for i, block in enumerate((256, 311)):
            sink.write(finished(tmp_path / f"{i}.zarr", labels, block), tmp_path / f"{i}.tif")
        assert (tmp_path / "0.tif").read_bytes() == (tmp_path / "1.tif").read_bytes()

    def test_replaces_a_file_and_what_a_killed_process_left(self, sink, tmp_path):
        labels = random_mask(150, 70)
        mask = finished(tmp_path / "mask.zarr", labels)
        out = tmp_path / "out"
        stale = out / ".mask.tif.staging" / "work"
        stale.mkdir(parents=True)
        (stale / "plain.tif").write_bytes(b"half a file")
        (out / "mask.tif").write_bytes(b"an older one")
        sink.write(mask, out / "mask.tif")
        written = {f"mask.tif{end}" for end in ("", *self.beside)}
        assert {file.name for file in out.iterdir()} == written
        np.testing.assert_array_equal(self.read(out / "mask.tif", 0), labels)

    def test_progress_rises_to_the_end(self, sink, tmp_path):
        steps: list[tuple[int, int]] = []
        mask = finished(tmp_path / "mask.zarr", random_mask(1100, 600))
        sink.write(mask, tmp_path / "mask.tif", lambda done, total: steps.append((done, total)))
        assert steps == sorted(steps)
        assert len({total for _, total in steps}) == 1
        assert steps[-1][0] == steps[-1][1]

    def test_damaged_mask_leaves_the_old_file_alone(self, sink, tmp_path):
        mask = finished(tmp_path / "mask.zarr", random_mask(900, 700), 256)
        shard = tmp_path / "mask.zarr" / "0" / "c" / "1" / "1"
        shard.write_bytes(shard.read_bytes()[:-7])
        out = tmp_path / "out"
        out.mkdir()
        (out / "mask.tif").write_bytes(b"an older one")
        with pytest.raises(DamageError) as raised:
            sink.write(mask, out / "mask.tif")
        assert raised.value.id == "E-DAMAGE-BLOCK"
        assert [file.name for file in out.iterdir()] == ["mask.tif"]
        assert (out / "mask.tif").read_bytes() == b"an older one"

    @pytest.mark.parametrize("fraction", [0.001, 0.6, 0.97, 0.999])
    def test_full_disk_is_an_error_and_leaves_nothing(self, sink, tmp_path, fraction):
        rng = np.random.default_rng(0)
        labels = rng.integers(0, 4, (1301, 1103), np.uint8)
        mask = finished(tmp_path / "mask.zarr", labels)
        out = tmp_path / "out"
        out.mkdir()
        sink.write(mask, out / "mask.tif")
        limit = int(fraction * (out / "mask.tif").stat().st_size)
        for file in out.iterdir():
            file.unlink()
        result = run_limited(limit, _EXPORT, self.name, mask.path, out / "mask.tif")
        assert result.stdout.split() == ["OutputError", "E-OUTPUT-WRITE"], result.stderr
        assert list(out.iterdir()) == []
