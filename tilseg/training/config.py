"""What a training is, in the sections of its file: what a person chooses and a card repeats.

The command line has the same choices; docs/guides/train.md explains them. Free of torch, so that
`--help` is quick.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from tilseg.card import Name
from tilseg.models.settings import SETTINGS
from tilseg.training.settings import AUGMENTATIONS, Augmentation

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, lt=1)]


def _accept(fits: Callable[[Any], bool], words: str) -> AfterValidator:
    def check(value: Any) -> Any:
        if not fits(value):
            raise ValueError(words)
        return value

    return AfterValidator(check)


_Color = Annotated[
    str, _accept(lambda text: bool(re.fullmatch("#[0-9a-fA-F]{6}", text)), "a colour is #0072b2")
]
_Network = Annotated[
    str, _accept(lambda name: name in SETTINGS, "`tilseg models` lists the networks")
]


_Parameters = Annotated[
    dict[str, Any],
    _accept(lambda own: not own.keys() & {"bands", "classes"}, "bands and classes are the data's"),
]


class Section(BaseModel):
    """One section of the file: no unknown keys, no infinities, unchangeable."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class TrainingClass(Section):
    """A class; its value in the masks that the model makes is its place in the list.

    color: "#0072b2", or None for one that is chosen. weight: how much a pixel of it counts in
    cross-entropy and focal loss. values: the numbers, "#rrggbb" colours or words that stand for
    it in the labels; () for its place in the list, its colour and its name.
    """

    name: Name
    color: _Color | None = None
    weight: Positive = 1.0
    values: tuple[int | str, ...] = ()


class Data(Section):
    """Labelled images, and which of them are held out.

    images, masks: folders, or files; table: a CSV instead. ignore: values that mean *not
    labelled*, beside 255 and 65535. property: of vector labels, that names the class of a polygon.
    """

    images: str | None = None
    masks: str | None = None
    table: str | None = None
    ignore: tuple[int | str, ...] = ()
    property: str | None = None
    split: Literal["images", "blocks"] = Field(
        default="images", description="Hold out whole images, or blocks of each."
    )
    block: Count | None = Field(
        default=None,
        description="Side of such a block in pixels.  [default: 256, or four halos]",
    )
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.2,
        description="Share that is held out, of the images of each subfolder or the blocks of each image.",
    )
    normalization: Literal["image", "joint", "constants"] = Field(
        default="image",
        description="Mean and deviation of each image, band by band or all bands together, or of "
        "all images.",
    )
    orient: Literal["bright-on-dark"] | None = Field(
        default=None,
        description="Turn dark-on-light images round, so that stain and fluorescence look alike.",
    )


class NetworkChoice(Section):
    """A network of `tilseg.models.settings` and what of it is not as there.

    parameters: more of its own, such as `halo`, which the command line has no options for.
    """

    name: _Network = Field(
        default="unet-small", description="One of those that `tilseg models` lists."
    )
    depth: Annotated[int, Field(ge=1, le=8)] | None = Field(
        default=None, description="Poolings, where the network's own are not wanted."
    )
    width: Annotated[int, Field(ge=1, le=1024)] | None = Field(
        default=None,
        description="Channels of the finest level, where the network's own are not wanted.",
    )
    parameters: _Parameters = {}
    head: Literal["softmax", "sigmoid"] = Field(
        default="softmax", description="sigmoid: one channel, for two classes."
    )
    weights: str | None = Field(
        default=None,
        description="Begin with these: a model of yours, or VGG-16 or U2-Net weights "
        "(.safetensors, .pth).",
    )

    @property
    def architecture(self) -> str:
        """Its name in `tilseg.model.ARCHITECTURES`."""
        return SETTINGS[self.name].architecture

    @property
    def arguments(self) -> dict[str, Any]:
        """All parameters of the network but `bands` and `classes`."""
        own = {"depth": self.depth, "width": self.width}
        chosen = {name: value for name, value in own.items() if value is not None}
        return SETTINGS[self.name].parameters | chosen | self.parameters


class LossChoice(Section):
    """What is minimised: cross-entropy and Dice weigh alike unless something else is chosen, as in
    nnU-Net (Isensee et al. 2021, doi:10.1038/s41592-020-01008-z)."""

    terms: str = Field(
        default="cross-entropy+dice",
        description="cross-entropy, border, focal, dice, dice-squared or tversky, or a sum of some.",
    )


class Optimizer(Section):
    """How the weights follow the gradient; see `tilseg.training.loop`."""

    name: Literal["adamw", "sgd"] = Field(
        default="adamw", description="AdamW, or SGD with momentum."
    )
    learning_rate: Positive | None = Field(
        default=None, description="At its highest.  [default: 0.002, of sgd 0.01]"
    )
    momentum: Share = Field(default=0.99, description="Of sgd.")
    weight_decay: Annotated[float, Field(ge=0)] = Field(default=1e-4, description="Pull towards 0.")
    averaging: Share = Field(
        default=0.995, description="Decay of the average of the weights, which is what is kept."
    )

    @property
    def rate(self) -> float:
        """The highest learning rate. That of SGD is nnU-Net's, as its momentum is the U-Net's."""
        return self.learning_rate or {"adamw": 2e-3, "sgd": 1e-2}[self.name]


class Schedule(Section):
    """How long it trains, and how the learning rate goes; what ends it first does."""

    steps: Count = Field(default=3000, description="Gradient steps at most.")
    minutes: Positive | None = Field(
        default=None, description="Minutes at most; where it ends then depends on the machine."
    )
    rate: Literal["cosine", "poly", "constant"] = Field(
        default="cosine",
        description="How the learning rate falls: half a cosine, (1 - t)^0.9, or not.",
    )
    warm_up: Share = Field(
        default=0.03, description="Share of the training in which the learning rate rises."
    )
    validations: Count = Field(default=20, description="How often it is validated, at even shares.")
    patience: Count | None = Field(
        default=None, description="End after so many validations without a better one."
    )


class Patches(Section):
    """What a step sees."""

    size: Count = Field(default=196, description="Side of a patch's labels in pixels, at least.")
    batch: Count = Field(default=4, description="Patches that go through the network at once.")
    balance: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.0,
        description="Share of patches that are centred on a class, each class as often.",
    )
    accumulate: Count = Field(default=1, description="Batches whose gradients make one step.")


class Output(Section):
    """The model file, a `.safetensors`, and what no program can know about it."""

    model: str | None = None
    description: str = Field(default="", description="One line about the model, for its card.")
    licence: str = Field(default="", description="Licence of the weights, for the card.")


def _with_preset(given: Any) -> Any:
    """A preset of `AUGMENTATIONS`, and what differs from it."""
    if not isinstance(given, dict):
        return given
    preset = given.get("preset", "light")
    if preset not in AUGMENTATIONS:
        raise ValueError(f"preset {preset!r} is none of {', '.join(AUGMENTATIONS)}")
    # What leaves this is no JSON any more, where a list would stand for a tuple.
    own = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items() if k != "preset"}
    return asdict(AUGMENTATIONS[preset]) | own


_DIFFERENT = _accept(
    lambda classes: len({each.name for each in classes}) == len(classes),
    "classes have different names",
)


class Config(Section):
    """One training."""

    data: Data = Data()
    classes: Annotated[
        tuple[TrainingClass, ...], Field(min_length=2, max_length=254), _DIFFERENT
    ] = (
        TrainingClass(name="background"),
        TrainingClass(name="foreground"),
    )
    network: NetworkChoice = NetworkChoice()
    loss: LossChoice = LossChoice()
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    patches: Patches = Patches()
    augmentation: Annotated[Augmentation, BeforeValidator(_with_preset)] = AUGMENTATIONS["light"]
    output: Output = Output()
    seed: Annotated[int, Field(ge=0)] = Field(
        default=0, description="Of the split, of the first weights and of all that is drawn."
    )
    precision: Literal["auto", "bf16", "fp32"] = Field(
        default="auto", description="bf16 where the device is fast with it, or as said."
    )
    device: str = Field(default="auto", description="auto, cpu, cuda or cuda:i.")

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(each.name for each in self.classes)

    @property
    def class_weights(self) -> tuple[float, ...]:
        """() where all classes count alike."""
        weights = tuple(each.weight for each in self.classes)
        return weights if len(set(weights)) > 1 else ()

    def recipe(self) -> dict[str, Any]:
        """What decides the weights beside the data themselves, as plain JSON."""
        places = {"images", "masks", "table"}
        left_out: Any = {"data": places, "output": True, "device": True, "network": {"weights"}}
        return self.model_dump(mode="json", exclude=left_out)
