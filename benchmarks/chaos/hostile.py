"""Every bad file we have and thousands of damaged ones, through the real command.

    python benchmarks/chaos/hostile.py [--mutations 400] [--seed 0] [--data ../shared/data]

Each file is given to `tilseg run` in a process of its own, forked from one that has imported
everything. Counted are endings that must not be: a traceback, exit code 1, an error without its
line, a hang, a crash, a result where there should be none, and anything else left behind but the
workspace of a run that can be continued (exit code 5). A hang is ten seconds of CPU time and one
more for each 100,000 pixels, or a minute of waiting. Small files that ask for gigabytes must be
answered in two seconds and 500 MB.

--mutations: of each of five small valid files, seeded. --data: a folder with broken_tiff,
weird_tiff and tiff_probe.csv, which says what two libraries make of each; where both read a file,
tilseg must run, and its pixels must be theirs.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import importlib
import itertools
import json
import os
import random
import resource
import select
import shutil
import signal
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path += [str(ROOT / "tests"), str(ROOT / "benchmarks")]

import bombs  # noqa: E402
import numpy as np  # noqa: E402
from common import show  # noqa: E402
from mutants import KINDS, mutate, tiff  # noqa: E402
from tiny import save_tiny_model  # noqa: E402

_PRELOAD = (
    "distributed",
    "rasterio",
    "tifffile",
    "tilseg.cli.info",
    "tilseg.cli.planned",
    "tilseg.cli.run",
    "tilseg.cli.terminal",
    "tilseg.models.network",
    "tilseg.models.unet",
    "tilseg.sinks.geotiff",
    "tilseg.sinks.ometiff",
    "tilseg.sources.array",
    "tilseg.sources.geotiff",
    "tilseg.sources.picture",
    "tilseg.sources.tiff",
    "tilseg.sources.zarr",
    "tilseg.verbs.run",
)
_HANG = 10
_WAITING = 60
_OUT = "out.tilseg"
_FAILED = 5
_BOMB_SECONDS = 2
_BOMB_MEGABYTES = 500
# By exit code, what may be new in the folder of a run.
_MAY_LEAVE = {0: {_OUT}, 3: {_OUT}, _FAILED: {f".{_OUT}.partial"}}
# What a file asks for that leaves a choice open, in the order tried.
_CHOICES = ((), ("--palette", "index"), ("--series", "0"), ("--z", "0"), ("--channel", "0"))
_OPEN = ("E-INPUT-PALETTE", "E-INPUT-AMBIGUOUS")
# Nothing is stored, so nothing can be segmented; its pixels are compared all the same. Refused
# too, by E-INPUT-DTYPE, are numbers of 32 bits and more, which networks can't take.
_EMPTY = "E-INPUT-NO-DATA"
# Files that both libraries read, with a warning, and make up pixels for.
_NOT_GOOD = {
    "gdal__size_of_stripbytecount_at_1_and_lower_than_stripcount.tif": "one of three strips",
    "gdal__size_of_stripbytecount_lower_than_stripcount.tif": "two of three strips",
}


@dataclass(frozen=True)
class Ending:
    """How one command ended.

    code: None for a hang. seconds: of CPU time. peak: megabytes over an idle fork. left: what is
    new in its folder.
    differs: how its pixels differ from what they should be.
    """

    code: int | None
    seconds: float
    peak: float
    stdout: str
    stderr: str
    left: frozenset[str] = frozenset()
    differs: str = ""

    @property
    def error(self) -> str:
        """The id of the error object on the last line of stderr; "" where there is none."""
        last = self.stderr.rstrip().rpartition("\n")[2]
        with contextlib.suppress(ValueError, KeyError, TypeError):
            found = json.loads(last)
            return str(found["error"]) if found["exit_code"] == self.code else ""
        return ""

    def wrong(self) -> str:
        """What must not be about this ending, or nothing."""
        too_much = self.left - _MAY_LEAVE.get(self.code or 0, set())
        checks = {
            "hang": self.code is None,
            f"killed by signal {-(self.code or 0)}": (self.code or 0) < 0,
            "traceback": "Traceback" in self.stderr,
            "exit 1": self.code == 1,
            f"left {sorted(too_much)}": bool(too_much),
            "no error line that fits the exit code": bool(self.code) and not self.error,
            self.differs: bool(self.differs),
        }
        return next((words for words, is_so in checks.items() if is_so), "")


class Forks:
    """Processes forked from this one, which has imported everything, one at a time."""

    def __init__(self) -> None:
        import torch

        torch.set_num_threads(1)
        for name in _PRELOAD:
            importlib.import_module(name)
        with tempfile.TemporaryDirectory() as folder:
            self._idle = _fork(lambda: _command(["--version"]), Path(folder)).peak

    def run(self, *arguments: object, folder: Path, limit: int = _HANG) -> Ending:
        """`tilseg ARGUMENTS` in `folder`."""
        return self.call(lambda: _command([*map(str, arguments)]), folder, limit)

    def call(self, action: Callable[[], None], folder: Path, limit: int = _HANG) -> Ending:
        """Any function in a process of its own, for `limit` seconds of CPU time."""
        before = set(os.listdir(folder))
        ending = _fork(action, folder, limit)
        left = frozenset(set(os.listdir(folder)) - before)
        return replace(ending, left=left, peak=ending.peak - self._idle)


def _command(arguments: list[str]) -> None:
    from tilseg.cli.main import main

    main(arguments)


def _fork(action: Callable[[], None], folder: Path, limit: int = _HANG) -> Ending:
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        pid = os.fork()
        if not pid:
            resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
            _become(action, folder, out.fileno(), err.fileno())
        code, usage = _wait(pid)
        seconds = usage.ru_utime + usage.ru_stime
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
    return Ending(code, seconds, usage.ru_maxrss / 1000, *texts)


def _become(action: Callable[[], None], folder: Path, out: int, err: int) -> None:
    code: Any = 0
    try:
        os.setsid()
        os.chdir(folder)
        os.dup2(out, 1)
        os.dup2(err, 2)
        action()
    except SystemExit as ended:
        code = ended.code
    except BaseException:
        traceback.print_exc()
        code = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _wait(pid: int) -> tuple[int | None, resource.struct_rusage]:
    handle = os.pidfd_open(pid)
    ended = select.select([handle], [], [], _WAITING)[0]
    if not ended:
        os.killpg(pid, signal.SIGKILL)
    os.close(handle)
    _, status, usage = os.wait4(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    return (None if not ended or -code in (signal.SIGXCPU, signal.SIGKILL) else code), usage


@dataclass
class Tally:
    """What came of the files of one kind."""

    codes: Counter[int | None] = field(default_factory=Counter)
    ids: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    slowest: tuple[float, str] = (0.0, "")
    peak: tuple[float, str] = (0.0, "")

    def add(self, name: str, ending: Ending) -> str:
        self.codes[ending.code] += 1
        self.ids[ending.error] += 1
        self.slowest = max(self.slowest, (ending.seconds, name))
        self.peak = max(self.peak, (ending.peak, name))
        wrong = ending.wrong()
        if wrong:
            self.wrong.append(f"{name}: {wrong}")
            print(f"{name}: {wrong}\n{ending.stderr}", file=sys.stderr, flush=True)
        return wrong

    def row(self, kind: str) -> tuple[Any, ...]:
        tried, ran, failed = self.codes.total(), self.codes[0], self.codes[_FAILED]
        worst = (len(self.wrong), f"{self.slowest[0]:.1f}", f"{self.peak[0]:.0f}")
        return kind, tried, ran, tried - ran - failed, failed, *worst


Case = tuple[str, str, Ending, Path]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--mutations", type=int, default=400)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    options.add_argument("--keep", type=Path, help="where files that end wrongly are put")
    asked = options.parse_args()
    forks = Forks()
    tallies: dict[str, Tally] = {}
    with tempfile.TemporaryDirectory() as place:
        given = _given(forks, Path(place), asked.data) if asked.data.is_dir() else ()
        mutants = _mutants(forks, Path(place), asked.mutations, asked.seed)
        asking = _bombs(forks, Path(place))
        for kind, name, ending, bad in itertools.chain(given, asking, mutants):
            wrong = tallies.setdefault(kind, Tally()).add(name, ending)
            if wrong and asked.keep:
                _keep(bad, asked.keep / f"{name.replace('/', '-')}-{bad.name}")
    ids: Counter[str] = sum((tally.ids for tally in tallies.values()), Counter())
    wrong = [each for tally in tallies.values() for each in tally.wrong]
    show(
        f"Hostile files, seed {asked.seed}",
        ("files", "tried", "ran", "refused", "blocks failed", "wrong", "slowest s", "peak MB"),
        [tally.row(kind) for kind, tally in tallies.items()],
        ids={id or "none": count for id, count in ids.most_common()},
        wrong=wrong,
        slowest={kind: tally.slowest[1] for kind, tally in tallies.items()},
        heaviest={kind: tally.peak[1] for kind, tally in tallies.items()},
    )
    sys.exit(bool(wrong))


def _keep(bad: Path, kept: Path) -> None:
    kept.parent.mkdir(parents=True, exist_ok=True)
    if bad.is_dir():
        shutil.copytree(bad, kept, dirs_exist_ok=True)
    else:
        shutil.copy(bad, kept)


def _run(
    forks: Forks,
    image: Path,
    model: Path,
    folder: Path,
    *choice: str,
    pixels: int = 0,
    tile: int = 64,
) -> Ending:
    options = ("--tile", tile, "--threads", 1, "--workers", 1, "-o", _OUT, "--json")
    limit = _HANG + pixels // 100_000
    command = ("run", image, *choice, "--model", model, *options)
    return forks.run(*command, folder=folder, limit=limit)


def _bombs(forks: Forks, place: Path) -> Iterator[Case]:
    folder = place / "bombs"
    for kind, makers in (("image", bombs.IMAGES), ("model", bombs.MODELS)):
        for name, make in makers.items():
            folder.mkdir()
            image, model = folder / "image.tif", folder / "tiny.safetensors"
            tiff(image)
            save_tiny_model(model)
            bad = image if kind == "image" else model
            bad.unlink()
            make(bad)
            if kind == "image":
                ending = _given_one(forks, bad, folder, folder, good=False)
            else:
                ending = _run(forks, image, model, folder)
            if ending.seconds > _BOMB_SECONDS or ending.peak > _BOMB_MEGABYTES:
                ending = replace(ending, differs=f"{ending.seconds:.1f} s, {ending.peak:.0f} MB")
            yield "bombs", name, ending, bad
            shutil.rmtree(folder)


def _mutants(forks: Forks, place: Path, count: int, seed: int) -> Iterator[Case]:
    good = place / "good"
    good.mkdir()
    for name, make in KINDS.values():
        make(good / name)
    for kind, (name, _) in KINDS.items():
        for number in range(count):
            folder = place / "case"
            folder.mkdir()
            bad = folder / name
            mutate(good / name, bad, random.Random(f"{seed} {kind} {number}"))
            image = good / "image.tif" if kind == "model" else bad
            model = bad if kind == "model" else good / "tiny.safetensors"
            yield f"mutated {kind}", f"{kind}/{number}", _run(forks, image, model, folder), bad
            shutil.rmtree(folder)


def _given(forks: Forks, place: Path, data: Path) -> Iterator[Case]:
    """The files of `data`, each with a model of as many bands."""
    models = place / "models"
    models.mkdir()
    with (data / "tiff_probe.csv").open() as file:
        probes = {(row["set"], row["file"]): row for row in csv.DictReader(file)}
    for kind in ("broken_tiff", "weird_tiff"):
        for path in sorted((data / kind).iterdir()):
            folder = place / "case"
            folder.mkdir()
            probe = probes.get((kind, path.name), {})
            good = all(probe.get(f"{name}_status") == "ok:ok" for name in ("tifffile", "rasterio"))
            ending = _given_one(forks, path, models, folder, good=good)
            yield f"{kind}, {'read by both' if good else 'other'}", path.name, ending, path
            shutil.rmtree(folder)


def _given_one(forks: Forks, path: Path, models: Path, folder: Path, *, good: bool) -> Ending:
    for choice in _CHOICES:
        info = forks.run("info", path, *choice, "--json", folder=folder)
        facts = json.loads(info.stdout) if info.code == 0 else {}
        bands, sides = facts.get("bands", 3), (facts.get("width", 0), facts.get("height", 0))
        pixels, tile = sides[0] * sides[1], 512 if max(sides) > 1000 else 64
        model = models / f"{bands}.safetensors"
        if not model.exists():
            save_tiny_model(model, bands=bands)
        ending = _run(forks, path, model, folder, *choice, pixels=min(pixels, 10**8), tile=tile)
        if ending.error not in _OPEN:
            break
    if good and (ending.code == 0 or ending.error == _EMPTY):
        asked = choice
        found = forks.call(lambda: print(_differs(path, asked), end=""), folder)
        return replace(ending, differs=found.stdout if found.code == 0 else f"can't: {found}")
    if good and ending.error != "E-INPUT-DTYPE" and path.name not in _NOT_GOOD:
        return replace(ending, differs=f"refused: {ending.error}")
    return ending


def _differs(path: Path, choice: tuple[str, ...]) -> str:
    """How our pixels differ from those of two libraries reading the whole file, "" if not."""
    import rasterio
    import tifffile

    from tilseg.source import open_source
    from tilseg.window import Window

    pairs = zip(choice[::2], choice[1::2], strict=True)
    chosen: dict[str, Any] = {n[2:]: int(v) if v.isdecimal() else v for n, v in pairs}
    source = open_source(path, **chosen)
    ours = source.read(Window.whole(source.shape))
    with rasterio.open(path, driver="GTiff") as dataset:
        theirs = [np.moveaxis(dataset.read(), 0, -1)]
    with tifffile.TiffFile(path) as file:
        len(file.pages)
        for part in (file.pages[0], *file.series):
            # A page that is no image of its own may be beyond it.
            with contextlib.suppress(ValueError, MemoryError):
                theirs.append(part.asarray())
    return "" if any(_same(ours, one) for one in theirs) else f"other pixels by {source.reader}"


def _same(ours: np.ndarray, theirs: np.ndarray) -> bool:
    """Whether `theirs`, its axes in any order, with more bands (alpha) or turned, is `ours`."""
    squeezed = np.atleast_2d(np.squeeze(theirs))
    for form in (theirs, squeezed, np.moveaxis(squeezed, 0, -1)):
        deep = np.atleast_3d(form).reshape(*np.atleast_3d(form).shape[:2], -1)
        for turned in (deep, deep.swapaxes(0, 1)):
            for seen in (turned, turned[::-1], turned[:, ::-1], turned[::-1, ::-1]):
                first = seen[..., : ours.shape[2]]
                if first.shape == ours.shape and np.array_equal(
                    first.astype(ours.dtype), ours, equal_nan=ours.dtype.kind == "f"
                ):
                    return True
    return False


if __name__ == "__main__":
    main()
