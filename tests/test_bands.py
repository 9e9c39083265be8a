"""Bands of an image are found by the names that a model's card gives them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilseg.bands import choose_bands
from tilseg.errors import InputError


def _image(*names):
    return SimpleNamespace(uri="a.tif", bands=len(names), band_names=names)


def _card(*names, bands=0):
    return SimpleNamespace(bands=bands or len(names), band_names=names)


@given(st.data())
def test_every_order_of_named_bands_gives_the_models(data):
    known = st.sampled_from(["B02", "B03", "B04", "B8A", "red", "NIR", "SCL"])
    names = data.draw(st.lists(known, unique=True, min_size=1))
    wanted = data.draw(st.permutations(names))
    wanted = wanted[: data.draw(st.integers(1, len(wanted)))]
    chosen = choose_bands(_image(*names), _card(*wanted), None)
    assert [names[band] for band in chosen] == wanted


@pytest.mark.parametrize(
    ("names", "wanted", "chosen"),
    [
        (("Red", "NIR"), ("nir", "red"), (1, 0)),
        (("B02_10m", "B11_20m"), ("B11", "B02"), (1, 0)),
        (("near_infrared", "red"), ("Red", "Near infrared"), (1, 0)),
        # The whole name comes before a word of a longer one.
        (("red edge", "red"), ("red",), (1,)),
        # Without all names there is only their order.
        (("blue", ""), ("red", "blue"), (0, 1)),
        (("red", "green"), (), (0, 1)),
        (("red", "green"), ("", ""), (0, 1)),
        (("grey", "grey"), ("grey", "grey"), (0, 1)),
    ],
)
def test_names_that_tell(names, wanted, chosen):
    assert choose_bands(_image(*names), _card(*wanted, bands=len(chosen)), None) == chosen


@pytest.mark.parametrize(
    ("names", "wanted", "words"),
    [
        (("B02", "B03"), ("B02", "B08", "B11"), "has no band B08 or B11; its bands are B02, B03"),
        (("red", "green"), ("DAPI", "FITC"), "has no band DAPI or FITC"),
        (("B02_10m", "B02_20m"), ("B02",), "its bands 1 and 2 could both be B02"),
    ],
)
def test_names_that_do_not_tell_are_refused(names, wanted, words):
    with pytest.raises(InputError, match=words) as caught:
        choose_bands(_image(*names), _card(*wanted), None)
    assert caught.value.id == "E-INPUT-BAND-NAMES"
    numbers = tuple(range(1, len(wanted) + 1))
    if len(wanted) <= len(names):
        # What the advice says then works.
        assert choose_bands(_image(*names), _card(*wanted), numbers) == tuple(range(len(wanted)))
