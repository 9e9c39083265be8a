"""The model card: everything about a network that is not a weight.

It travels as JSON in the metadata of the `.safetensors` file, so that reading it costs neither
torch nor the weights.
"""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from tilseg.errors import ModelError
from tilseg.instance_rule import Border, Watershed
from tilseg.magic import foreign_model
from tilseg.receptive_field import ReceptiveField

_METADATA_KEY = "tilseg"
# The format allows 100 MiB, which as JSON takes gigabytes; ten thousand weights need one.
_MAX_HEADER = 4 * 2**20


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _shown(name: str) -> str:
    if not name.isprintable():
        # Masks, tables and terminals take these names over; XML has no way to write some.
        raise ValueError("holds characters that can't be shown")
    return name


Name = Annotated[str, Field(max_length=200), AfterValidator(_shown)]


class ClassInfo(_Strict):
    """One class; its value in the mask is its position in the card's list."""

    name: Name
    color: Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")]


Percent = Annotated[float, Field(ge=0, le=100)]


class Normalization(_Strict):
    """How pixels become network input: (pixel - mean) / std, band by band.

    constants: `mean` and `std` as given here, of pixels of `dtype` where that is said.
    image: mean and std of the whole image, from a fixed lattice sample, fixed before tiling.
    joint: one mean and one std of all bands of the whole image, for each of them, so that one band
        stays comparable to another whatever the image shows.
    percentiles: mean is the lower of two `percentiles` of that sample and std their distance, so
        that most of the image lies between 0 and 1.
    orient: "bright-on-dark" turns an image round (a negative std) when its background is the
        light side of its histogram, so that stained and fluorescent objects look alike.
    """

    kind: Literal["constants", "image", "joint", "percentiles"]
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    dtype: Annotated[str, Field(pattern=r"^(uint8|uint16|int16|float32)$")] | None = None
    percentiles: tuple[Percent, Percent] | None = None
    orient: Literal["bright-on-dark"] | None = None


class Card(_Strict):
    """Card of one model file; see docs/reference for the meaning of each field."""

    format: Literal[1] = 1
    name: Name
    description: str = ""
    architecture: str
    parameters: dict[str, Any]
    bands: Annotated[int, Field(ge=1)]
    band_names: tuple[Name, ...] = ()
    normalization: Normalization
    head: Literal["softmax", "sigmoid"]
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.5
    classes: Annotated[tuple[ClassInfo, ...], Field(min_length=2, max_length=255)]
    background: int | None = 0
    instances: Watershed | Border | None = None
    tissue: Literal["auto", "none"] = "none"
    pixel_size: Annotated[float, Field(gt=0)] | None = None
    unit: Name | None = None
    halo: Annotated[int, Field(ge=0)]
    stride: Annotated[int, Field(ge=1)]
    offset: Annotated[int, Field(ge=0)]
    inexact: str | None = None
    training: dict[str, Any] = {}
    metrics: dict[str, Any] = {}
    licence: str = ""

    @model_validator(mode="after")
    def _consistent(self) -> Card:
        if self.offset >= self.stride:
            raise ValueError("offset must be below stride")
        if self.head == "sigmoid" and len(self.classes) != 2:
            raise ValueError("a sigmoid head has exactly two classes")
        if self.background is not None and not 0 <= self.background < len(self.classes):
            raise ValueError("background is not one of the classes")
        if isinstance(self.instances, Border):
            border = self.instances.border
            if border is None or border == self.background or not 0 <= border < len(self.classes):
                raise ValueError(
                    "instances.border is not one of the classes that are not background"
                )
        if self.band_names and len(self.band_names) != self.bands:
            raise ValueError("band_names must name every band")
        if (self.pixel_size is None) != (self.unit is None):
            raise ValueError("pixel_size and unit go together")
        n = self.normalization
        if n.kind == "constants" and not len(n.mean) == len(n.std) == self.bands:
            raise ValueError("constants need one mean and one std a band")
        if any(s == 0 for s in n.std):
            raise ValueError("std must not be 0")
        if (n.kind == "percentiles") != (n.percentiles is not None):
            raise ValueError("percentiles are needed for their own kind of normalization alone")
        if n.percentiles is not None and n.percentiles[0] >= n.percentiles[1]:
            raise ValueError("the first of percentiles must be the lower one")
        return self

    @property
    def field(self) -> ReceptiveField:
        return ReceptiveField(self.halo, self.stride, self.offset)

    @property
    def channels(self) -> int:
        """Output channels of the network: one for a sigmoid head, else one a class."""
        return 1 if self.head == "sigmoid" else len(self.classes)

    def to_metadata(self) -> dict[str, str]:
        """The card as safetensors metadata, in canonical JSON."""
        content = self.model_dump(mode="json")
        return {_METADATA_KEY: json.dumps(content, sort_keys=True, separators=(",", ":"))}


def parse_card(text: str, path: str) -> Card:
    """A card from its JSON; raises ModelError E-MODEL-CARD naming the first wrong field."""
    try:
        return Card.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        reason = f"{place}: {first['msg']}" if place else first["msg"]
        raise ModelError("E-MODEL-CARD", path=path, reason=reason) from None


def read_card(path: str | Path) -> Card:
    """The card of a `.safetensors` model, from its header alone.

    Raises ModelError: E-MODEL-FORMAT for anything that is not such a file, E-MODEL-CODE for what
    would run code when it is loaded, E-MODEL-CARD for a card with a wrong field.
    """
    path = Path(path)
    try:
        header = _header(path)
    except OSError as error:
        raise _refuse(path, f"can't be read: {error.strerror}") from None
    try:
        metadata = json.loads(header).get("__metadata__", {})
    except (ValueError, AttributeError, RecursionError):
        raise _refuse(path, "has a damaged header") from None
    if not isinstance(metadata, dict) or not isinstance(metadata.get(_METADATA_KEY), str):
        raise _refuse(path, "has no tilseg model card")
    return parse_card(metadata[_METADATA_KEY], str(path))


def _header(path: Path) -> bytes:
    size = path.stat().st_size
    with path.open("rb") as file:
        prefix = file.read(10)
        length = struct.unpack_from("<Q", prefix)[0] if len(prefix) == 10 else 0
        if 2 <= length <= size - 8:
            if length > _MAX_HEADER:
                raise _refuse(path, f"has a header of {length / 2**20:,.0f} MiB")
            return prefix[8:] + file.read(length - 2)
    if prefix[8:] == b'{"':
        raise _refuse(path, "ends inside its header")
    what, runs_code = foreign_model(path)
    if runs_code:
        raise ModelError("E-MODEL-CODE", path=path, what=what)
    raise _refuse(path, what)


def _refuse(path: Path, reason: str) -> ModelError:
    return ModelError("E-MODEL-FORMAT", path=path, reason=reason)


def file_sha256(path: str | Path) -> str:
    """Hex sha256 of a file, read in pieces."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
