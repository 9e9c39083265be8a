"""What every source promises. A new one subclasses `SourceContract`, writes two helpers, and
inherits the suite:

    class TestMyFormat(SourceContract):
        def write(self, folder): ...          # make an image, return what open_source opens
        def whole(self, image, level): ...    # all its pixels by other means

Make the image with odd sides, not square, of several tiles or strips, and with levels where
the format has them.
"""

from __future__ import annotations

import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tilseg.errors import InputError, UsageError
from tilseg.source import Source, open_source
from tilseg.window import Size, Window

DTYPES = (np.uint8, np.uint16, np.int16, np.float32)


def random_windows(size: Size, count: int, seed: int) -> list[Window]:
    """Windows inside `size`: the whole, corners, one pixel, one row, one column, random ones."""
    rows, cols = size
    windows = [
        Window(0, 0, rows, cols),
        Window(rows - 1, cols - 1, 1, 1),
        Window(rows // 2, 0, 1, cols),
        Window(0, cols // 2, rows, 1),
    ]
    rng = np.random.default_rng(seed)
    for _ in range(count):
        row, col = int(rng.integers(rows)), int(rng.integers(cols))
        tall, wide = int(rng.integers(1, rows - row + 1)), int(rng.integers(1, cols - col + 1))
        windows.append(Window(row, col, tall, wide))
    return windows


def some_bands(bands: int, rng: np.random.Generator) -> tuple[int, ...] | None:
    """All, or some in any order, repeats among them."""
    if rng.random() < 0.3:
        return None
    return tuple(int(b) for b in rng.integers(bands, size=rng.integers(1, bands + 2)))


class SourceContract:
    """The suite."""

    def write(self, folder: Path) -> Path | NDArray[Any]:
        """Make the image and return what `open_source` is given."""
        raise NotImplementedError

    def whole(self, image: Any, level: int) -> NDArray[Any]:
        """All pixels of a level, (rows, cols, bands), read by other means."""
        raise NotImplementedError

    def open(self, image: Any) -> Source:
        return open_source(image)

    def change(self, image: Any) -> None:
        """Change the image without changing its size."""
        data = bytearray(image.read_bytes())
        data[-1] ^= 1
        stamp = image.stat()
        image.write_bytes(data)
        # Not even the time of change need differ.
        os.utime(image, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))

    @pytest.fixture
    def image(self, tmp_path: Path) -> Any:
        return self.write(tmp_path)

    @pytest.fixture
    def source(self, image: Any) -> Any:
        source = self.open(image)
        yield source
        source.close()

    def test_describes_itself(self, image: Any, source: Source) -> None:
        assert isinstance(source, Source)
        whole = self.whole(image, 0)
        assert (*source.shape, source.bands) == whole.shape
        assert source.dtype in DTYPES
        assert len(source.band_names) == source.bands
        assert source.levels[0].size == source.shape
        assert (source.levels[0].row_factor, source.levels[0].col_factor) == (1, 1)
        assert source.reader
        sizes = [level.size.area for level in source.levels]
        assert sizes == sorted(set(sizes), reverse=True)
        for level in source.levels:
            # Sizes are rounded: the factors fit them within one pixel of the level.
            assert abs(level.size.rows * level.row_factor - source.shape.rows) <= level.row_factor
            assert abs(level.size.cols * level.col_factor - source.shape.cols) <= level.col_factor

    def test_every_window_equals_the_whole_image(self, image: Any, source: Source) -> None:
        rng = np.random.default_rng(7)
        for number, level in enumerate(source.levels):
            whole = self.whole(image, number)
            assert whole.shape == (*level.size, source.bands)
            for window in random_windows(level.size, 15, seed=number):
                bands = some_bands(source.bands, rng)
                pixels = source.read(window, number, bands)
                rows, cols = window.slices
                chosen = whole[rows, cols][..., list(bands or range(source.bands))]
                assert pixels.dtype == source.dtype
                assert pixels.flags.c_contiguous
                np.testing.assert_array_equal(pixels, chosen)

    def test_pixels_read_belong_to_the_caller(self, source: Source) -> None:
        window = Window.whole(source.shape)
        first = source.read(window)
        kept = first.copy()
        first[...] = 1
        np.testing.assert_array_equal(source.read(window), kept)

    def test_masks_of_windows_equal_the_whole_mask(self, source: Source) -> None:
        for number, level in enumerate(source.levels):
            whole = source.mask(Window.whole(level.size), number)
            for window in random_windows(level.size, 5, seed=number):
                part = source.mask(window, number)
                assert (part is None) == (whole is None)
                if part is not None and whole is not None:
                    assert part.dtype == np.bool_
                    np.testing.assert_array_equal(part, whole[window.slices])

    def test_eight_threads_read_the_same(self, image: Any, source: Source) -> None:
        jobs = [
            (window, number)
            for number, level in enumerate(source.levels)
            for window in random_windows(level.size, 20, seed=3)
        ]
        whole = [self.whole(image, number) for number in range(len(source.levels))]
        with ThreadPoolExecutor(8) as pool:
            results = list(pool.map(lambda job: source.read(*job), jobs))
        for (window, number), pixels in zip(jobs, results, strict=True):
            np.testing.assert_array_equal(pixels, whole[number][window.slices])

    def test_pickling_reopens(self, source: Source) -> None:
        again = pickle.loads(pickle.dumps(source))
        assert again.uri == source.uri
        assert again.identity() == source.identity()
        assert (again.levels, again.georef, again.band_names) == (
            source.levels,
            source.georef,
            source.band_names,
        )
        window = random_windows(source.shape, 1, seed=5)[-1]
        np.testing.assert_array_equal(again.read(window), source.read(window))
        again.close()

    def test_identity_changes_with_the_image(self, image: Any, source: Source) -> None:
        before = source.identity()
        assert before == source.identity()
        self.change(image)
        assert source.identity() != before

    def test_closing_twice_is_harmless(self, source: Source) -> None:
        source.read(Window(0, 0, 1, 1))
        source.close()
        source.close()
        assert source.shape.area > 0

    @pytest.mark.parametrize("edge", ["before", "after", "below", "empty"])
    def test_windows_outside_are_refused(self, source: Source, edge: str) -> None:
        rows, cols = source.shape
        window = {
            "before": Window(-1, 0, 2, 2),
            "after": Window(0, cols - 1, 1, 2),
            "below": Window(rows - 1, 0, 2, 1),
            "empty": Window(0, 0, 0, 1),
        }[edge]
        with pytest.raises(IndexError):
            source.read(window)
        with pytest.raises(IndexError):
            source.mask(window)

    def test_one_pixel_costs_no_more_than_it_says(self, source: Source) -> None:
        everything = sum(level.size.area for level in source.levels)
        # Tiles at the edge are as large as all others; channels may lie apart.
        assert 0 <= source.segment_bytes <= 2**22 + 4 * everything * source.bands * 8

    def test_bands_and_levels_it_has_not_are_refused(self, source: Source) -> None:
        window = Window(0, 0, 1, 1)
        with pytest.raises(InputError, match=f"bands 1 to {source.bands}"):
            source.read(window, bands=[source.bands])
        with pytest.raises(InputError):
            source.read(window, bands=[-1])
        with pytest.raises(UsageError):
            source.read(window, level=len(source.levels))
