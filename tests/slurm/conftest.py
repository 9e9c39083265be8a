"""A real SLURM, and images small enough for it. All skip, saying so, where it is not installed."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import tifffile
from slurm_site import RUN, Site, missing
from tiny import STEADY, noise, save_tiny_model, tilseg


@pytest.fixture(scope="session")
def site() -> Iterator[Site]:
    """Two idle nodes."""
    if programs := missing():
        pytest.skip(f"no {', '.join(programs)} (Debian: apt-get install slurm-wlm munge)")
    site = Site()
    try:
        try:
            site.start()
        except (AssertionError, KeyError, OSError, subprocess.SubprocessError) as error:
            # A sandbox may forbid what its daemons need.
            pytest.skip(f"SLURM is installed, and does not start here: {error!r}")
        yield site
    finally:
        site.stop()


@pytest.fixture(scope="session")
def desk(tmp_path_factory) -> Path:
    """A folder with a model, an image, and what one process makes of it: here.tilseg."""
    folder = tmp_path_factory.mktemp("desk")
    save_tiny_model(folder / "tiny.safetensors", classes=3, normalization=STEADY)
    tifffile.imwrite(folder / "image.tif", noise(467, 331), tile=(64, 64), photometric="rgb")
    tilseg("run", "image.tif", *RUN, "-o", "here.tilseg", cwd=folder, check=True)
    return folder


@pytest.fixture
def nodes(site: Site) -> Iterator[Site]:
    """The site; nodes that the test kills are there again for the next one."""
    yield site
    site.revive()
