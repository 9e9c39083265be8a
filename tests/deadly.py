"""An image that kills the process which computes a part of it, or never answers it.

`x.deadly` is JSON: {"image": "x.tif", "window": [row, col, rows, cols], "deaths": 4}. Each of
the first `deaths` reads of the window by a thread that computes ends its process, and leaves
the process's number in `x.deaths`. With "hang": true it waits for ever instead.
"""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from tilseg.choice import Choice
from tilseg.source import open_source, register_source
from tilseg.sources.base import FileSource
from tilseg.window import Window


class Deadly(FileSource):
    def __init__(self, path: Path, choice: Choice) -> None:
        facts = json.loads(path.read_text())
        self._image = open_source(path.with_name(facts["image"]))
        self._window = Window(*facts["window"])
        self._deaths = facts["deaths"]
        self._hangs = facts.get("hang", False)
        image = self._image
        super().__init__(
            path,
            choice,
            reader=image.reader,
            dtype=image.dtype,
            band_names=image.band_names,
            levels=image.levels,
            georef=image.georef,
        )

    def _read(self, window: Window, level: int, bands: tuple[int, ...]) -> NDArray[Any]:
        planning = threading.current_thread() is threading.main_thread()
        if not planning and window.intersection(self._window).size.area:
            log = self.path.with_suffix(".deaths")
            with log.open("a+") as file:
                file.seek(0)
                if len(file.readlines()) < self._deaths:
                    file.write(f"{os.getpid()}\n")
                    file.flush()
                    if self._hangs:
                        threading.Event().wait()
                    os._exit(9)
        return self._image.read(window, level, bands)

    def close(self) -> None:
        self._image.close()


def open_path(path: Path, choice: Choice) -> Deadly:
    return Deadly(path, choice)


register_source("deadly", "deadly", lambda path, _head: path.suffix == ".deadly")
