"""What `bench` counts, against a count by hand; and the command."""

from __future__ import annotations

import json

import pytest
import tifffile
from tiny import noise, save_tiny_model, tilseg

from tilseg.card import read_card
from tilseg.models.cost import matrix_rate, operations, operations_per_pixel
from tilseg.models.network import precisions


def by_hand(depth: int, width: int, bands: int, classes: int, side: int | None) -> float:
    """Operations of a valid U-Net by its drawing: two for each weight and place it is used at.

    side: of the input; None for a tile without end, a pixel of it.
    """
    total, n, share = 0.0, float(side or 0), 1.0

    def conv(channels_in: int, channels: int, kernel: int, lost: int = 0) -> None:
        nonlocal total, n
        n -= lost
        total += 2 * kernel**2 * channels_in * channels * (n**2 if side else share)

    channels = bands
    for level in range(depth):
        conv(channels, width << level, 3, 2)
        channels = width << level
        conv(channels, channels, 3, 2)
        n, share = n / 2, share / 4
    conv(channels, width << depth, 3, 2)
    conv(width << depth, width << depth, 3, 2)
    for level in reversed(range(depth)):
        # Each output pixel of a 2 x 2 transposed convolution of step 2 uses one weight an input.
        n, share = 2 * n, 4 * share
        conv(width << level + 1, width << level, 1)
        conv(width << level + 1, width << level, 3, 2)
        conv(width << level, width << level, 3, 2)
    conv(width, classes, 1)
    return total


@pytest.mark.parametrize(
    ("depth", "width", "bands", "classes"), [(2, 4, 3, 2), (3, 5, 1, 4), (4, 16, 3, 3)]
)
def test_operations_are_those_of_the_drawing(tmp_path, depth, width, bands, classes):
    given = {"depth": depth, "width": width, "bands": bands, "classes": classes}
    card = read_card(save_tiny_model(tmp_path / "a.safetensors", **given))
    for step in (1, 7):
        side = card.halo * 2 + card.stride * step
        side += (card.offset - side) % card.stride
        assert operations(card, side, side) == by_hand(**given, side=side)
    assert operations_per_pixel(card) == pytest.approx(by_hand(**given, side=None))


def test_the_paper_s_network(tmp_path):
    # 572 -> 388, width 64, depth 4.
    given = {"depth": 4, "width": 64, "bands": 1, "classes": 2}
    card = read_card(save_tiny_model(tmp_path / "a.safetensors", depth=2, width=4, bands=1))
    card = replace_parameters(card, given)
    assert operations(card, 572, 572) == by_hand(**given, side=572)


def replace_parameters(card, given):
    from tilseg.models.unet import build

    field = build(given).field
    return card.model_copy(
        update={
            "parameters": given,
            "bands": given["bands"],
            "halo": field.halo,
            "stride": field.stride,
            "offset": field.offset,
        }
    )


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_matrices_multiply_at_some_rate(precision):
    assert matrix_rate("cpu", precision, 1, 1e-3) > 1e8


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    tifffile.imwrite(folder / "image.tif", noise(211, 307), tile=(64, 64), photometric="rgb")
    save_tiny_model(folder / "tiny.safetensors")
    return folder


def test_the_command_shows_every_way_and_marks_the_run_s(desk):
    asked = ("bench", "image.tif", "--model", "tiny.safetensors", "--seconds", "0.001")
    done = tilseg(*asked, "--tile", "68", "--json", cwd=desk)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {rate["precision"] for rate in found["rates"]} == set(
        precisions(desk / "tiny.safetensors", "cpu")
    )
    planned = [rate for rate in found["rates"] if rate["planned"]]
    assert [(rate["precision"], rate["tile"]) for rate in planned] == [("fp32", [68, 68])]
    for rate in found["rates"]:
        assert rate["input"][0] >= rate["tile"][0] + 2 * 4
        assert rate["pixels"] > 0
        limit = found["matrices"][rate["precision"]] / found["operations_per_pixel"]
        assert rate["of_limit"] == pytest.approx(rate["pixels"] / limit, rel=1e-4)
        assert 0 < rate["of_halo"] < 1
    halo = {tuple(rate["tile"]): rate["of_halo"] for rate in found["rates"]}
    assert sorted(halo.values()) == [halo[tile] for tile in sorted(halo)]
    assert {path.name for path in desk.iterdir()} == {"image.tif", "tiny.safetensors"}


def test_the_table_says_what_a_run_would_take(desk):
    done = tilseg(
        *("bench", "image.tif", "--model", "tiny.safetensors", "--seconds", "0.001"),
        *("--precision", "bf16"),
        cwd=desk,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("precision")
    assert lines[0].rstrip().endswith("Mpix/s  of limit  halo leaves")
    (run,) = [line for line in lines if line.startswith("bf16") and " run" in line]
    assert f"{run.split()[6]} Mpix/s in bf16" in lines[-1]


def test_what_run_refuses_is_refused(desk):
    done = tilseg("bench", "none.tif", cwd=desk)
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr.startswith("error[E-INPUT-MISSING]")
