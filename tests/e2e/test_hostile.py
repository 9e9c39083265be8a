"""Forty kinds of bad input and usage: one line, the right exit code, nothing left behind.

The numbers are those of a list of what users really feed such programs; a kind that tilseg takes
well instead of refusing it is in the list too, with exit code 0.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import struct
import subprocess
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import safetensors.torch
import tifffile
import torch
from safetensors import safe_open
from tiny import TILSEG, noise, save_tiny_model

from tilseg.cli.main import main
from tilseg.workspace import Workspace

SHAPE = (97, 61)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a sound image and sound models."""
    folder = tmp_path_factory.mktemp("good")
    save_tiny_model(folder / "tiny.safetensors")
    save_tiny_model(folder / "other.safetensors", seed=1)
    save_tiny_model(folder / "one.safetensors", bands=1)
    pixels: Any = noise(*SHAPE)
    tifffile.imwrite(folder / "image.tif", pixels, tile=(32, 32), metadata=None, photometric="rgb")
    return folder


@pytest.fixture
def desk(good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it to work in."""
    desk = tmp_path / "desk"
    shutil.copytree(good, desk)
    monkeypatch.chdir(desk)
    return desk


def _bytes(name: str, content: bytes) -> Callable[[], object]:
    return lambda: Path(name).write_bytes(content)


def _tiff(pixels: np.ndarray, **options: Any) -> Callable[[], object]:
    return lambda: tifffile.imwrite("bad.tif", pixels, **{"metadata": None, **options})


def _entry(data: bytearray, tag: int) -> int:
    """Where the directory of a small classic TIFF has a tag."""
    (place,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, place)
    entries = range(place + 2, place + 2 + 12 * count, 12)
    return next(at for at in entries if struct.unpack_from("<H", data, at)[0] == tag)


def _with_tag(tag: int, value: int) -> Callable[[], object]:
    def make() -> None:
        data = bytearray(Path("image.tif").read_bytes())
        struct.pack_into("<HII", data, _entry(data, tag) + 2, 4, 1, value)
        Path("bad.tif").write_bytes(data)

    return make


def _with_directory_at(place: Callable[[bytearray], int]) -> Callable[[], object]:
    """The image with a second directory at `place`."""

    def make() -> None:
        data = bytearray(Path("image.tif").read_bytes())
        (first,) = struct.unpack_from("<I", data, 4)
        (count,) = struct.unpack_from("<H", data, first)
        struct.pack_into("<I", data, first + 2 + 12 * count, place(data))
        Path("bad.tif").write_bytes(data)

    return make


def _cut(count: int) -> Callable[[], object]:
    return lambda: Path("bad.tif").write_bytes(Path("image.tif").read_bytes()[:count])


def _corrupt_tile() -> None:
    tifffile.imwrite("bad.tif", noise(*SHAPE), tile=(32, 32), compression="zlib", metadata=None)
    with tifffile.TiffFile("bad.tif") as file:
        place = file.pages[0].dataoffsets[5]
    data = bytearray(Path("bad.tif").read_bytes())
    data[place : place + 40] = bytes(40)
    Path("bad.tif").write_bytes(data)


def _sparse() -> None:
    size: Any = {"width": 300_000, "height": 300_000, "count": 3, "dtype": "uint8"}
    tiles: Any = {"tiled": True, "blockxsize": 4096, "blockysize": 4096, "SPARSE_OK": True}
    with rasterio.open("bad.tif", "w", driver="GTiff", **size, **tiles):
        pass


def _palette() -> None:
    colours = np.arange(768, dtype=np.uint16).reshape(3, 256)
    one: Any = {"photometric": "palette", "colormap": colours, "metadata": None}
    tifffile.imwrite("bad.tif", noise(*SHAPE)[..., 0], **one)


_STACK = np.zeros((2, 3, *SHAPE), np.uint8)
_OME: Any = {"ome": True, "metadata": {"axes": "TZYX"}, "photometric": "minisblack"}
_NAN = np.full((*SHAPE, 3), np.nan, np.float32)
_PAGE = b"<!DOCTYPE html><html><body>404 Not Found</body></html>"
_LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"
_VRT = b'<VRTDataset rasterXSize="61" rasterYSize="97"></VRTDataset>'
_WMS = (
    b'<GDAL_WMS><Service name="WMS"><ServerUrl>http://127.0.0.1/</ServerUrl></Service></GDAL_WMS>'
)

# kind -> (how it is made, arguments of run, exit code, id, words of the message)
Row = tuple[Callable[[], object] | None, tuple[str, ...], int, str, str]
BAD = ("bad.tif",)
IMAGES: dict[str, Row] = {
    "1 missing": (None, BAD, 4, "E-INPUT-MISSING", "bad.tif: no such file"),
    "2 directory": (lambda: Path("bad.tif").mkdir(), BAD, 4, "E-INPUT-DIRECTORY", "is a directory"),
    "3 empty": (_bytes("bad.tif", b""), BAD, 4, "E-INPUT-EMPTY", "has 0 bytes"),
    "4 text": (_bytes("bad.tif", b"rows,cols\n1,2\n"), BAD, 4, "E-INPUT-FORMAT", "is text"),
    "4 web page": (_bytes("bad.tif", _PAGE), BAD, 4, "E-INPUT-FORMAT", "is a web page"),
    "5 git-lfs": (_bytes("bad.tif", _LFS), BAD, 4, "E-INPUT-FORMAT", "run: git lfs pull"),
    "6 JPEG 2000 named .tif": (_bytes("bad.tif", b"\0\0\0\x0cjP  \r\n"), BAD, 4, "E-INPUT-FORMAT",
                               "is a JPEG 2000"),
    "7 cut in its header": (_cut(60), BAD, 4, "E-INPUT-TRUNCATED", "the file has 60"),
    "7 cut in its magic": (_cut(5), BAD, 4, "E-INPUT-READ", "ends inside its header"),
    "8 cut in its data": (_cut(9000), BAD, 4, "E-INPUT-TRUNCATED", "tile 2 (rows from 32, "),
    "9 directory beyond the end": (_with_directory_at(lambda data: 10**8), BAD, 4,
                                   "E-INPUT-TRUNCATED", "reaches to byte 100,000,002"),
    "10 directories in a loop": (
        _with_directory_at(lambda data: struct.unpack_from("<I", data, 4)[0]), BAD, 4,
        "E-INPUT-READ", "point to each other in a loop"),
    "11 unknown compression": (_with_tag(259, 12_345), BAD, 4, "E-INPUT-READ", "12345"),
    "12 a tile that can't be read": (_corrupt_tile, BAD, 5, "E-BLOCKS-FAILED", "tile 5 "),
    "13 sparse giant": (_sparse, BAD, 4, "E-INPUT-SPARSE", "90.0 gigapixels, of which 0 of"),
    "14 impossible size": (_with_tag(257, 2**31), BAD, 4, "E-INPUT-TRUNCATED", "lists 8 of"),
    "15 no width": (_with_tag(256, 0), BAD, 4, "E-INPUT-READ", "97 x 0 pixels"),
    "16 VRT": (_bytes("bad.tif", _VRT), BAD, 4, "E-INPUT-VRT", "--allow-vrt"),
    "16 WMS": (_bytes("bad.tif", _WMS), BAD, 4, "E-INPUT-FORMAT", "is XML"),
    "17 pipe": (lambda: os.mkfifo("bad.tif"), BAD, 4, "E-INPUT-NOT-FILE", "not a regular file"),
    "17 device": (None, ("/dev/zero",), 4, "E-INPUT-NOT-FILE", "not a regular file"),
    "18 link in a loop": (lambda: Path("bad.tif").symlink_to("bad.tif"), BAD, 4,
                          "E-INPUT-MISSING", "no such file"),
    "19 http": (None, ("http://127.0.0.1:9/a.tif",), 4, "E-INPUT-REMOTE", "is an address"),
    "19 s3": (None, ("s3://bucket/a.tif",), 4, "E-INPUT-REMOTE", "is an address"),
    "20 bands": (None, ("image.tif", "--model", "one.safetensors"), 4, "E-INPUT-BANDS",
                 "has 3 bands, the model wants 1; choose with --bands 1"),
    "22 complex": (_tiff(np.zeros(SHAPE, np.complex64)), BAD, 4, "E-INPUT-DTYPE", "complex64"),
    "23 nothing but NaN": (_tiff(_NAN, photometric="rgb"), BAD, 4, "E-INPUT-NO-DATA",
                           "no valid pixel"),
    "24 a stack": (_tiff(_STACK, **_OME), BAD, 4, "E-INPUT-AMBIGUOUS", "choose"),
    "25 palette": (_palette, BAD, 4, "E-INPUT-PALETTE", "--palette expand"),
    "26 level": (None, ("image.tif", "--level", "3"), 2, "E-LEVEL", "0 (61 x 97)"),
}  # fmt: skip


class _Module(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 1


def _script() -> None:
    torch.jit.script(_Module()).save("bad.safetensors")


def _reworked(change: Callable[[dict[str, Any]], None]) -> Callable[[], object]:
    """The sound model with its weights changed."""

    def make() -> None:
        with safe_open("tiny.safetensors", "pt") as file:
            metadata = file.metadata()
        weights = safetensors.torch.load_file("tiny.safetensors")
        change(weights)
        safetensors.torch.save_file(weights, "bad.safetensors", metadata)

    return make


def _prefix(weights: dict[str, Any]) -> None:
    for key in list(weights):
        weights[f"module.{key}"] = weights.pop(key)


def _nan(weights: dict[str, Any]) -> None:
    weights["head.bias"][0] = np.nan


def _card(old: bytes, new: bytes) -> Callable[[], object]:
    def make() -> None:
        content = Path("tiny.safetensors").read_bytes()
        assert content.count(old) == 1
        Path("bad.safetensors").write_bytes(content.replace(old, new))

    return make


def _cut_model(share: float) -> Callable[[], object]:
    content = Path("tiny.safetensors").read_bytes
    return lambda: Path("bad.safetensors").write_bytes(content()[: int(len(content()) * share)])


MODEL = ("image.tif", "--model", "bad.safetensors")
MODELS: dict[str, Row] = {
    "28 pickle": (lambda: torch.save({"a": torch.zeros(2)}, "bad.safetensors"), MODEL, 6,
                  "E-MODEL-CODE", "is a PyTorch pickle"),
    "29 TorchScript": (_script, MODEL, 6, "E-MODEL-CODE", "is a TorchScript program"),
    "30 whole module": (lambda: torch.save(_Module(), "bad.safetensors"), MODEL, 6,
                        "E-MODEL-CODE", "save its weights with tilseg.models.network.save_model"),
    "31 empty": (_bytes("bad.safetensors", b""), MODEL, 6, "E-MODEL-FORMAT", "has 0 bytes"),
    "31 web page": (_bytes("bad.safetensors", _PAGE), MODEL, 6, "E-MODEL-FORMAT", "a web page"),
    "31 cut": (_cut_model(0.8), MODEL, 6, "E-MODEL-FORMAT", "is damaged"),
    "32 keys with a prefix": (_reworked(_prefix), MODEL, 6, "E-MODEL-WEIGHTS",
                              "more; unknown: module."),
    "32 card of another network": (_card(rb'\"halo\":20', rb'\"halo\":24'), MODEL, 6,
                                   "E-MODEL-CARD", "halo is 24, but its network has 20"),
    "33 NaN": (_reworked(_nan), MODEL, 6, "E-MODEL-NAN", "'head.bias' holds NaN"),
    "33 missing": (None, MODEL, 6, "E-MODEL-MISSING", "neither bundled nor a file"),
}  # fmt: skip


def _toml(text: str) -> Callable[[], object]:
    return _bytes("job.toml", text.encode())


def _run_whole() -> None:
    with pytest.raises(SystemExit, match=r"^0$"):
        main(
            ["run", "image.tif", "--model", "tiny.safetensors", "--tile", "64", "-o", "out.tilseg"]
        )


CONFIG = ("image.tif", "--config", "job.toml")
USAGE: dict[str, Row] = {
    "34 output is input": (None, ("image.tif", "-o", "image.tif"), 7, "E-OUTPUT-INPUT", "touch"),
    "34 output in input": (None, ("image.tif", "-o", "image.tif/x.tif"), 7, "E-OUTPUT-INPUT",
                           "would touch the input"),
    "34 output is the model": (None, ("image.tif", "-o", "tiny.safetensors/x.tif"), 7,
                               "E-OUTPUT-INPUT", "would touch the input"),
    "34 hard link": (lambda: os.link("image.tif", "b.tif"), ("image.tif", "-o", "b.tif"), 7,
                     "E-OUTPUT-INPUT", "would touch the input"),
    "34 soft link": (lambda: Path("b.tif").symlink_to("image.tif"), ("b.tif", "-o", "image.tif"),
                     7, "E-OUTPUT-INPUT", "would touch the input"),
    "35 exists": (lambda: Path("out.tilseg").mkdir(), ("image.tif",), 10, "E-EXISTS-FOREIGN",
                  "is not a tilseg result"),
    "35 no such folder": (None, ("image.tif", "-o", "no/x.tilseg"), 7, "E-OUTPUT-PARENT", "make"),
    "35 unknown suffix": (None, ("image.tif", "-o", "x.jpg"), 7, "E-OUTPUT-NAME", "x.tif"),
    "37 tile": (None, ("image.tif", "--tile", "571"), 2, "E-TILE-STEP", "use 568 or 572"),
    "37 no tile": (None, ("image.tif", "--tile", "0"), 2, "E-TILE-SIZE", "multiple of 4"),
    "37 no workers": (None, ("image.tif", "--workers", "0"), 2, "E-USAGE", "--workers"),
    "38 cuda": (None, ("image.tif", "--device", "cuda:77"), 8, "E-NO-CUDA", "use --device cpu"),
    "38 memory": (None, ("image.tif", "--memory", "99MB"), 8, "E-MEMORY", "the budget is 99.0 MB"),
    "39 unknown key": (_toml("tile = 64\nmodle = 'x'"), CONFIG, 2, "E-CONFIG",
                       "line 2: unknown key 'modle' (did you mean 'model'?)"),
    "39 wrong type": (_toml("tile = true"), CONFIG, 2, "E-CONFIG", "line 1: tile is true; write"),
    "39 twice": (_toml("tile = 64\nlevel = 0\ntile = 68"), CONFIG, 2, "E-CONFIG",
                 "line 3 (tile = 68): this key is given for the second time"),
    "39 tag of YAML": (_toml("tile: !!python/object/apply:os.system ['touch owned']"), CONFIG, 2,
                       "E-CONFIG", "line 1 (tile: !!python"),
    "39 aliases of YAML": (_toml("a: &a [x]\nb: [*a, *a]"), CONFIG, 2, "E-CONFIG", "is TOML"),
    "40 another run": (_run_whole, ("image.tif", "--model", "other.safetensors"), 10, "E-EXISTS",
                       "differs from this run in model"),
    "40 scheduler": (None, ("image.tif", "--scheduler", "nowhere.json"), 8, "E-SCHEDULER", "chec"),
}  # fmt: skip

ROWS = {**IMAGES, **MODELS, **USAGE}


def _call(capsys: Any, *arguments: str) -> tuple[int, str, str]:
    """`tilseg run` in this process, where a hundred refusals cost seconds: code, stdout, stderr."""
    defaults = {"--model": "tiny.safetensors", "-o": "out.tilseg", "--tile": "64"}
    missing = [word for pair in defaults.items() if pair[0] not in arguments for word in pair]
    with pytest.raises(SystemExit) as ended:
        main(["run", *arguments, *missing, "--threads", "1"])
    printed = capsys.readouterr()
    return int(str(ended.value.code)), printed.out, printed.err


@pytest.mark.parametrize(("make", "arguments", "code", "id", "words"), ROWS.values(), ids=ROWS)
def test_bad_input_and_usage(desk, capsys, make, arguments, code, id, words):
    if make is not None:
        make()
        capsys.readouterr()
    before = _tree(desk)
    for spoken in (False, True):
        found, out, err = _call(capsys, *arguments, *(["--json"] if spoken else []))
        assert (found, out) == (code, "")
        assert err.count("\n") == 1
        if spoken:
            answer = json.loads(err)
            assert (answer["error"], answer["exit_code"]) == (id, code)
            assert answer["message"].endswith(answer["advice"])
            err = answer["message"]
        else:
            assert err.startswith(f"error[{id}]: ")
        assert words in err
        # Blocks that are finished are kept for the next try, and nothing else is.
        left = _tree(desk) - before
        assert all(code == 5 and name.startswith(".out.tilseg.partial") for name in left), left


def _tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_a_picture_is_read_whatever_its_name(desk, capsys):
    # Number 6 of the list asks for a refusal; the bytes say well enough what it is.
    import imagecodecs

    (desk / "bad.tif").write_bytes(imagecodecs.png_encode(noise(*SHAPE)))
    assert _call(capsys, "bad.tif")[0] == 0


def test_numbers_of_another_range_are_normalised_by_the_image(desk, capsys):
    # Number 21: a model that takes its constants from the image takes any range.
    pixels: Any = noise(*SHAPE, dtype=np.uint16) * 40 + 3000
    tifffile.imwrite("bad.tif", pixels, photometric="rgb")
    assert _call(capsys, "bad.tif")[0] == 0


def test_an_input_that_changes_meanwhile(desk, capsys, monkeypatch):
    # Number 27.
    from tilseg.finish import Finisher

    write = Finisher.write_masks

    def touched(*arguments: Any) -> None:
        os.utime("image.tif", ns=(1, 1))
        write(*arguments)

    monkeypatch.setattr(Finisher, "write_masks", touched)
    code, _, err = _call(capsys, "image.tif")
    assert (code, err.split("]")[0]) == (4, "error[E-INPUT-CHANGED")
    assert not (desk / "out.tilseg").exists()


def test_an_output_that_is_owned(desk, capsys):
    # Number 35.
    with Workspace((desk / "out.tilseg").resolve()).lock.held():
        code, _, err = _call(capsys, "image.tif")
    assert (code, err.split("]")[0]) == (11, "error[E-LOCKED")
    assert f"process {os.getpid()}" in err


def test_too_little_disk_is_told_in_numbers(desk, capsys, monkeypatch):
    # Number 36.
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**6, 10**6 - 1000, 1000))
    before = _tree(desk)
    code, _, err = _call(capsys, "image.tif")
    assert (code, err.split("]")[0]) == (7, "error[E-DISK")
    assert "1.0 kB are free" in err
    assert _tree(desk) == before


def test_nobody_reads_what_is_printed(good):
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [TILSEG, "info", "image.tif"],
        check=False,
        cwd=good,
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(writing)
    # As a shell reports a command that SIGPIPE ended.
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_nothing_can_be_printed(good):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [TILSEG, "info", "image.tif", "--json"],
            check=False,
            cwd=good,
            stdout=full,
            stderr=-1,
            text=True,
        )
    assert done.returncode == 7
    assert json.loads(done.stderr)["error"] == "E-STDOUT"
