"""Areas and places on the ellipsoid, from longitudes and latitudes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_Floats = NDArray[np.float64]

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(8)


@dataclass(frozen=True, slots=True)
class Ellipsoid:
    """Semi-major axis in metres and inverse flattening, 0 for a sphere."""

    a: float
    inverse_flattening: float

    @property
    def _e2(self) -> float:
        f = 1 / self.inverse_flattening if self.inverse_flattening else 0.0
        return f * (2 - f)

    def cell_area(self, south: _Floats, north: _Floats, width: float) -> _Floats:
        """Area in m^2 between two parallels and two meridians `width` apart (radians).

        What lies beyond a pole has no area. The integral of M N cos(latitude), the product
        of both radii of curvature (Snyder, Map Projections: A Working Manual, USGS 1987,
        eq. 4-19 and 4-20); the closed form (3-12) loses all digits where pixels are small.
        """
        south, north = (np.clip(lat, -np.pi / 2, np.pi / 2) for lat in (south, north))
        middle, half = (north + south) / 2, np.abs(north - south) / 2
        latitude = middle[..., None] + half[..., None] * _NODES
        element = np.cos(latitude) / (1 - self._e2 * np.sin(latitude) ** 2) ** 2
        return np.asarray(
            self.a**2 * (1 - self._e2) * abs(width) * half * (element * _WEIGHTS).sum(axis=-1)
        )

    def point(self, longitude: _Floats, latitude: _Floats) -> _Floats:
        """(..., 3) metres from the Earth's centre, of places on the surface (radians)."""
        normal = self.a / np.sqrt(1 - self._e2 * np.sin(latitude) ** 2)
        x = normal * np.cos(latitude) * np.cos(longitude)
        y = normal * np.cos(latitude) * np.sin(longitude)
        return np.stack([x, y, normal * (1 - self._e2) * np.sin(latitude)], axis=-1)
