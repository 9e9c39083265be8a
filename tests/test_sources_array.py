"""numpy arrays as sources."""

from __future__ import annotations

import gc
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from contracts.source_contract import SourceContract
from numpy.typing import NDArray

from tilseg.errors import InputError, UsageError
from tilseg.source import Source, open_source
from tilseg.window import Window


def noise(shape: tuple[int, ...], dtype: Any, seed: int = 0) -> NDArray[Any]:
    return np.random.default_rng(seed).integers(0, 120, shape).astype(dtype)


class TestArray(SourceContract):
    def write(self, folder: Path) -> NDArray[Any]:
        return noise((61, 47, 3), np.uint16)

    def whole(self, image: NDArray[Any], level: int) -> NDArray[Any]:
        return image

    def change(self, image: NDArray[Any]) -> None:
        image[-1, -1, -1] += 1


class TestArrayOfOneBand(TestArray):
    def write(self, folder: Path) -> NDArray[Any]:
        return noise((1, 53), np.float32)

    def whole(self, image: NDArray[Any], level: int) -> NDArray[Any]:
        return image[..., None]

    def change(self, image: NDArray[Any]) -> None:
        image[0, 0] += 1


class TestStridedArray(TestArray):
    """A view that is neither contiguous nor in native byte order."""

    def write(self, folder: Path) -> NDArray[Any]:
        return noise((3, 59, 67), ">i2").transpose(1, 2, 0)[::-1]

    def test_identity_changes_with_the_image(self, image: Any, source: Source) -> None:
        """It was copied for conversion: a change does not reach the source."""
        before = source.identity()
        self.change(image)
        assert source.identity() == before


@pytest.mark.parametrize(
    ("given", "read"),
    [("bool", "uint8"), ("int8", "int16"), ("float16", "float32"), ("uint8", "uint8")],
)
def test_dtypes_are_converted_without_loss(given: str, read: str) -> None:
    image = noise((5, 7), given)
    source = open_source(image)
    assert source.dtype == np.dtype(read)
    pixels = source.read(Window(0, 0, 5, 7))[..., 0]
    np.testing.assert_array_equal(pixels.astype(given), image)


@pytest.mark.parametrize("dtype", ["uint32", "int64", "float64", "complex64", "S3"])
def test_other_dtypes_are_refused(dtype: str) -> None:
    with pytest.raises(InputError, match="uint8, uint16") as caught:
        open_source(np.zeros((5, 7), dtype))
    assert caught.value.id == "E-INPUT-DTYPE"


@pytest.mark.parametrize("shape", [(), (4,), (0, 5), (5, 5, 0), (2, 3, 4, 5)])
def test_shapes_that_are_no_image_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError) as caught:
        open_source(np.zeros(shape, np.uint8))
    assert caught.value.id == "E-INPUT-SHAPE"


def test_equal_pixels_are_the_same_image_and_others_are_not() -> None:
    image = noise((9, 11), np.uint8)
    other = image.copy()
    other[-1, -1] += 1
    assert open_source(image).uri == open_source(image.copy()).uri
    assert open_source(image).uri != open_source(other).uri
    assert open_source(image).uri != open_source(image.astype(np.uint16)).uri
    assert open_source(image).uri != open_source(image.reshape(11, 9)).uri


def test_a_source_is_found_again_only_while_it_lives() -> None:
    source = open_source(noise((9, 11), np.uint8, seed=8))
    pickled, uri = pickle.dumps(source), source.uri
    assert pickle.loads(pickled) is source
    del source
    gc.collect()
    with pytest.raises(InputError, match="save it as a file"):
        open_source(uri)


def test_choices_do_not_fit_an_array() -> None:
    with pytest.raises(UsageError, match="leave z out"):
        open_source(np.zeros((3, 4), np.uint8), z=1)
    assert open_source(np.zeros((3, 4), np.uint8), palette="index").shape == (3, 4)
