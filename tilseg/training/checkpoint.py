"""The state of an unfinished training, beside the model it makes.

It is written as a whole or not at all, holds tensors and plain values only, and is read without
running code (`weights_only=True`). It goes when the training is complete.
"""

from __future__ import annotations

import contextlib
import glob
import os
import pickle
from pathlib import Path
from typing import Any

import torch

from tilseg.card import Card, read_card
from tilseg.errors import ExistsError, InputError, ModelError, OutputError


def state_path(output: Path) -> Path:
    """Where the state of the training of `output` is kept."""
    return output.with_name(f".{output.name}.training")


def save_state(output: Path, recipe: dict[str, Any], state: dict[str, Any]) -> None:
    """Keep `state`; `recipe` is all that decides the result, as the card of the model without
    metrics, in plain JSON values.

    Raises OutputError E-OUTPUT-WRITE.
    """
    path = state_path(output)
    attempt = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        with attempt.open("wb") as file:
            torch.save({"recipe": recipe, "state": state}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(attempt, path)
    except (OSError, RuntimeError) as error:  # torch raises RuntimeError on a full disk
        with contextlib.suppress(OSError):
            attempt.unlink(missing_ok=True)
        raise OutputError("E-OUTPUT-WRITE", path=path, reason=error) from None


def load_state(output: Path, recipe: dict[str, Any]) -> dict[str, Any] | None:
    """The state to continue from, or None where there is none.

    Raises ExistsError E-TRAIN-PARTIAL (exit 10) where the unfinished training had another recipe;
    InputError E-TRAIN-STATE for a state that can't be read.
    """
    path = state_path(output)
    if not path.exists():
        return None
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
        before, state = found["recipe"], found["state"]
    except (OSError, RuntimeError, EOFError, KeyError, TypeError, pickle.UnpicklingError):
        raise InputError("E-TRAIN-STATE", path=path) from None
    fields = _differences(before, recipe)
    if fields:
        raise ExistsError("E-TRAIN-PARTIAL", path=path, fields=", ".join(fields))
    result: dict[str, Any] = state
    return result


def complete_card(output: Path, recipe: dict[str, Any]) -> Card | None:
    """The card of the model that this very training has made before, or None where none is.

    Raises ExistsError E-TRAIN-EXISTS (exit 10) where another file is in the way.
    """
    if not output.exists():
        return None
    try:
        card = read_card(output)
    except ModelError:
        raise ExistsError("E-TRAIN-EXISTS", path=output, fields="all") from None
    fields = _differences(card.model_dump(mode="json"), recipe)
    if fields:
        raise ExistsError("E-TRAIN-EXISTS", path=output, fields=", ".join(fields))
    return card


def _differences(before: dict[str, Any], recipe: dict[str, Any]) -> list[str]:
    """The fields of the recipe that were something else; metrics are no part of it."""
    old, new = before.get("training", {}), recipe["training"]
    plain = [key for key in recipe if key not in ("training", "metrics")]
    return [key for key in plain if before.get(key) != recipe[key]] + [
        f"training.{key}" for key in new if old.get(key) != new[key]
    ]


def remove_state(output: Path) -> None:
    """Forget the state of a training that is complete, and what killed ones had half written."""
    path = state_path(output)
    for half in (f"{glob.escape(path.name)}.*", f".{glob.escape(output.name)}.*.tmp"):
        for attempt in path.parent.glob(half):
            attempt.unlink(missing_ok=True)
    path.unlink(missing_ok=True)
