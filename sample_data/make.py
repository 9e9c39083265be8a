"""Make the sample images: `python sample_data/make.py`. Seeded; needs only tilseg's libraries.

Lossless files come out equal in every pixel; the JPEG tiles of slide.tif may differ by a grey
level between versions of the JPEG library.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import tifffile
from affine import Affine
from numpy.typing import NDArray
from rasterio.enums import Resampling
from scipy.ndimage import gaussian_filter, zoom
from scipy.spatial import cKDTree
from skimage.data import immunohistochemistry
from skimage.filters import threshold_local
from skimage.morphology import disk, opening, remove_small_holes, remove_small_objects

HERE = Path(__file__).parent

SLIDE = (1873, 2741)
MICRONS = 0.5

SCENE = (409, 557)
METRES = 10.0
LAND, WATER, FIELD, NODATA = 0, 1, 2, 255


def smooth_noise(shape: tuple[int, int], size: float, seed: int) -> NDArray[np.float64]:
    """Noise of mean 0 and deviation 1 with blobs of about `size` pixels."""
    coarse = [int(n / size) + 8 for n in shape]
    noise = gaussian_filter(np.random.default_rng(seed).standard_normal(coarse), 1.0)
    fine = zoom(noise, size, order=3)[: shape[0], : shape[1]]
    return (fine - fine.mean()) / fine.std()


def make_slide() -> None:
    """slide.tif and slide_truth.tif: see README.md."""
    picture = immunohistochemistry()
    picture = np.clip(np.rint(zoom(picture.astype(float), (1.5, 1.5, 1), order=3)), 0, 255)
    pixels, truth = mirror_fill(picture, SLIDE), mirror_fill(nuclei(picture), SLIDE)
    # Beer-Lambert: staining and glass are changed in optical density, where stains add up.
    density = -np.log((pixels + 1) / 256)
    staining = 1 + 0.12 * smooth_noise(SLIDE, 300, seed=1)
    tissue = 1 / (1 + np.exp(-40 * (smooth_noise(SLIDE, 420, seed=2) + 1.0)))
    density = density * np.clip(staining * tissue, 0, 1.5)[..., None] + 0.03
    slide = np.clip(np.rint(256 * np.exp(-density) - 1), 0, 255).astype(np.uint8)
    truth = truth & (tissue > 0.5)
    write_slide(slide)
    tifffile.imwrite(
        HERE / "slide_truth.tif",
        truth.astype(np.uint8),
        tile=(512, 512),
        compression="zlib",
        compressionargs={"level": 9},
        metadata=None,
        resolution=(1e4 / MICRONS, 1e4 / MICRONS),
        resolutionunit="CENTIMETER",
    )


def mirror_fill(picture: NDArray[Any], shape: tuple[int, int]) -> NDArray[Any]:
    """The picture mirrored outward, so that no seam shows; a little of it is cut off first."""
    rows, cols = (n - m for n, m in zip(shape, picture.shape, strict=False))
    pad = [(rows // 3, rows - rows // 3), (cols // 2, cols - cols // 2)]
    return np.pad(picture, pad + [(0, 0)] * (picture.ndim - 2), mode="reflect")


def nuclei(picture: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Where the picture is bluer than its surroundings: haematoxylin, not the brown DAB."""
    blueness = gaussian_filter(picture[..., 2] - picture[..., 0], 1.5)
    brightness = gaussian_filter(picture.mean(axis=2), 1.5)
    found = (blueness > threshold_local(blueness, 121) + 6) & (brightness < 205)
    found = opening(found, disk(3))
    return np.asarray(remove_small_holes(remove_small_objects(found, max_size=80), max_size=80))


def write_slide(slide: NDArray[np.uint8]) -> None:
    """A pyramidal OME-TIFF: JPEG tiles, the levels as SubIFDs, the pixel size in the OME-XML."""
    levels = [slide]
    while max(levels[-1].shape) > 512:
        levels.append(halved(levels[-1]))
    options = {
        "tile": (256, 256),
        "photometric": "rgb",
        "compression": "jpeg",
        "compressionargs": {"level": 82},
    }
    metadata = {
        "axes": "YXS",
        "PhysicalSizeX": MICRONS,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": MICRONS,
        "PhysicalSizeYUnit": "µm",
        "UUID": "8a0dbf2e-0000-1000-8000-746c73656731",
    }
    with tifffile.TiffWriter(HERE / "slide.tif", ome=True) as file:
        file.write(levels[0], subifds=len(levels) - 1, metadata=metadata, **options)
        for level in levels[1:]:
            file.write(level, subfiletype=1, **options)


def halved(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Means of 2 x 2 pixels; an odd last row or column is doubled first."""
    even = np.pad(image, [(0, n % 2) for n in image.shape[:2]] + [(0, 0)], mode="edge")
    rows, cols, bands = even.shape
    blocks = even.reshape(rows // 2, 2, cols // 2, 2, bands)
    return np.rint(blocks.mean(axis=(1, 3))).astype(np.uint8)


def make_scene() -> None:
    """scene.tif and scene_truth.tif: see README.md."""
    rng = np.random.default_rng(3)
    rows, cols = np.indices(SCENE)
    classes, parcel = draw_land(rng, rows, cols)
    # Reflectance x 10,000 in blue, green, red and near infrared.
    spectrum = np.array([[450, 650, 500, 2600], [500, 450, 250, 120], [700, 950, 900, 2900]])
    pixels = spectrum[classes].astype(float)
    crops = rng.normal(0, (60, 90, 220, 600), (parcel.max() + 1, 4))
    pixels += np.where((classes == FIELD)[..., None], crops[parcel], 0)
    texture = smooth_noise(SCENE, 9, seed=4) + 0.6 * smooth_noise(SCENE, 3, seed=5)
    pixels *= 1 + np.where(classes == LAND, 0.10, 0.03)[..., None] * texture[..., None]
    pixels += rng.normal(0, 12, pixels.shape)
    scene = np.clip(np.rint(pixels / 4) * 4, 4, 10000).astype(np.uint16)
    # The edge of the satellite's swath: nodata is 0, which no valid pixel has.
    outside = cols + 0.35 * rows > SCENE[1] + 20
    scene[outside] = 0
    write_map("scene.tif", scene, 0, ("blue", "green", "red", "near infrared"), predictor=2)
    truth = np.where(outside, NODATA, classes).astype(np.uint8)[..., None]
    write_map("scene_truth.tif", truth, NODATA, ("class",), predictor=1)


def draw_land(
    rng: np.random.Generator, rows: NDArray[Any], cols: NDArray[Any]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Class and parcel number of every pixel: parcels of fields, woods, a river and lakes."""
    seeds = rng.uniform((0, 0), SCENE, (160, 2))
    places = np.stack([rows, cols], axis=-1).reshape(-1, 2)
    distance, nearest = cKDTree(seeds).query(places, k=2)
    parcel = nearest[:, 0].reshape(SCENE)
    lane = (distance[:, 1] - distance[:, 0]).reshape(SCENE) < 1.5
    farmed = rng.random(len(seeds)) < 0.6
    classes = np.where(farmed[parcel] & ~lane, FIELD, LAND)
    course = 0.55 * SCENE[0] + 60 * np.sin(cols / 70) + 25 * np.sin(cols / 23 + 1)
    river = np.abs(rows - course) < 7 + 3 * np.sin(cols / 41)
    lakes = smooth_noise(SCENE, 60, seed=6) > 1.6
    return np.where(river | lakes, WATER, classes), parcel


def write_map(
    name: str, pixels: NDArray[Any], nodata: int, bands: tuple[str, ...], predictor: int
) -> None:
    """A tiled GeoTIFF with overviews on a grid turned by 17.5 degrees (UTM 33 N, 10 m)."""
    grid = Affine.translation(399960, 5400000) * Affine.rotation(-17.5)
    resampling = Resampling.nearest if len(bands) == 1 else Resampling.average
    with rasterio.open(
        HERE / name,
        "w",
        driver="GTiff",
        height=pixels.shape[0],
        width=pixels.shape[1],
        count=len(bands),
        dtype=pixels.dtype,
        crs="EPSG:32633",
        transform=grid * Affine.scale(METRES, -METRES),
        nodata=nodata,
        tiled=True,
        blockxsize=128,
        blockysize=128,
        compress="deflate",
        zlevel=9,
        predictor=predictor,
        interleave="pixel",
    ) as file:
        file.write(np.moveaxis(pixels, -1, 0))
        file.descriptions = bands
        file.build_overviews([2, 4], resampling)


if __name__ == "__main__":
    make_slide()
    make_scene()
