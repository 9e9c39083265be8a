"""The arithmetic of halo, stride and offset, against sizes worked out by hand and by walking."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilseg.errors import UsageError
from tilseg.receptive_field import Reach, ReceptiveField, compose, compose_same

even = st.integers(0, 4).map(lambda half: 2 * half)


@st.composite
def u_shapes(draw):
    depth = draw(st.integers(0, 5))
    levels = st.lists(even, min_size=depth, max_size=depth)
    return draw(levels), draw(even), draw(levels), draw(levels)


def test_the_paper():
    field = compose([4] * 4, 4, [4] * 4, [0] * 4)
    assert field == ReceptiveField(halo=92, stride=16, offset=12)
    assert field.output_of(572) == 388
    assert field.input_for(384) == 572
    assert not field.is_legal(570)


@pytest.mark.parametrize(
    ("depth", "halo", "padded", "bilinear", "padded_bilinear"),
    # two 3x3 convolutions a block; the padded ones measured on networks, see test_models_probe
    [(1, 8, 8, 9, 10), (2, 20, 24, 23, 28), (3, 44, 48, 51, 56), (4, 92, 96, 107, 112)],
)
def test_halos_of_the_usual_networks(depth, halo, padded, bilinear, padded_bilinear):
    lost, none, two = [4] * depth, [0] * depth, [2] * depth
    assert compose(lost, 4, lost, none).halo == halo
    assert compose(lost, 4, lost, two).halo == bilinear
    assert compose_same(lost, 4, lost, none) == ReceptiveField(padded, 2**depth, 0)
    assert compose_same(lost, 4, lost, two).halo == padded_bilinear


@given(shape=u_shapes(), output=st.integers(1, 200))
def test_sizes_agree_with_a_walk_through_the_network(shape, output):
    encoder, bottleneck, decoder, upsampling = shape
    field = compose(*shape)
    pixels = field.input_for(output)
    walk = pixels
    for lost in encoder:
        walk -= lost
        assert walk > 0
        assert walk % 2 == 0
        walk //= 2
    walk -= bottleneck
    for lost, cropped in reversed(list(zip(decoder, upsampling, strict=True))):
        walk = 2 * walk - cropped - lost
    assert walk == field.output_of(pixels) >= output > walk - field.stride


@given(shape=u_shapes())
def test_padding_stays_out_of_reach_of_kept_pixels_and_no_further(shape):
    encoder, bottleneck, decoder, upsampling = shape
    field = compose_same(*shape)
    assert field.offset == 0
    assert field.halo % field.stride == 0

    # Every input pixel that a kept block needs, as sets instead of bounds.
    needed = set(range(field.stride))
    for lost, cropped in zip(decoder, upsampling, strict=True):
        reach = (lost + cropped) // 2
        needed = {(p + r) // 2 for p in needed for r in range(-reach, reach + 1)}
    needed = {p + r for p in needed for r in range(-bottleneck // 2, bottleneck // 2 + 1)}
    for lost in reversed(encoder):
        fine = {2 * p + half for p in needed for half in (0, 1)}
        needed = {p + r for p in fine for r in range(-lost // 2, lost // 2 + 1)}
    assert -min(needed) == max(needed) - (field.stride - 1)
    assert field.halo - field.stride < -min(needed) <= field.halo


@pytest.mark.parametrize(
    "shape", [([1], 4, [3], [0]), ([4], 3, [4], [0]), ([4], 4, [4], [1]), ([4], 4, [4, 4], [0])]
)
def test_uneven_losses_and_levels_are_refused(shape):
    for arithmetic in (compose, compose_same):
        with pytest.raises(ValueError, match=r"even|one entry a level"):
            arithmetic(*shape)


@pytest.mark.parametrize("numbers", [(-1, 2, 0), (0, 0, 0), (4, 4, 4), (4, 4, -1)])
def test_impossible_numbers_are_refused(numbers):
    with pytest.raises(ValueError, match="not a receptive field"):
        ReceptiveField(*numbers)


@given(halo=st.integers(0, 100), depth=st.integers(0, 5), tile=st.integers(-3, 400))
def test_only_multiples_of_the_stride_are_steps(halo, depth, tile):
    field = ReceptiveField(halo, 2**depth, 0)
    if tile > 0 and tile % field.stride == 0:
        field.check_step(tile)
        assert field.step_below(tile) == tile == field.step_covering(tile)
        return
    with pytest.raises(UsageError) as caught:
        field.check_step(tile)
    assert caught.value.id == ("E-TILE-STEP" if tile > 0 else "E-TILE-SIZE")
    if tile > 0:
        below, above = field.step_below(tile), field.step_covering(tile)
        assert below < tile < above == below + field.stride
        assert str(above) in caught.value.message
        assert f"{below} or" in caught.value.message or below == 0


def _into_sets(needed, kernel, stride, padding, dilation):
    """Pixels of the input that pixels of the output need, tap by tap."""
    return {p * stride - padding + dilation * tap for p in needed for tap in range(kernel)}


windows = st.tuples(
    st.sampled_from([1, 2, 3, 5, 7]), st.booleans(), st.integers(0, 4), st.integers(1, 4)
)


@given(down=st.lists(windows, max_size=6), up=st.booleans(), skip=st.booleans())
def test_reach_is_what_a_walk_over_sets_of_pixels_finds(down, up, skip):
    stride = 2 ** sum(halve for _, halve, _, _ in down)
    reach = Reach.of_input(stride)
    for kernel, halve, padding, dilation in down:
        reach = reach.window(kernel, stride=1 + halve, padding=padding, dilation=dilation)
    if up:
        reach = reach.bilinear(stride) if stride > 1 else reach
    joined = up and skip
    field = (reach | Reach.of_input(stride)).field if joined else reach.field

    kept = range(stride)
    needed = set(kept) if up else {0}
    if up and stride > 1:
        # align_corners=False: pixel p lies at (p + 1/2) / stride - 1/2 of the coarse ones.
        places = [(p + 0.5) / stride - 0.5 for p in needed]
        needed = {int(place // 1) + side for place in places for side in (0, 1)}
    for kernel, halve, padding, dilation in reversed(down):
        needed = _into_sets(needed, kernel, 1 + halve, padding, dilation)
    if joined:
        needed |= set(kept)
    beyond = max(0, -min(needed), max(needed) - stride + 1)
    assert field == ReceptiveField(-(-beyond // stride) * stride, stride, 0)
