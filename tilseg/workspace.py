"""The directories of a run: where it works, how it publishes, what it may delete.

slide.tilseg/                    the result: complete and verified, or not there
.slide.tilseg.partial/           while it runs
    plan.json                    fingerprint and frozen plan
    journal-0.jsonl              finished blocks
    journal-3of20.jsonl          those of a shard
    shard-3of20.lock             the driver that owns this journal
    result.<time>/               becomes slide.tilseg by one rename
.slide.tilseg.old/               an overwritten result, between two renames
.slide.tilseg.trash/             a workspace that is being removed
.slide.tilseg.lock               the driver that owns all of the above

An output named slide.tif or slide.zarr is the mask alone; its receipt lies beside it, as
slide.tif.json, and is published first. Beside a GeoTIFF lies what GDAL itself would put there,
slide.tif.aux.xml.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tilseg import ownership
from tilseg.durable import (
    remove,
    seal,
    sync,
    sync_tree,
    unseal,
    write_durably,
    writing,
)
from tilseg.errors import ExistsError, OutputError
from tilseg.lock import Lock
from tilseg.names import is_text

RECEIPT = "run.json"
# Bytes of the longest name of an output: of the 255 that disks give, with what a lock puts before it
# and behind.
LONGEST_NAME = 255 - len(f"..lock.{uuid.uuid4().hex}")
_RESULT = "result."
# Suffix of an output that is one file -> the file of a result that it is.
SINGLE = {".tif": "mask.tif", ".tiff": "mask.tif", ".zarr": "mask.zarr"}
# What a GeoTIFF has beside it.
_AUX = ".aux.xml"
# Suffixes of files that somebody would not expect to become the name of a folder.
_NOT_WRITTEN = {
    ".bmp", ".csv", ".geojson", ".gif", ".gpkg", ".h5", ".hdf5", ".html", ".jp2", ".jpeg", ".jpg",
    ".json", ".mrxs", ".ndpi", ".npy", ".npz", ".parquet", ".pdf", ".png", ".safetensors", ".scn",
    ".shp", ".svs", ".txt", ".vrt", ".zip",
}  # fmt: skip
# Suffixes of the hidden places beside an output.
_HIDDEN = (".partial", ".old", ".trash", ".lock")
# By these a receipt is told from somebody else's file, even when it is damaged.
_FIELDS = (b'"fingerprint"', b'"bad_tiles"', b'"files"', b'"blocks"')


class Workspace:
    """Paths of one output and the moves between them."""

    def __init__(self, final: Path) -> None:
        self.final = final
        self.partial = final.parent / f".{final.name}.partial"
        # Named anew by each start: an owner that was taken for dead and wakes finds its own gone.
        self.result = self.partial / f"{_RESULT}{time.time_ns()}"
        self.plan = self.partial / "plan.json"
        self.single = single = SINGLE.get(final.suffix.lower())
        self.receipt_file = final.with_name(f"{final.name}.json") if single else final / RECEIPT
        self._aux = final.with_name(f"{final.name}{_AUX}") if single == "mask.tif" else None
        self._old = final.parent / f".{final.name}.old"
        self._trash = final.parent / f".{final.name}.trash"
        self.lock = Lock(final.parent / f".{final.name}.lock", final)

    @property
    def _ready(self) -> Path:
        """What is published under the final name."""
        return self.result / self.single if self.single else self.result

    def journal(self, name: str = "0") -> Path:
        """The journal of a driver that has the run for itself, or of the shard `name`."""
        return self.partial / f"journal-{name}.jsonl"

    def journals(self) -> list[Path]:
        """The journals of all drivers that have worked on the unfinished run."""
        return sorted(self.partial.glob("journal-*.jsonl"))

    def shard_lock(self, name: str) -> Lock:
        """The lock of one shard's driver; it is taken under that of the workspace."""
        return Lock(self.partial / f"shard-{name}.lock", self.final)

    def check_no_shard(self) -> None:
        """Raises LockedError E-LOCKED where a shard is at work. Under the lock none can begin."""
        for path in sorted(self.partial.glob("shard-*.lock")):
            with Lock(path, self.final).held():
                pass

    @property
    def places(self) -> tuple[Path, ...]:
        """All that a run may write, replace or remove."""
        hidden = (self.partial, self._old, self._trash, self.lock.path)
        return (self.final, self.receipt_file, *([self._aux] if self._aux else []), *hidden)

    def check_parent(self) -> None:
        """Raises OutputError E-OUTPUT-PARENT unless the output's folder can be written,
        E-OUTPUT-NAME for a name that can't be an output's, and ExistsError E-EXISTS-FOREIGN where
        its lock is a link."""
        if not is_text(self.final):
            raise OutputError("E-OUTPUT-NAME", path=self.final, reason="its name is not UTF-8 text")
        length = len(os.fsencode(self.final.name))
        if length > LONGEST_NAME:
            reason = f"its name has {length} bytes, and runs have room for {LONGEST_NAME}"
            raise OutputError("E-OUTPUT-NAME", path=self.final, reason=reason)
        if self.final.name.startswith(".") and self.final.suffix in _HIDDEN:
            reason = f"runs keep names in {self.final.suffix} for their work"
            raise OutputError("E-OUTPUT-NAME", path=self.final, reason=reason)
        if self.final.suffix.lower() in _NOT_WRITTEN:
            reason = f"tilseg does not write {self.final.suffix} files"
            raise OutputError("E-OUTPUT-NAME", path=self.final, reason=reason)
        parent = self.final.parent
        if not parent.is_dir() or not os.access(parent, os.W_OK):
            raise OutputError("E-OUTPUT-PARENT", path=self.final, parent=parent)
        # Opening it would follow a link, and writing would destroy what it leads to.
        ownership.check_ours(self.lock.path)

    def repair(self, *, join: bool = False) -> None:
        """Finish or undo a publication that was interrupted between its renames.

        join: leave the result that is being made where it is, for others are at work on it.

        Raises OutputError E-OUTPUT-WRITE, as all methods that write do; ExistsError
        E-EXISTS-FOREIGN where somebody else's files have the name of a place of ours.
        """
        for path in (self.partial, self._old, self._trash):
            ownership.check_ours(path)
        with writing(self.final):
            self._repair(join)

    def _repair(self, join: bool) -> None:
        remove(self._trash)
        self._adopt(join)
        if self.single and self._is_announced():
            self._put_in_place()
        if self._old.exists():
            if self.final.exists():
                remove(self._old)
            else:
                self._old.rename(self.final)
        written = self.partial.exists() if self.single is None else (self.result / RECEIPT).exists()
        if self.final.exists() and written and not self._ready.exists():
            # Published, but killed before the emptied workspace was removed.
            self.discard()

    def _adopt(self, join: bool) -> None:
        """Take over what an earlier start has of the result."""
        found = sorted(self.partial.glob(f"{_RESULT}[0-9]*"))
        # A late write of a start before that one may have made its folder again.
        for stray in found[:-1]:
            remove(stray)
        for last in found[-1:]:
            if join:
                self.result = last
            else:
                last.rename(self.result)

    def check_ours(self) -> None:
        """Raises ExistsError E-EXISTS-FOREIGN where anything that tilseg did not make is in the
        way; a result whose receipt is damaged is still ours."""
        places = [self.final, *([self.receipt_file] if self.single else []), self._aux]
        there = [path for path in places if path is not None and os.path.lexists(path)]
        if there:
            try:
                written = self.receipt_file.read_bytes()
            except OSError:
                written = b""
            # Most names of a receipt's fields outlive the damage of a few bytes.
            if sum(name in written for name in _FIELDS) < 2:
                raise ExistsError("E-EXISTS-FOREIGN", path=there[0])

    def check_replaceable(self) -> None:
        """Raises ExistsError unless what has the final name is a result and nothing else.

        E-EXISTS-FOREIGN, or E-EXISTS-ADDED for a file that somebody put into the result.
        """
        self.check_ours()
        try:
            named = [*unseal(self.receipt_file.read_bytes())["files"], RECEIPT]
        except (OSError, ValueError):
            named = None
        ownership.check_nothing_added(self.final, named, self.single or "")
        if self._aux is None or named is None or f"{self.single}{_AUX}" in named:
            return
        if os.path.lexists(self._aux):
            raise ExistsError("E-EXISTS-ADDED", path=self.final, name=self._aux.name)

    def receipt(self) -> dict[str, Any] | None:
        """The receipt of the result in place; None when there is no result.

        Raises ExistsError E-EXISTS-FOREIGN for anything tilseg did not make, E-EXISTS-DAMAGED
        for a receipt that it made but that is not as it was.
        """
        self.check_ours()
        if not os.path.lexists(self.final):
            return None
        try:
            return unseal(self.receipt_file.read_bytes())
        except (OSError, ValueError):
            raise ExistsError("E-EXISTS-DAMAGED", path=self.final) from None

    def missing(self, receipt: dict[str, Any]) -> list[str]:
        """Files that the receipt of the result in place names and that are not there."""
        # A network disk lists folders far sooner than it tells of thousands of files one by one.
        unseen = set(receipt["files"]).difference(_files_below(str(self.final)))
        return sorted(name for name in unseen if not place_of(self.final, name).is_file())

    def unfinished(self) -> dict[str, Any] | None:
        """The fingerprint and frozen plan of an unfinished run; None when there is none.

        A workspace killed before its plan was written holds nothing worth keeping. Raises
        ExistsError E-PARTIAL-DAMAGED where the plan is not as it was written.
        """
        try:
            return unseal(self.plan.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            raise ExistsError("E-PARTIAL-DAMAGED", path=self.partial) from None

    def begin(self, content: dict[str, Any]) -> None:
        """Make an empty workspace whose plan.json holds `content`.

        Raises LockedError E-LOCKED where a shard is at work in the one that is there.
        """
        self.check_no_shard()
        self.discard()
        with writing(self.partial):
            self.result.mkdir(parents=True)
        write_durably(self.plan, seal(content))

    def discard(self) -> None:
        """Remove the workspace, which only tilseg makes."""
        with writing(self.partial):
            remove(self._trash)
            if self.partial.exists():
                # Renamed first: half of a workspace must never be taken for one.
                self.partial.rename(self._trash)
                remove(self._trash)

    def discard_same(self, fingerprint: dict[str, Any]) -> None:
        """Remove an unfinished run that the result in place makes needless.

        That is one of the same fingerprint, which an `--overwrite` left, or one without a sound
        plan, which nobody can continue. Another's stays, for its own command.
        """
        try:
            unfinished = self.unfinished()
        except ExistsError:
            unfinished = None
        if unfinished is None or unfinished["fingerprint"] == fingerprint:
            self.discard()

    def publish(self) -> None:
        """Put the result in place of whatever has the final name, and remove the workspace.

        Raises OutputError E-OUTPUT-WRITE, LockedError E-LOCK-LOST, ExistsError as
        `check_replaceable`; a second call after it, or after a kill at any point and `repair`,
        ends in the same.
        """
        with writing(self.final):
            sync_tree(self.result)
            # The last moment at which somebody else's file can be let be, or another owner.
            self.check_replaceable()
            self.lock.check()
            if self.single:
                write_durably(self.receipt_file, (self.result / RECEIPT).read_text())
            self._put_in_place()
            if self.lock.is_mine():
                self.discard()

    def _is_announced(self) -> bool:
        """Whether the receipt of the finished result is in place, but not yet the result."""
        try:
            announced = self.receipt_file.read_bytes() == (self.result / RECEIPT).read_bytes()
        except OSError:
            return False
        return announced and self._ready.exists()

    def _put_in_place(self) -> None:
        if self._aux:
            self._put_beside(self._aux)
        replaced = self.final.exists()
        if replaced:
            self.final.rename(self._old)
        try:
            self._ready.rename(self.final)
        except OSError:
            if replaced:
                self._old.rename(self.final)
            self.lock.check()
            raise
        sync(self.final.parent)
        remove(self._old)

    def _put_beside(self, aux: Path) -> None:
        """What the new mask has beside it, or nothing in place of what the old one had."""
        name = f"{self.single}{_AUX}"
        if name not in unseal(self.receipt_file.read_bytes())["files"]:
            remove(aux)
        elif (self.result / name).exists():
            (self.result / name).replace(aux)


def _files_below(folder: str, below: str = "") -> Iterator[str]:
    """The names of all files in a folder, relative to it; none where it is no folder."""
    try:
        entries = list(os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        if entry.is_file():
            yield below + entry.name
        elif entry.is_dir(follow_symlinks=False):
            yield from _files_below(entry.path, f"{below}{entry.name}/")


def place_of(final: Path, name: str) -> Path:
    """Where the file `name` of a receipt lies, in a result or as an output of one file."""
    single = SINGLE.get(final.suffix.lower())
    if single is None:
        return final / name
    first, *rest = Path(name).parts
    return final.with_name(final.name + first.removeprefix(single)).joinpath(*rest)
