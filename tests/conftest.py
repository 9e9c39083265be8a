"""Shared fixtures. Tests that want the real images skip, saying so, where they are absent."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Shared machines pause for longer than any deadline; property tests judge results, not speed.
settings.register_profile(
    "tilseg", deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("tilseg")

ROOT = Path(__file__).parent.parent
REAL_DATA = ROOT.parent / "shared" / "data"


@pytest.fixture(scope="session")
def sample_data() -> Path:
    """The images that ship with the repository."""
    return ROOT / "sample_data"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Real images outside the repository; skips where there are none."""
    if not REAL_DATA.is_dir():
        pytest.skip("the real images (../shared/data) are not on this machine")
    return REAL_DATA
