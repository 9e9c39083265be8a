"""Draw the pictures of the guide to training: `python docs/make_training_pictures.py`, with Chromium.

Does what the guide does, with 600 steps: docs/images/training_*.png.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import tifffile
from PIL import Image
from playwright.sync_api import sync_playwright
from skimage.segmentation import find_boundaries

DOCS = Path(__file__).parent
_CHROMIUM = "/usr/bin/chromium"
_PART = (slice(300, 700), slice(600, 1400))  # of the slide


def main() -> None:
    guide = (DOCS / "guides" / "train.md").read_text()
    cut = re.search(r"```python\n(.*?)```", guide, re.S)
    train = re.search(r"\$ (tilseg train images masks -o .*) --steps 40\n", guide)
    assert cut is not None
    assert train is not None
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        Path("sample_data").symlink_to(DOCS.parent / "sample_data")
        exec(compile(cut[1], "guide", "exec"), {})
        _tilseg(f"{train[1]} --steps 600")
        _tilseg("tilseg run sample_data/slide.tif --model mine.safetensors -o mine.tilseg")
        _screenshots(Path("mine.training/training.html").resolve())
        _result(Path("mine.tilseg/mask.tif"))


def _tilseg(command: str) -> None:
    program = "from tilseg.cli.main import main; main()"
    subprocess.run([sys.executable, "-c", program, *shlex.split(command)[1:]], check=True)


def _screenshots(path: Path) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1000, "height": 800})
        page.goto(path.as_uri())
        _save(page.locator(".maps").first.screenshot(), "training_curves")
        page.evaluate("window.scrollTo(0, 0)")
        figures = [page.locator("figure:has(.triple)").nth(n).bounding_box() for n in (0, 2)]
        first, last = (box for box in figures if box is not None)
        height = last["y"] + last["height"] - first["y"]
        clip = {**first, "height": height}
        _save(page.screenshot(full_page=True, clip=clip), "training_worst")
        browser.close()


def _result(mask: Path) -> None:
    pixels = tifffile.imread(DOCS.parent / "sample_data" / "slide.tif")[_PART].copy()
    nuclei = tifffile.imread(mask, level=0)[_PART]
    pixels[find_boundaries(nuclei, mode="inner")] = (230, 159, 0)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    _save(file.getvalue(), "training_result")


def _save(png: bytes, name: str) -> None:
    """With 128 colours, which is a third of the bytes."""
    picture = Image.open(io.BytesIO(png)).convert("RGB").quantize(128)
    picture.save(DOCS / "images" / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
