"""The registry of exports."""

from __future__ import annotations

from pathlib import Path

import pytest

from tilseg.errors import UsageError
from tilseg.sink import load_sink, registered_sinks


@pytest.mark.parametrize("name", registered_sinks())
def test_every_sink_has_a_contract_test(name):
    tests = (Path(__file__).parent / f"test_sinks_{name}.py").read_text()
    assert "(SinkContract):" in tests
    assert f'name = "{name}"' in tests


def test_unknown_sink_names_the_known():
    with pytest.raises(UsageError) as raised:
        load_sink("geotif")
    message = str(raised.value)
    assert "geotiff, ometiff" in message
    assert "did you mean 'geotiff'?" in message
