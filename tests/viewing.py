"""Results to look at, and the page's server as a client sees it."""

from __future__ import annotations

import http.client
import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image
from tiny import noise, save_tiny_model

import tilseg
from tilseg.view.server import ViewServer

ROWS, COLS = 521, 743


def picture(path: Path, rows: int = ROWS, cols: int = COLS, seed: int = 0) -> np.ndarray:
    """A TIFF of 0.25 um without levels at `path`; returns its pixels."""
    pixels = noise(rows, cols, seed=seed)
    tifffile.imwrite(
        path,
        pixels,
        photometric="rgb",
        tile=(128, 128),
        resolution=(40_000, 40_000),
        resolutionunit="CENTIMETER",
    )
    return pixels


def finished(folder: Path, **options: Any) -> Path:
    """A result of slide.tif in `folder`, with three classes; options are those of the plan."""
    picture(folder / "slide.tif")
    model = save_tiny_model(folder / "tiny.safetensors", classes=3)
    source, output = tilseg.open_source(folder / "slide.tif"), folder / "slide.tilseg"
    plan = tilseg.make_plan(source, tilseg.load_model(model), tile=200, **options)
    source.close()
    tilseg.run(plan, output)
    return output


@contextmanager
def serving(output: Path) -> Iterator[ViewServer]:
    """The server of a result, answering in a thread."""
    with ViewServer(output) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def get(
    server: ViewServer, path: str, *, method: str = "GET", host: str | None = None, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of an answer; the cookie goes along unless another is given."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    try:
        connection.putrequest(method, path, skip_host=True)
        if host != "":
            connection.putheader("Host", host or f"127.0.0.1:{server.port}")
        for name, value in {"Cookie": server.cookie, **headers}.items():
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


def rgba(png: bytes) -> np.ndarray:
    """Colours of a PNG: (rows, cols, 4)."""
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"))
