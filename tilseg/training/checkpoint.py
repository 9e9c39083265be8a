"""The state of an unfinished training, beside the model it makes.

It is written as a whole or not at all, holds tensors and plain values only, and is read without
running code (`weights_only=True`). It goes when the training is complete.
"""

from __future__ import annotations

import contextlib
import os
import pickle
from pathlib import Path
from typing import Any

import torch

from tilseg.errors import ExistsError, InputError, OutputError


def state_path(output: Path) -> Path:
    """Where the state of the training of `output` is kept."""
    return output.with_name(f".{output.name}.training")


def save_state(output: Path, recipe: dict[str, Any], state: dict[str, Any]) -> None:
    """Keep `state`; `recipe` is all that decides the result, as plain JSON values.

    Raises OutputError E-OUTPUT-WRITE.
    """
    path = state_path(output)
    attempt = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        torch.save({"recipe": recipe, "state": state}, attempt)
        os.replace(attempt, path)
    except (OSError, RuntimeError) as error:  # torch raises RuntimeError on a full disk
        with contextlib.suppress(OSError):
            attempt.unlink(missing_ok=True)
        raise OutputError("E-OUTPUT-WRITE", path=path, reason=error) from None


def load_state(output: Path, recipe: dict[str, Any]) -> dict[str, Any] | None:
    """The state to continue from, or None where a training begins.

    Raises ExistsError (exit 10): E-TRAIN-EXISTS where a complete model is in the way,
    E-TRAIN-PARTIAL where the unfinished training had another recipe; InputError
    E-TRAIN-STATE for a state that can't be read.
    """
    path = state_path(output)
    if not path.exists():
        if output.exists():
            raise ExistsError("E-TRAIN-EXISTS", path=output)
        return None
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
        before, state = found["recipe"], found["state"]
    except (OSError, RuntimeError, EOFError, KeyError, TypeError, pickle.UnpicklingError):
        raise InputError("E-TRAIN-STATE", path=path) from None
    fields = [key for key in recipe if before.get(key) != recipe[key]]
    if fields:
        raise ExistsError("E-TRAIN-PARTIAL", path=path, fields=", ".join(fields))
    result: dict[str, Any] = state
    return result


def remove_state(output: Path) -> None:
    """Forget the state of a training that is complete."""
    state_path(output).unlink(missing_ok=True)
