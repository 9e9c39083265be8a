"""A tile whose end is missing is refused, where every decoder would return grey."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
import tifffile
from rasterio.transform import from_origin
from tiny import noise

from tilseg.errors import InputError
from tilseg.source import open_source
from tilseg.sources.jpeg_ends import has_end
from tilseg.window import Window

TILE = 64
WHERE = (2, 1)  # of the damaged tile, in tiles


def _write(path, kind: str):
    pixels = noise(333, 257)
    if kind == "map":
        profile = {"height": 333, "width": 257, "count": 3, "dtype": "uint8", "tiled": True}
        profile |= {"blockxsize": TILE, "blockysize": TILE, "crs": "EPSG:32633"}
        profile |= {"compress": "JPEG", "photometric": "YCBCR", "interleave": "pixel"}
        place = from_origin(4e5, 5e6, 0.5, 0.5)
        with rasterio.open(path, "w", driver="GTiff", transform=place, **profile) as file:
            file.write(pixels.transpose(2, 0, 1))
            file.build_overviews([2])
    else:
        tifffile.imwrite(path, pixels, tile=(TILE, TILE), photometric="rgb", compression=kind)
    return path


def _cut(path, page: int, keep: float) -> None:
    """Zero a tile from a part of its bytes on, as a copy that was broken off leaves it."""
    with tifffile.TiffFile(path) as file:
        one = file.pages[page]
        index = WHERE[0] * -(-one.imagewidth // TILE) + WHERE[1]
        offset, count = one.dataoffsets[index], one.databytecounts[index]
    content = bytearray(path.read_bytes())
    begin = int(count * keep)
    content[offset + begin : offset + count] = bytes(count - begin)
    path.write_bytes(content)


@pytest.mark.parametrize("keep", [0.3, 0.8, 0.99])
@pytest.mark.parametrize("kind", ["jpeg", "jpeg2000", "aperio_jp2000_rgb", "map"])
def test_only_what_touches_the_tile_is_refused(tmp_path, kind, keep):
    path = _write(tmp_path / "a.tif", kind)
    before = open_source(path)
    _cut(path, 0, keep)
    after = open_source(path)
    damaged = Window(WHERE[0] * TILE, WHERE[1] * TILE, TILE, TILE)
    for row in range(0, 333 - 30, 37):
        for col in range(0, 257 - 30, 41):
            window = Window(row, col, 30, 30)
            if window.intersection(damaged).size.area:
                with pytest.raises(InputError, match="in the middle of a JPEG"):
                    after.read(window)
            else:
                np.testing.assert_array_equal(after.read(window), before.read(window))
    before.close()
    after.close()


def test_overviews_are_looked_at_too(tmp_path):
    path = _write(tmp_path / "a.tif", "map")
    _cut(path, 1, 0.5)
    source = open_source(path)
    source.read(Window(0, 0, 333, 257))
    source.read(Window(0, 0, 100, 100), level=1)
    with pytest.raises(InputError, match="in the middle of a JPEG"):
        source.read(Window(120, 60, 20, 20), level=1)
    source.close()


def test_padding_after_the_end_is_allowed():
    assert has_end(b"\xff\xd8 pixels \xff\xd9")
    assert has_end(b"\xff\xd8 pixels \xff\xd9" + bytes(99))
    assert not has_end(b"\xff\xd8 pix" + bytes(99))
    assert not has_end(b"")


@pytest.mark.parametrize("name", ["wsi/CMU-1-Small-Region.svs", "geo_rasterio/cogeo.tif"])
def test_real_images_have_their_ends(real_data, name):
    source = open_source(real_data / name)
    for level, one in enumerate(source.levels):
        assert source.read(Window.whole(one.size), level).any()
    source.close()
