"""Readers are found by name, asked in order, and each keeps the contract."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import numpy as np
import pytest

from tilseg import source as registry
from tilseg.choice import Choice
from tilseg.errors import InputError
from tilseg.source import open_source, register_source, registered_sources
from tilseg.sources.array import ArraySource


def test_every_reader_has_a_contract_test() -> None:
    tests = Path(__file__).parent
    for name in ("array", *registered_sources()):
        text = (tests / f"test_sources_{name}.py").read_text()
        assert "SourceContract" in text, name


def test_a_reader_may_be_added_and_may_decline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_READERS", dict(registry._READERS))
    asked = []

    def open_path(path: Path, choice: Choice) -> ArraySource | None:
        asked.append((path, choice))
        if "declined" in path.name:
            return None
        return ArraySource(np.frombuffer(path.read_bytes()[4:], np.uint8).reshape(2, 3))

    module = types.ModuleType("my_reader")
    module.open_path = open_path  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "my_reader", module)
    register_source("mine", "my_reader", lambda path, head: head.startswith(b"MINE"))
    assert registered_sources()[-1] == "mine"
    for name in ("taken.bin", "declined.bin"):
        (tmp_path / name).write_bytes(b"MINE\1\2\3\4\5\6")
    assert open_source(tmp_path / "taken.bin", z=3).shape == (2, 3)
    assert asked == [(tmp_path / "taken.bin", Choice(z=3))]
    with pytest.raises(InputError, match="give a TIFF"):
        open_source(tmp_path / "declined.bin")
    (tmp_path / "other.bin").write_bytes(b"OTHER")
    with pytest.raises(InputError, match="is text"):
        open_source(tmp_path / "other.bin")
    assert len(asked) == 2
