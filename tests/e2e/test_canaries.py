"""Nothing is fetched, followed or executed: a server and a file that must stay unread.

The server on loopback counts what reaches it. The file has an old time of last access, which a
read by any library moves on. Images and models name one or both, in the ways of their formats.
"""

from __future__ import annotations

import gzip
import json
import os
import pickle
import shutil
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import tifffile
import torch
import zarr
from mutants import ome_zarr
from rasterio.errors import RasterioError
from tiny import noise, save_tiny_model

from tilseg.cli.main import main

SHAPE = (97, 61)
_LONG_AGO = 10**18


@dataclass
class Canaries:
    """url, file: what must stay unread. hits: what reached the server."""

    url: str
    file: Path
    hits: list[str]

    def arm(self) -> None:
        self.hits.clear()
        # A disk that notes reads does so at least where the last one is older than the content.
        os.utime(self.file, ns=(_LONG_AGO, _LONG_AGO + 10**9))

    @property
    def touched(self) -> list[str]:
        return [*self.hits, *(["file"] if self.file.stat().st_atime_ns != _LONG_AGO else [])]


class _Count(BaseHTTPRequestHandler):
    hits: list[str]

    def do_GET(self) -> None:
        self.hits.append(self.path)
        self.send_error(404)

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def canaries(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Canaries]:
    # A sound image, so that whoever follows its name does read it.
    path = tmp_path_factory.mktemp("canary") / "canary.tif"
    _map(path)
    handler = type("Handler", (_Count,), {"hits": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield Canaries(f"http://127.0.0.1:{server.server_port}/canary.tif", path, handler.hits)
        server.shutdown()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("model") / "tiny.safetensors")


@pytest.fixture
def desk(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    shutil.copy(model, tmp_path)
    return tmp_path


def _map(path: Path, **more: Any) -> None:
    with rasterio.open(
        path, "w", driver="GTiff", width=61, height=97, count=3, dtype="uint8", **more
    ) as file:
        file.write(np.moveaxis(noise(*SHAPE), -1, 0))


def _vrt(name: str, *, band: str = "", before: str = "", source: str = "SimpleSource") -> str:
    named = f'<SourceFilename relativeToVRT="0">{name}</SourceFilename><SourceBand>1</SourceBand>'
    inside = named if band else f"<{source}>{named}</{source}>"
    bands = "".join(
        f'<VRTRasterBand dataType="Byte" band="{k}" {band}>{inside}</VRTRasterBand>'
        for k in (1, 2, 3)
    )
    return f'<VRTDataset rasterXSize="61" rasterYSize="97">{before}{bands}</VRTDataset>'


def _text(make: Callable[[Canaries], str]) -> Callable[[Path, Canaries], object]:
    return lambda path, canaries: path.write_text(make(canaries))


def _python(canaries: Canaries) -> str:
    code = f"import urllib.request as u; u.urlopen('{canaries.url}')"
    kind = "<PixelFunctionType>f</PixelFunctionType><PixelFunctionLanguage>Python"
    words = f"{kind}</PixelFunctionLanguage><PixelFunctionCode>{code}</PixelFunctionCode>"
    text = _vrt(str(canaries.file), source="SimpleSource")
    return text.replace('dataType="Byte"', 'dataType="Byte" subClass="VRTDerivedRasterBand"', 1
                        ).replace("<SimpleSource>", f"{words}<SimpleSource>", 1)  # fmt: skip


def _service(canaries: Canaries) -> str:
    window = "<DataWindow><SizeX>61</SizeX><SizeY>97</SizeY><TileCount>1</TileCount></DataWindow>"
    where = f'<Service name="TMS"><ServerUrl>{canaries.url}</ServerUrl></Service>'
    return f"<GDAL_WMS>{where}{window}<BandsCount>3</BandsCount></GDAL_WMS>"


def _stac(canaries: Canaries) -> str:
    asset = {"href": canaries.url, "type": "image/tiff", "roles": ["data"]}
    item = {"type": "Feature", "stac_version": "1.0.0", "id": "a", "assets": {"image": asset}}
    return json.dumps({"type": "FeatureCollection", "stac_version": "1.0.0", "features": [item]})


def _kerchunk(canaries: Canaries) -> str:
    refs = {".zgroup": '{"zarr_format": 2}', "0/0.0": [canaries.url, 0, 100]}
    return json.dumps({"version": 1, "refs": refs})


def _overviews(path: Path, canaries: Canaries) -> None:
    """A map whose own tags say that its overviews are elsewhere."""
    _map(path)
    with rasterio.open(path, "r+") as file:
        file.update_tags(ns="OVERVIEWS", OVERVIEW_FILE=f"/vsicurl/{canaries.url}")


def _neighbours(path: Path, canaries: Canaries) -> None:
    """A map with neighbours of names that GDAL looks for."""
    _map(path)
    for suffix in (".ovr", ".msk", ".aux.xml"):
        Path(f"{path}{suffix}").write_text(_vrt(f"/vsicurl/{canaries.url}"))


_OME = (
    '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:1"><Image ID="Image:0"><Pixels '
    'ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" SizeX="61" SizeY="97" SizeC="3" SizeZ="1" '
    'SizeT="1"><Channel ID="Channel:0:0" SamplesPerPixel="3"/><TiffData IFD="0" PlaneCount="1">'
    '<UUID FileName="{name}">urn:uuid:0</UUID></TiffData></Pixels></Image></OME>'
)


def _other_file(path: Path, canaries: Canaries) -> None:
    """An OME-TIFF whose only plane is said to be in another file."""
    words = _OME.format(name=canaries.file)
    tifffile.imwrite(path, noise(*SHAPE), photometric="rgb", description=words, metadata=None)


def _entity(path: Path, canaries: Canaries) -> None:
    """An OME-TIFF whose XML takes entities from elsewhere."""
    names = f'<!ENTITY a SYSTEM "{canaries.url}"><!ENTITY b SYSTEM "file://{canaries.file}">'
    words = f"<!DOCTYPE OME [{names}]>" + _OME.replace("{name}", "&a;&b;")
    tifffile.imwrite(path, noise(*SHAPE), photometric="rgb", description=words, metadata=None)


def _zarr_paths(path: Path, canaries: Canaries) -> None:
    """An OME-Zarr whose levels are said to be elsewhere."""
    ome_zarr(path)
    group = zarr.open_group(path, mode="r+")
    ome: Any = group.attrs["ome"]
    ome["multiscales"][0]["datasets"][0]["path"] = os.path.relpath(canaries.file, path)
    ome["multiscales"][0]["datasets"][1]["path"] = canaries.url
    group.attrs["ome"] = ome


def _zarr_links(path: Path, canaries: Canaries) -> None:
    """An OME-Zarr of which a chunk is a pipe that nobody writes to."""
    ome_zarr(path)
    chunk = next(each for each in sorted(path.rglob("c/**/*")) if each.is_file())
    chunk.unlink()
    os.mkfifo(chunk)


IMAGES: dict[str, Callable[[Path, Canaries], object]] = {
    "VRT of a file": _text(lambda c: _vrt(str(c.file))),
    "VRT of an address": _text(lambda c: _vrt(f"/vsicurl/{c.url}")),
    "VRT of raw bytes": _text(lambda c: _vrt(str(c.file), band='subClass="VRTRawRasterBand"')),
    "VRT of a VRT in a name": _text(lambda c: _vrt(f"vrt://{c.file}")),
    "VRT with Python": _text(_python),
    "VRT with a mask": _text(lambda c: _vrt("x.tif", before=f"<MaskBand>{_vrt(str(c.file))}</MaskBand>")),
    "VRT with overviews": _text(lambda c: _vrt("x.tif", before=f"<Metadata domain='OVERVIEWS'><MDI key='OVERVIEW_FILE'>{c.file}</MDI></Metadata>")),
    "VRT with coordinates": _text(lambda c: _vrt("x.tif", before=f"<SRS>{c.url}</SRS>")),
    "map service": _text(_service),
    "STAC": _text(_stac),
    "kerchunk": _text(_kerchunk),
    "overviews elsewhere": _overviews,
    "neighbours": _neighbours,
    "plane in another file": _other_file,
    "entities": _entity,
    "zarr paths": _zarr_paths,
    "zarr pipe": _zarr_links,
}  # fmt: skip

NAMES = ("{url}", "/vsicurl/{url}", "vrt://{file}", "GTIFF_DIR:1:{file}", "file://{file}",
         "/vsisubfile/0_100,{file}", "/vsizip/{file}/a.tif", "zip+file://{file}!a.tif",
         "/vsistdin/", "WMS:{url}", 'ZARR:"/vsicurl/{url}"', "{url}#remote=fetch")  # fmt: skip


def _run(capsys: Any, image: object, *more: str, model: str = "tiny.safetensors") -> int:
    options = ("--tile", "64", "--threads", "1", "--overwrite", "-o", "out.tilseg")
    with pytest.raises(SystemExit) as ended:
        main(["run", str(image), "--model", model, *more, *options])
    code, err = int(str(ended.value.code)), capsys.readouterr().err
    assert not code or err.count("\n") == 1
    return code


def test_the_canaries_sing(canaries, desk):
    """What GDAL does by itself, and what a reader must therefore not let it do."""
    (desk / "a.tif").write_text(_vrt(str(canaries.file)))
    canaries.arm()
    with rasterio.open(desk / "a.tif") as dataset:
        dataset.read()
    assert canaries.touched == ["file"]
    (desk / "a.tif").write_text(_vrt(f"/vsicurl/{canaries.url}"))
    canaries.arm()
    with pytest.raises(RasterioError), rasterio.open(desk / "a.tif") as dataset:
        dataset.read()
    assert "/canary.tif" in canaries.touched


@pytest.mark.parametrize("name", IMAGES)
def test_no_image_leads_to_another(canaries, desk, capsys, name):
    IMAGES[name](desk / "a.tif", canaries)
    canaries.arm()
    code = _run(capsys, "a.tif")
    assert canaries.touched == []
    # Where an image is sound by itself, what it says of others makes no difference.
    assert code == (0 if name == "neighbours" else 5 if name == "zarr pipe" else 4)


@pytest.mark.parametrize("name", [name for name in IMAGES if name.startswith("VRT")])
def test_a_vrt_that_is_allowed_leads_to_files_alone(canaries, desk, capsys, name):
    _map(desk / "x.tif")
    IMAGES[name](desk / "a.tif", canaries)
    canaries.arm()
    code = _run(capsys, "a.tif", "--allow-vrt")
    followed = name in ("VRT of a file", "VRT with a mask")
    assert canaries.touched == (["file"] if followed else [])
    # Metadata of a VRT is not even looked at.
    assert code == (0 if followed or name == "VRT with overviews" else 4)


@pytest.mark.parametrize("name", NAMES)
def test_no_name_leads_to_another(canaries, desk, capsys, name):
    canaries.arm()
    assert _run(capsys, name.format(url=canaries.url, file=canaries.file)) == 4
    assert canaries.touched == []


class _Runs:
    """What is unpickled as a file being written."""

    def __init__(self, marker: Path) -> None:
        self.marker = str(marker)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch '{self.marker}'",)


class _Module(torch.nn.Module):
    def __init__(self, marker: Path | None = None) -> None:
        super().__init__()
        self.hostile = None if marker is None else _Runs(marker)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 1


def _archive(**parts: bytes) -> Callable[[Path, Path], None]:
    def make(path: Path, marker: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in parts.items():
                archive.writestr(name, content)

    return make


def _tar(path: Path, marker: Path) -> None:
    inner = path.with_suffix(".pkl")
    inner.write_bytes(pickle.dumps(_Runs(marker)))
    with tarfile.open(path, "w") as archive:
        archive.add(inner, "pickle")
    inner.unlink()


def _header(path: Path, marker: Path) -> None:
    """A safetensors file whose card names a module to import."""
    content = path.with_name("tiny.safetensors").read_bytes()
    Path(path.parent / "evil.py").write_text(f"open({str(marker)!r}, 'w')")
    old, new = rb"\"architecture\":\"unet\"", rb"\"architecture\":\"evil\""
    assert content.count(old) == 1
    path.write_bytes(content.replace(old, new))


_YAML = b"type: model\nweights: !!python/object/apply:os.system ['touch owned']\n"

MODELS: dict[str, Callable[[Path, Path], object]] = {
    "pickle": lambda p, m: p.write_bytes(pickle.dumps(_Runs(m))),
    "pickle of protocol 0": lambda p, m: p.write_bytes(pickle.dumps(_Runs(m), protocol=0)),
    "pickle of protocol 2": lambda p, m: p.write_bytes(pickle.dumps(_Runs(m), protocol=2)),
    "gzipped pickle": lambda p, m: p.write_bytes(gzip.compress(pickle.dumps(_Runs(m)))),
    "state dict": lambda p, m: torch.save({"weights": _Runs(m)}, p),
    "state dict, old": lambda p, m: torch.save(
        {"weights": _Runs(m)}, p, _use_new_zipfile_serialization=False
    ),
    "module": lambda p, m: torch.save(_Module(m), p),
    "TorchScript": lambda p, m: torch.jit.script(_Module()).save(str(p)),
    "torch.export": _archive(**{"a/archive_format": b"pt2", "a/models/model.json": b"{}"}),
    "bioimage.io": _archive(**{"rdf.yaml": _YAML, "model.py": b"open('owned', 'w')"}),
    "numpy": lambda p, m: np.save(p.open("wb"), np.array([_Runs(m)]), allow_pickle=True),
    "tar": _tar,
    "YAML": lambda p, m: p.write_bytes(_YAML),
    "Python": lambda p, m: p.write_text(f"open({str(m)!r}, 'w')"),
    "card that names code": _header,
}


@pytest.mark.parametrize("name", MODELS)
def test_no_model_runs_code(canaries, desk, capsys, monkeypatch, name):
    marker = desk / "owned"
    monkeypatch.syspath_prepend(desk)
    tifffile.imwrite("image.tif", noise(*SHAPE), photometric="rgb")
    MODELS[name](desk / "bad.safetensors", marker)
    canaries.arm()
    assert _run(capsys, "image.tif", model="bad.safetensors") == 6
    assert not marker.exists()
    assert canaries.touched == []


def test_the_markers_work(tmp_path):
    pickle.loads(pickle.dumps(_Runs(tmp_path / "owned")))
    assert (tmp_path / "owned").exists()
