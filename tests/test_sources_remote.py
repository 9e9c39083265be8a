"""TIFFs at an address: read by parts, checked as files are, and only where that is allowed."""

from __future__ import annotations

import json
import os
import pickle
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import tifffile
from contracts.source_contract import SourceContract
from numpy.typing import NDArray
from rasterio.shutil import copy
from rasterio.transform import from_origin
from tiny import noise, save_tiny_model, tree

from tilseg.cli.main import main
from tilseg.errors import InputError
from tilseg.names import public_address
from tilseg.source import Source, open_source
from tilseg.sources.address import Address
from tilseg.window import Window

SHAPE = (397, 283)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are part of the game."""


class _Handler(BaseHTTPRequestHandler):
    """Serves parts of files by their path on this machine, or does what `spoil` says instead."""

    protocol_version = "HTTP/1.1"
    asked: list[tuple[int, int]]
    spoil: list[Callable[[Any], None]]

    def do_GET(self) -> None:
        if self.spoil:
            self.spoil[-1](self)
            return
        path = Path(self.path)
        if not path.is_file():
            self.send_error(404)
            return
        content = path.read_bytes()
        first, last = map(int, re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers["Range"]).groups())
        self.asked.append((first, last + 1))
        if first >= len(content):
            self.send_error(416)
            return
        last = min(last, len(content) - 1)
        self.answer(206, content[first : last + 1], f"bytes {first}-{last}/{len(content)}", path)

    def answer(self, code: int, content: bytes, part: str = "", path: Path | None = None) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(content)))
        if part:
            self.send_header("Content-Range", part)
        if path:
            self.send_header("Last-Modified", self.date_time_string(int(path.stat().st_mtime)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[type[_Handler]]:
    handler: Any = type("Handler", (_Handler,), {"asked": [], "spoil": []})
    with _Server(("127.0.0.1", 0), handler) as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        handler.url = f"http://127.0.0.1:{found.server_port}"
        yield handler
        found.shutdown()


@pytest.fixture(autouse=True)
def quiet(server: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The server as it should be, and no proxy on the way to it."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server.asked.clear()
    server.spoil.clear()
    return server


def _pyramid(path: Path) -> None:
    with tifffile.TiffWriter(path) as file:
        options: Any = {"tile": (32, 48), "compression": "zlib", "photometric": "rgb"}
        file.write(noise(*SHAPE), subifds=1, **options)
        file.write(noise(*SHAPE)[::2, ::2], subfiletype=1, **options)


def _map(path: Path, **more: Any) -> None:
    size: Any = {"width": SHAPE[1], "height": SHAPE[0], "count": 3, "dtype": "uint8"}
    place: Any = {"crs": "EPSG:32633", "transform": from_origin(5e5, 5e6, 10, 10), "nodata": 7}
    plain = path.with_suffix(".plain.tif")
    with rasterio.open(plain, "w", driver="GTiff", **size, **place) as file:
        file.write(np.moveaxis(noise(*SHAPE), -1, 0))
    copy(plain, path, driver="COG", blocksize=128, overview_resampling="nearest", **more)
    plain.unlink()


class RemoteContract(SourceContract):
    @pytest.fixture(autouse=True)
    def _server(self, server: Any) -> None:
        self.server = server

    def open(self, image: Any) -> Source:
        return open_source(f"{self.server.url}{image}", allow_remote=True)


class TestRemotePyramid(RemoteContract):
    def write(self, folder: Path) -> Path:
        _pyramid(folder / "a.tif")
        return folder / "a.tif"

    def whole(self, image: Any, level: int) -> NDArray[Any]:
        return noise(*SHAPE)[:: level + 1, :: level + 1]


class TestRemoteMap(RemoteContract):
    def write(self, folder: Path) -> Path:
        _map(folder / "a.tif")
        return folder / "a.tif"

    def whole(self, image: Any, level: int) -> NDArray[Any]:
        options: Any = {"overview_level": level - 1} if level else {}
        with rasterio.open(image, **options) as dataset:
            return np.moveaxis(dataset.read(), 0, -1)

    def test_is_the_file_on_this_machine(self, image: Path, source: Source) -> None:
        local = open_source(image)
        assert (source.georef, source.nodata) == (local.georef, local.nodata)
        assert source.levels == local.levels
        assert source.uri == f"{self.server.url}{image}#remote=fetch"
        assert source.files == ()


def test_it_is_refused_unless_allowed(server, tmp_path):
    _pyramid(tmp_path / "a.tif")
    with pytest.raises(InputError, match="--allow-remote") as caught:
        open_source(f"{server.url}{tmp_path}/a.tif")
    assert caught.value.id == "E-INPUT-REMOTE"
    assert server.asked == []
    # No name gives that leave, only who calls.
    with pytest.raises(InputError, match="--allow-remote"):
        open_source(f"{server.url}{tmp_path}/a.tif#remote=fetch")
    # Leave to fetch makes nothing else of a file on this machine.
    assert "#" not in open_source(tmp_path / "a.tif", allow_remote=True).uri


def test_only_what_a_window_needs_is_asked_for(server, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (2048, 2048, 3), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", pixels, tile=(256, 256), photometric="rgb")
    source = open_source(f"{server.url}{tmp_path}/a.tif", allow_remote=True)
    source.read(Window(900, 900, 50, 50))
    asked = sum(stop - start for start, stop in server.asked)
    assert asked < 2**19 < (tmp_path / "a.tif").stat().st_size / 20
    again = len(server.asked)
    source.read(Window(910, 910, 30, 30))
    assert len(server.asked) == again


REFUSED: dict[str, tuple[str, str]] = {
    "{url}/nowhere.tif": ("E-INPUT-ADDRESS", "its server answers 404"),
    "http://127.0.0.1:9/a.tif": ("E-INPUT-ADDRESS", "Connection refused"),
    "http:///a.tif": ("E-INPUT-ADDRESS", "is no http or https address"),
    "http://[::1/a.tif": ("E-INPUT-ADDRESS", "is no http or https address"),
    "http://a\nb/a.tif": ("E-INPUT-ADDRESS", "is no http or https address"),
    "s3://bucket/a.tif": ("E-INPUT-ADDRESS", "is no http or https address"),
    "file:///etc/passwd": ("E-INPUT-ADDRESS", "is no http or https address"),
    "/vsicurl/{url}{folder}/a.tif": ("E-INPUT-ADDRESS", "is no http or https address"),
    "{url}{folder}/text.tif": ("E-INPUT-FORMAT", "is text"),
    "{url}{folder}/cut.tif": ("E-INPUT-TRUNCATED", "the file has 9,000"),
    "{url}{folder}/masked.tif": ("E-INPUT-READ", "only from a file on this machine"),
    "{url}{folder}/lerc.tif": ("E-INPUT-READ", "is LERC, which is read only from a file on this"),
    "{url}{folder}/turned.tif": ("E-INPUT-READ", "turned by an orientation tag"),
}


@pytest.mark.parametrize("address", REFUSED)
def test_what_is_refused(server, tmp_path, address):
    (tmp_path / "text.tif").write_text("hello, I am no image\n")
    _pyramid(tmp_path / "a.tif")
    (tmp_path / "cut.tif").write_bytes((tmp_path / "a.tif").read_bytes()[:9000])
    _map(tmp_path / "lerc.tif", compress="LERC")
    _map(tmp_path / "masked.tif")
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(tmp_path / "masked.tif", "r+", IGNORE_COG_LAYOUT_BREAK="YES") as file,
    ):
        file.write_mask(noise(*SHAPE)[..., 0] > 9)
    turned = [(33550, 12, 3, (10.0, 10.0, 0.0), True), (274, 3, 1, 6, True)]
    tifffile.imwrite(tmp_path / "turned.tif", noise(*SHAPE), extratags=turned, metadata=None)
    id, words = REFUSED[address]
    with pytest.raises(InputError, match=words) as caught:
        open_source(address.format(url=server.url, folder=tmp_path), allow_remote=True)
    assert caught.value.id == id
    assert caught.value.message.isprintable()


def _redirect(handler: Any) -> None:
    handler.send_response(302)
    handler.send_header("Location", "file:///etc/passwd?secret")
    handler.send_header("Content-Length", "0")
    handler.end_headers()


SPOILED: dict[str, tuple[Callable[[Any], None], str]] = {
    "redirection": (_redirect, "redirects to file:///etc/passwd, which is not followed"),
    "no parts": (lambda h: h.answer(200, b"II*\0" + bytes(10**6)), "does not serve parts"),
    "another part": (lambda h: h.answer(206, b"II*\0", "bytes 4-7/100"), "other bytes than"),
    "less": (lambda h: h.answer(206, b"II*\0", "bytes 0-99/100"), "other bytes than"),
    "more": (lambda h: h.answer(206, bytes(10**6), "bytes 0-99/100"), "other bytes than"),
    "nonsense": (lambda h: h.answer(206, b"II*\0", "bytes"), "answers 206"),
    "errors": (lambda h: h.send_error(503), "answers 503"),
    "nothing": (lambda h: setattr(h, "close_connection", True), "closed connection"),
    "cut off": (lambda h: (h.send_response(206), h.send_header("Content-Length", "9"),
                           h.send_header("Content-Range", "bytes 0-99/100"), h.end_headers(),
                           setattr(h, "close_connection", True)), "IncompleteRead|other bytes"),
}  # fmt: skip


@pytest.mark.parametrize("name", SPOILED)
def test_servers_that_do_not_keep_the_rules(server, name):
    spoil, words = SPOILED[name]
    server.spoil.append(spoil)
    with pytest.raises(InputError, match=words) as caught:
        open_source(f"{server.url}/a.tif", allow_remote=True)
    assert caught.value.id == "E-INPUT-ADDRESS"
    assert "secret" not in caught.value.message
    assert "object at" not in caught.value.message


def test_a_file_that_changes_between_two_reads(server, tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, noise(2048, 1024), tile=(256, 256), photometric="rgb")
    source = open_source(f"{server.url}{path}", allow_remote=True)
    source.read(Window(0, 0, 9, 9))
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(InputError, match=r"changed since the run began \(size") as caught:
        source.read(Window(1900, 900, 9, 9))
    assert caught.value.id == "E-INPUT-CHANGED"


def test_an_address_reads_as_a_file_does(server, tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(np.random.default_rng(1).bytes(300_007))
    address = Address(f"{server.url}{path}")
    rng = np.random.default_rng(2)
    with path.open("rb") as theirs, address.open("rb") as ours:
        for _ in range(60):
            place, count = int(rng.integers(310_000)), int(rng.choice([1, 9, 70_000, 200_000]))
            theirs.seek(place)
            ours.seek(place)
            expected = theirs.read(count)
            assert ours.read(count) == expected
            assert address.read(place, count) == expected
        assert ours.seek(-5, os.SEEK_END) == theirs.seek(-5, os.SEEK_END)
        assert ours.read() == theirs.read()


@pytest.mark.parametrize(
    "address",
    ["http://ann:s3cret@127.0.0.1:9/a.tif", "http://s3cret@127.0.0.1:9/a.tif",
     "https://127.0.0.1:9/a.tif?X-Amz-Signature=s3cret", "s3://key:s3cret@bucket/a.tif",
     "https://127.0.0.1:9/a.tif#s3cret", "https://ann:s3c?ret@127.0.0.1/a.tif",
     "/vsicurl/http://ann:s3cret@127.0.0.1:9/a.tif"],
)  # fmt: skip
@pytest.mark.parametrize("more", [(), ("--allow-remote",), ("--allow-remote", "--json", "--debug")])
def test_a_secret_is_neither_printed_nor_kept(tmp_path, capsys, monkeypatch, address, more):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=r"^4$"):
        main(["run", address, *more])
    printed = capsys.readouterr()
    assert not re.search("s3c", printed.out + printed.err)
    assert list(tmp_path.iterdir()) == []


def test_what_is_shown_of_an_address():
    assert public_address("https://a:b@host:8/x/y.tif?k=1#z") == "https://host:8/x/y.tif"


RUN = ("--model", "tiny.safetensors", "--tile", "64", "--threads", "1")


def _run(*arguments: str) -> None:
    with pytest.raises(SystemExit, match=r"^0$"):
        main(["run", *arguments, *RUN])


def test_a_run_gives_the_mask_of_the_file(server, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save_tiny_model(tmp_path / "tiny.safetensors")
    _map(tmp_path / "a.tif")
    address = f"{server.url}{tmp_path}/a.tif"
    _run("a.tif", "-o", "local.tilseg")
    _run(address, "--allow-remote")
    # The report names the image, too.
    without = ("run.json", "summary.json", "report.html")
    local = tree(tmp_path / "local.tilseg", without=without)
    assert tree(tmp_path / "a.tilseg", without=without) == local
    receipt = json.loads((tmp_path / "a.tilseg" / "run.json").read_text())
    identity = receipt["fingerprint"]["input"]
    assert identity["path"] == address
    assert identity["size"] == (tmp_path / "a.tif").stat().st_size
    capsys.readouterr()
    _run(address, "--allow-remote")
    assert "nothing to do" in capsys.readouterr().out


def test_a_file_that_changes_in_a_run_is_not_published(server, tmp_path, monkeypatch, capsys):
    from tilseg.finish import Finisher

    monkeypatch.chdir(tmp_path)
    save_tiny_model(tmp_path / "tiny.safetensors")
    _map(tmp_path / "a.tif")
    write = Finisher.write_masks

    def touched(*arguments: Any) -> None:
        os.utime("a.tif", (1, 1))
        write(*arguments)

    monkeypatch.setattr(Finisher, "write_masks", touched)
    with pytest.raises(SystemExit, match=r"^4$"):
        main(["run", f"{server.url}{tmp_path}/a.tif", "--allow-remote", *RUN])
    assert "E-INPUT-CHANGED" in capsys.readouterr().err
    assert not (tmp_path / "a.tilseg").exists()


def test_files_at_addresses_make_a_scene(server, tmp_path):
    names = [f"B{k},x.tif" for k in range(3)]
    for name in names:
        _map(tmp_path / name)
    addresses = [f"{server.url}{tmp_path}/{name}" for name in names]
    with pytest.raises(InputError, match=r"B0,x\.tif: is an address"):
        open_source(addresses)
    source = open_source(addresses, allow_remote=True)
    here = open_source([tmp_path / name for name in names])
    assert (source.shape, source.bands, source.georef) == (here.shape, 9, here.georef)
    window = Window(31, 17, 55, 60)
    np.testing.assert_array_equal(source.read(window), here.read(window))
    np.testing.assert_array_equal(
        pickle.loads(pickle.dumps(source)).read(window), here.read(window)
    )
    assert source.identity() != here.identity()
