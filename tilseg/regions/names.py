"""What the regions of a mask are called in a result."""

from __future__ import annotations

PARQUET = "regions.parquet"
CSV = "regions.csv"
LABELS = "labels.zarr"
