"""One direction of flow: imports point down the floors, and heavy libraries stay in their rooms."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "tilseg"

# module (or package) -> floor; a module may import its own floor's package and floors below.
FLOORS = {
    "catalogue": 0,
    "errors": 0,
    "choice": 1,
    "gdal_env": 1,
    "heap": 0,
    "side_by_side": 1,
    "instance_rule": 1,
    "ahead": 1,
    "magic": 0,
    "names": 0,
    "window": 1,
    "receptive_field": 1,
    "georef": 1,
    "lengths": 1,
    "resample": 1,
    "shard": 1,
    "resolution": 3,
    "card": 1,
    "source": 2,
    "model": 2,
    "sink": 2,
    "plan": 2,
    "nodata": 2,
    "selection": 2,
    "sources": 3,
    "models": 3,
    "sinks": 3,
    "regions": 3,
    "polygons": 4,
    "statistics": 3,
    "vector": 3,
    "where": 3,
    "planning": 3,
    "tiling": 3,
    "calibration": 3,
    "bands": 3,
    "default_model": 3,
    "budget": 1,
    "pages": 4,
    "reading": 3,
    "exactness": 4,
    "look": 3,
    "report": 5,
    "instances": 4,
    "stores": 4,
    "durable": 1,
    "lanes": 4,
    "lock": 4,
    "disk": 4,
    "journal": 4,
    "answer": 4,
    "infer": 4,
    "schedule": 4,
    "fingerprint": 4,
    "workspace": 4,
    "ownership": 4,
    "batches": 5,
    "truth": 5,
    "metrics": 5,
    "changes": 5,
    "resume": 5,
    "receipt": 5,
    "finish": 5,
    "stac": 5,
    "verbs": 6,
    "view": 6,
    "training": 7,
    "cli": 8,
    "__main__": 8,
}

# library -> rooms that may import it
HEAVY = {
    "torch": {"models", "training"},
    "rasterio": {"sources", "sinks", "regions", "polygons", "truth", "vector"},
    "tifffile": {"sources", "sinks"},
    "openslide": {"sources"},
    "zarr": {"sources", "sinks"},
    "dask": {"schedule"},
    "dask_jobqueue": {"schedule"},
    "distributed": {"schedule"},
    "skimage": {"regions", "training", "where"},
    "PIL": {"batches", "metrics", "pages", "view", "where"},
    "jinja2": {"pages"},
    "urllib3": {"sources"},
    "pyogrio": {"polygons", "truth"},
    "click": {"cli"},
    "rich": {"cli", "training"},
}


def _modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def _room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


@pytest.mark.parametrize("path", _modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path):
    room = _room(path)
    assert room in FLOORS, f"give {room} a floor"
    for name in _imports(path):
        if name.startswith("tilseg."):
            other = name.split(".")[1]
            if other in FLOORS and other != room:
                # The two lazy registries of floor 2 open what floor 3 implements.
                lazy = room in {"source", "model", "sink"} and FLOORS[other] == 3
                assert lazy or FLOORS[other] <= FLOORS[room], f"{room} imports {name}"


@pytest.mark.parametrize("path", _modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_heavy_libraries_stay_in_their_rooms(path):
    for name in _imports(path):
        rooms = HEAVY.get(name.split(".")[0])
        assert rooms is None or _room(path) in rooms, f"{name} in {path.name}"


@pytest.mark.parametrize(
    "code",
    [
        "import tilseg, tilseg.source, tilseg.model, tilseg.plan, tilseg.sink, tilseg.card",
        "from tilseg.cli.main import cli; [cli.get_command(None, n) for n in cli.list_commands(None)]",
    ],
)
def test_nothing_heavy_at_import(code):
    heavy = ("torch", "dask", "distributed", "rasterio", "skimage", "zarr", "tifffile", "scipy")
    program = f"{code}\nimport sys; print(*[m for m in {heavy} if m in sys.modules])"
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert found.stdout.split() == []


def test_public_names_are_what_is_importable():
    import tilseg

    for name in tilseg.__all__:
        assert getattr(tilseg, name).__doc__, f"{name} has no docstring"
    assert set(tilseg._HOME) == set(tilseg.__all__)
