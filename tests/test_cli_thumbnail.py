"""`tilseg info` in a terminal that has all colours, and in one that has not."""

from __future__ import annotations

import os
import pty
import re
import subprocess

import numpy as np
import pytest
import tifffile
from tiny import TILSEG, noise, tilseg

from tilseg.cli.thumbnail import half_blocks

_CELL = re.compile(r"\x1b\[38;2;(\d+);(\d+);(\d+);48;2;(\d+);(\d+);(\d+)m(▀+)")


@pytest.fixture
def image(tmp_path):
    """23 x 37 squares of 13 pixels, of one colour each."""
    colors = np.random.default_rng(4).integers(0, 256, (24, 37, 3), np.uint8)
    pixels = colors.repeat(13, 0).repeat(13, 1)
    tifffile.imwrite(tmp_path / "squares.tif", pixels, photometric="rgb")
    return tmp_path / "squares.tif", colors


def _in_a_terminal(*order: object, **environment: str) -> str:
    leader, follower = pty.openpty()
    names = ("COLORTERM", "TERM", "NO_COLOR", "FORCE_COLOR")
    kept = {name: value for name, value in os.environ.items() if name not in names}
    command = subprocess.Popen(
        [TILSEG, *map(str, order)], stdout=follower, stderr=follower, env=kept | environment
    )
    os.close(follower)
    shown = b""
    # Linux ends the reading of a terminal that nobody writes to any more with an error.
    while True:
        try:
            part = os.read(leader, 65536)
        except OSError:
            break
        if not part:
            break
        shown += part
    os.close(leader)
    assert command.wait() == 0, shown
    return shown.decode()


def test_half_blocks_have_two_colours_each():
    pixels = np.random.default_rng(1).integers(0, 256, (5, 7, 3), np.uint8)
    lines = half_blocks(pixels).split("\n")
    assert [line.plain for line in lines] == ["▀" * 7] * 3
    for row, line in enumerate(lines):
        for col, span in enumerate(line.spans):
            assert span.style.color.triplet == tuple(pixels[2 * row, col])
            below = span.style.bgcolor
            if 2 * row + 1 < 5:
                assert below.triplet == tuple(pixels[2 * row + 1, col])
            else:
                assert below is None


def test_a_terminal_with_all_colours_shows_the_image(image):
    path, colors = image
    shown = _in_a_terminal("info", path, COLORTERM="truecolor", TERM="xterm-256color", COLUMNS="90")
    assert "squares.tif" in shown
    lines = [line for line in shown.splitlines() if "▀" in line]
    # 312 x 481 pixels in 36 dots a column: as many as there are squares, and a half.
    assert len(lines) == 18
    found = []
    for line in lines:
        cells = [(list(map(int, cell[:6])), len(cell[6])) for cell in _CELL.findall(line)]
        found.append([color for color, count in cells for _ in range(count)])
    upper, lower = (np.array(found)[..., part] for part in (slice(0, 3), slice(3, 6)))
    dots = np.stack([upper, lower], axis=1).reshape(36, -1, 3)
    # The corners of the picture lie inside the corner squares.
    for row, col in ((0, 0), (0, -1), (-1, 0), (-1, -1)):
        np.testing.assert_array_equal(dots[row, col], colors[row, col])


def test_other_terminals_and_pipes_show_facts_alone(image):
    path, _ = image
    assert "▀" not in _in_a_terminal("info", path, TERM="xterm")
    found = tilseg("info", path, cwd=path.parent, env={"COLORTERM": "truecolor"})
    assert "▀" not in found.stdout
    assert "\x1b" not in found.stdout


def test_a_large_image_without_levels_is_not_read_for_it(tmp_path):
    tifffile.imwrite(tmp_path / "large.tif", noise(2101, 2003), photometric="rgb", tile=(256, 256))
    shown = _in_a_terminal("info", tmp_path / "large.tif", COLORTERM="truecolor", TERM="xterm")
    assert "2003 x 2101 px" in shown
    assert "▀" not in shown
