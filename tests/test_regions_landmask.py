"""Regions of a piece of a real mask: the world's land at 0.01 degrees."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
import rasterio.windows
from regions_oracle import assert_like_skimage, tiled

# Greece and the Aegean: dozens of islands, coasts that cross every seam.
AEGEAN = rasterio.windows.Window(20000, 4800, 911, 701)


@pytest.mark.parametrize("connectivity", [1, 2])
def test_islands(real_data, connectivity):
    path = real_data / "geo_world_landmask_648Mpx" / "cog_world.tif"
    with rasterio.open(path) as file:
        mask = file.read(1, window=AEGEAN)
    regions = tiled(mask, (128, 200), connectivity=connectivity)
    assert len(regions) == {1: 74, 2: 72}[connectivity]
    assert np.count_nonzero(mask) == regions.columns["area"].sum()
    assert_like_skimage(regions, mask, connectivity=connectivity)
