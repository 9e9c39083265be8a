"""What a file that is not what was asked for seems to be, from its bytes, never from its name."""

from __future__ import annotations

import stat
from pathlib import Path

from tilseg.errors import InputError
from tilseg.names import is_text

_MAGIC = {
    b"version https://git-lfs": "a git-lfs pointer (run: git lfs pull)",
    b"<!doctype": "a web page",
    b"<html": "a web page",
    b"<vrtdataset": "a GDAL VRT, which refers to other files",
    b"<": "XML",
    b"\0\0\0\x0cjP  ": "a JPEG 2000",
    b"\xff\x4f\xff\x51": "a JPEG 2000",
    b"GIF8": "a GIF",
    b"%PDF": "a PDF",
    b"PK\x03\x04": "a zip archive",
    b"\x1f\x8b": "gzip data",
    b"\x89HDF": "HDF5",
    b"II*\0": "a TIFF",
    b"MM\0*": "a TIFF",
    b"\x89PNG": "a PNG",
    b"\xff\xd8\xff": "a JPEG",
}

# Parts of a zip archive, most telling first. What runs code when it is loaded has a True.
_PARTS = (
    (b"code/__torch__", "a TorchScript program", True),
    (b"constants.pkl", "a TorchScript program", True),
    (b"models/model.json", "a torch.export program (.pt2)", True),
    (b"archive_format", "a torch.export program (.pt2)", True),
    (b"data.pkl", "a PyTorch pickle", True),
    (b"rdf.yaml", "a bioimage.io package", False),
    (b"bioimageio.yaml", "a bioimage.io package", False),
)
# A zip archive names its parts in front of each and all together at its end.
_ENDS = 2**16
_PICKLE = b"\x80"


def first_bytes(path: Path, count: int = 512) -> bytes:
    """So many bytes of a file's beginning; none of a directory.

    Raises InputError E-INPUT-NAME, E-INPUT-MISSING, E-INPUT-NOT-FILE, E-INPUT-READ, E-INPUT-EMPTY.
    """
    if not is_text(path):
        raise InputError("E-INPUT-NAME", path=path)
    # stat before open: opening a FIFO would wait for ever.
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        raise InputError("E-INPUT-MISSING", path=path) from None
    if stat.S_ISDIR(mode):
        return b""
    if not stat.S_ISREG(mode):
        raise InputError("E-INPUT-NOT-FILE", path=path)
    try:
        with path.open("rb") as file:
            head = file.read(count)
    except OSError as error:
        raise InputError("E-INPUT-READ", path=path, reason=error.strerror) from None
    if not head:
        raise InputError("E-INPUT-EMPTY", path=path)
    return head


def describe(head: bytes) -> str:
    """What a file seems to be by its first bytes, as in "is a web page"."""
    if not head:
        return "has 0 bytes"
    start = head.lstrip()[:64].lower()
    for magic, kind in _MAGIC.items():
        if head.startswith(magic) or start.startswith(magic):
            return f"is {kind}"
    if head[128:132] == b"DICM":
        return "is DICOM"
    if all(byte in b"\t\n\r\f" or 32 <= byte < 127 for byte in head[:64]):
        return "is text"
    return f"starts with the unknown bytes {head[:4].hex(' ')}"


def foreign_model(path: Path) -> tuple[str, bool]:
    """What a file that is no safetensors model seems to be, and whether loading it runs code.

    Only bytes at both ends are looked at: nothing is unpacked.
    """
    with path.open("rb") as file:
        head = file.read(_ENDS)
        file.seek(max(len(head), path.stat().st_size - _ENDS))
        ends = head + file.read(_ENDS)
    if head.startswith(b"PK\x03\x04"):
        for part, kind, runs in _PARTS:
            if part in ends:
                return f"is {kind}", runs
    # Protocols 2 to 5 begin with this byte and their number; older ones are text.
    if head[:1] == _PICKLE and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "is a Python pickle", True
    if head[:1] == b"\x08" and (b"onnx" in head.lower() or b"pytorch" in head.lower()):
        return "is an ONNX model", False
    return describe(head), False
