"""GDAL's settings, pinned before rasterio opens a file.

GDAL takes settings from the environment, where a user's or a cluster's leftovers can change
pixels: each setting here was seen to do so, or to cost memory. Every module that imports
rasterio imports this one first.
"""

from __future__ import annotations

import os

SETTINGS = {
    # Neighbours are not looked at: a stray .ovr or .aux.xml beside a file changes its pixels.
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    # A strip that can't be read is an error, never zeros.
    "GTIFF_IGNORE_READ_ERRORS": "NO",
    # A file must not run Python.
    "GDAL_VRT_ENABLE_PYTHON": "NO",
    # The files behind a VRT are opened anew for each of its handles, which go from thread to thread.
    "VRT_SHARED_SOURCE": "0",
    # In megabytes. The default, 5 % of the machine's memory for every process, is seen by no
    # memory budget.
    "GDAL_CACHEMAX": "64",
}

os.environ.update(SETTINGS)
