"""Every error tilseg raises on purpose, in one tree and one catalogue.

    TilsegError            exit 1   a bug of ours, unless a subclass says otherwise
    ├── UsageError         exit 2   ValueError       an option or argument that can't be
    ├── InputError         exit 4   ValueError       the image (or a mask) is bad or changed
    ├── BlocksFailed       exit 5   RuntimeError     some blocks failed, nothing was published
    ├── ModelError         exit 6   ValueError       the model is bad, untrusted or does not fit
    ├── OutputError        exit 7   OSError          the output or its disk
    ├── ResourceError      exit 8   RuntimeError     memory, or CUDA where there is none
    ├── ExistsError        exit 10  FileExistsError  another result or another run is in the way
    ├── LockedError        exit 11  RuntimeError     another driver owns the output
    ├── DamageError        exit 12  ValueError       verify found damage
    └── Stopped            exit 75  RuntimeError     the time budget is spent; resumable

An error is raised with its id and the facts of the case; the words live in `CATALOGUE`:

    raise UsageError("E-TILE-STEP", tile=388, stride=16, legal="384 or 400")

and prints as one line that says what came, what is allowed and what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


class TilsegError(Exception):
    """Base of the tree. `id` names the catalogue entry, `facts` fill its words."""

    exit_code = 1

    def __init__(self, id: str, **facts: Any) -> None:
        self.id = id
        self.facts = facts
        super().__init__(CATALOGUE[id].format(**facts))

    @property
    def message(self) -> str:
        """The catalogue's words with the facts of this case filled in: one line."""
        return " ".join(CATALOGUE[self.id].format(**self.facts).split())

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> Any:
        # Keyword-only construction does not survive pickling by itself, and these
        # errors cross process borders.
        return _rebuild, (type(self), self.id, self.facts)


def _rebuild(kind: type[TilsegError], id: str, facts: dict[str, Any]) -> TilsegError:
    return kind(id, **facts)


class UsageError(TilsegError, ValueError):
    exit_code = 2


class InputError(TilsegError, ValueError):
    exit_code = 4


class BlocksFailed(TilsegError, RuntimeError):
    exit_code = 5


class ModelError(TilsegError, ValueError):
    exit_code = 6


class OutputError(TilsegError, OSError):
    exit_code = 7


class ResourceError(TilsegError, RuntimeError):
    exit_code = 8


class ExistsError(TilsegError, FileExistsError):
    exit_code = 10


class LockedError(TilsegError, RuntimeError):
    exit_code = 11


class DamageError(TilsegError, ValueError):
    exit_code = 12


class Stopped(TilsegError, RuntimeError):
    exit_code = 75


def nearest(word: str, known: Iterable[str]) -> str:
    """`" (did you mean 'x'?)"` for the known name closest to `word`, or nothing."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


# id -> words. Sorted by the class that raises it; the class carries the exit code.
CATALOGUE: dict[str, str] = {
    # usage: exit 2
    "E-TILE-STEP": "tile {tile} is not a multiple of the model's stride {stride}; use {legal}",
    "E-TILE-SIZE": "tile {tile} is not a positive number of pixels; use a multiple of {stride}",
    "E-BAND-LIST": "bands {bands!r} is not a list of band numbers; write them as 1,2,3",
    "E-MEMORY-SIZE": "memory {memory!r} is not a size; write it as 4GB, 800MB or 2GiB",
    "E-OPTION": "{option} {value!r} is not allowed; use {allowed}",
    "E-LEVEL": "level {level} is not in {path}, which has {levels}; choose one with --level",
    "E-CONFIG": "{path}: {reason}",
    "E-CHOICE": "{path}: {option} {value!r} does not fit this image; leave {option} out",
    "E-CHOICE-RANGE": "{path}: {option} {value} is not there; choose {option} from 0 to {last}",
    # input: exit 4
    "E-INPUT-MISSING": "{path}: no such file; check the path",
    "E-INPUT-DIRECTORY": "{path}: is a directory; expected an image file such as a TIFF",
    "E-INPUT-NOT-FILE": "{path}: is not a regular file; expected an image file such as a TIFF",
    "E-INPUT-EMPTY": "{path}: has 0 bytes; copy the file again",
    "E-INPUT-FORMAT": "{path}: {reason}; expected {expected}",
    "E-INPUT-TRUNCATED": "{path}: {reason}; copy the file again",
    "E-INPUT-READ": "{path}: {reason}",
    "E-INPUT-DTYPE": "{path}: pixels are {dtype}; convert them to one of {allowed}",
    "E-INPUT-BANDS": "{path}: has {bands} bands, the model wants {wanted}; choose with --bands {example}",
    "E-INPUT-BAND": "{path}: there is no band {band}; it has bands 1 to {bands}",
    "E-INPUT-SHAPE": "array of shape {shape} is no image; give (rows, cols) or (rows, cols, bands)",
    "E-INPUT-ARRAY": "{uri}: this array is not in the memory of this process; save it as a file, "
    "which other processes can open",
    "E-INPUT-AMBIGUOUS": "{path}: {found}; choose {choose}",
    "E-INPUT-PALETTE": "{path}: its numbers stand for colours of a palette; open its colours with "
    "palette=expand, or its class numbers with palette=index",
    "E-INPUT-SEGMENT": "{path}: one compressed {kind} decodes to {size}, more than {bound}; "
    "write it again with small tiles (gdal_translate -co TILED=YES, or vips tiffsave --tile)",
    "E-INPUT-CHANGED": "{path}: changed since the run began ({fields}); run again on the file as it is now",
    "E-INPUT-NO-DATA": "{path}: has no valid pixel in its sample, only nodata; nothing to segment",
    # training data: exit 4
    "E-TRAIN-EMPTY": "{path}: holds no image; training looks for files ending in {suffixes}",
    "E-TRAIN-PAIR": "{path}: {reason}; every image needs one mask of the same name and place",
    "E-TRAIN-SPLIT": "one image of {rows} x {cols} pixels can't be split; give two pixels or more",
    "E-TRAIN-SIZE": "{path}: the mask is {mask_rows} x {mask_cols} pixels, its image "
    "{rows} x {cols}; they must be equal",
    "E-TRAIN-MASK": "{path}: the mask has {bands} bands of {dtype}; "
    "it must have one band of whole numbers, the class values",
    "E-TRAIN-CLASS": "{path}: the mask holds {values}, the classes are {classes} "
    "(0 to {last}; {unlabelled} means not labelled); name every class with --classes",
    "E-TRAIN-ONE-CLASS": "{path}: the {part} masks hold {found}; two or more are needed "
    "(255 means not labelled, it is no class), or another --seed to split the images otherwise",
    "E-TRAIN-BANDS": "{path}: has {bands} bands, other training images have {wanted}; "
    "give them all the same bands",
    "E-TRAIN-STATE": "{path}: the state of an unfinished training is damaged; remove it and train again",
    "E-MASK-DTYPE": "the mask's pixels are {dtype}; a mask of classes holds whole numbers: "
    "round or convert it first",
    "E-MASK-NEGATIVE": "the mask holds the class {value}; classes are 0 and above: "
    "name that value with --nodata if it means nothing",
    "E-REGION-IMAGE": "the image is {image} where the mask is {mask} (rows, cols); "
    "measure with the image the mask was made from",
    # blocks: exit 5
    "E-BLOCKS-FAILED": "{failed} of {total} blocks failed ({tiles} tiles), nothing was published; "
    "first: {first}; run the same command again to retry, or add --on-bad-tile mask",
    # model: exit 6
    "E-MODEL-MISSING": "model {name!r} is neither bundled nor a file{hint}; bundled: {bundled}",
    "E-MODEL-FORMAT": "{path}: {reason}; expected a tilseg .safetensors model",
    "E-MODEL-CARD": "{path}: the model card is wrong: {reason}",
    "E-MODEL-PARAMETERS": "architecture {architecture!r} can't be built: {reason}",
    "E-MODEL-WEIGHTS": "{path}: the weights do not fit the card: {reason}",
    "E-MODEL-NAN": "{path}: weight {key!r} holds NaN or infinity; use an undamaged model file",
    "E-MODEL-INEXACT": "{path}: not exact under tiling ({reason}); allow it with --allow-inexact",
    "E-TRAIN-DIVERGED": "the loss is {loss} at step {step}; check the images for wrong values, "
    "or train with another --seed or --normalization image",
    "E-MODEL-CHANGED": "{path}: is not the model the run was planned with; "
    "restore that file, or start again with --overwrite",
    # output: exit 7
    "E-OUTPUT-PARENT": "{path}: its folder {parent} does not exist or can't be written; make it first",
    "E-OUTPUT-WRITE": "{path}: could not be written ({reason}); finished blocks are kept, "
    "free some space and run the same command again",
    "E-DISK": "{path}: needs about {needed} more ({parts}), and at most {bound}, but {free} are "
    "free; finished blocks are kept, free some space or choose another place with -o",
    "E-MODEL-WRITE": "{path}: the model could not be written ({reason}); "
    "free some space, or choose another place with -o",
    "E-OUTPUT-READBACK": "{path}: reads back differently from what was written ({reason}); nothing "
    "was published, check the disk and run the same command again",
    "E-OUTPUT-INPUT": "{path}: the output would touch the input {input}; choose another with -o",
    # resources: exit 8
    "E-NO-CUDA": "device {device!r} was asked for, but {reason}; use --device cpu",
    "E-MEMORY": "needs {needed} of memory, the budget is {budget}; raise --memory or use a smaller --tile",
    "E-WORKER-VERSION": "a worker has {name} {worker}, the driver {driver}; install the same on both",
    "E-SCHEDULER": "{reason}; check the address and that the scheduler runs",
    # exists: exit 10
    "E-EXISTS": "{path}: exists and differs from this run in {fields}; use --overwrite or another -o",
    "E-EXISTS-FOREIGN": "{path}: exists and is not a tilseg result; choose another with -o",
    "E-EXISTS-DAMAGED": "{path}: exists, but its receipt is damaged; "
    "make it anew with --overwrite, or choose another -o",
    "E-PARTIAL-DAMAGED": "{path}: the plan of this unfinished run is damaged; "
    "start again with --overwrite",
    "E-PARTIAL": "{path}: an unfinished run differs from this one in {fields}; "
    "repeat its options, or start again with --overwrite",
    "E-TRAIN-EXISTS": "{path}: exists and is complete; choose another with -o, or remove it",
    "E-TRAIN-PARTIAL": "{path}: the unfinished training differs from this one in {fields}; "
    "repeat its options, or remove it to begin again",
    # stopped: exit 75
    "E-STOPPED": "stopped after {done} of {total} blocks; run the same command again to continue",
    # locked: exit 11
    "E-LOCKED": "{path}: another run owns it ({owner}); wait for it, choose another -o, or, "
    "when you know that it is dead, add --break-lock",
    "E-LOCK-LOST": "{path}: another run has taken it over ({owner}); this one ends, "
    "what it finished is kept",
    # damage: exit 12
    "E-REGION-TABLE": "a block's table of regions is damaged ({reason}); compute that block again",
    "E-DAMAGE-BLOCK": "{path}: what is stored at {window} is damaged ({reason}); "
    "compute that block again",
    "E-VERIFY": "{path}: {count} files differ from the receipt, the first is {first}; "
    "run the same command again with --overwrite to make it anew",
    "E-VERIFY-RECEIPT": "{path}: the receipt is damaged, nothing can be verified against it; "
    "run the same command again with --overwrite to make it anew",
}
