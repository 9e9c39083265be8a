"""The pages of evaluate and change open without a complaint, under their own policy."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

import tilseg


@pytest.fixture
def masks(tmp_path):
    """Two masks of which the second has a patch more; their names would be markup."""
    before = np.zeros((61, 83), np.uint8)
    before[5:20, 7:31] = 1
    after = before.copy()
    after[33:47, 40:71] = 1
    names = [tmp_path / name for name in ("<b>before<script>1<!--.tif", "<img src=x>.tif")]
    for name, mask in zip(names, (before, after), strict=True):
        tifffile.imwrite(name, mask)
    return names


def _open(page, file):
    page.goto(file.as_uri())
    table = page.locator("table").first
    # Without its style the page would show lines under nothing.
    border = table.locator("td").first.evaluate("cell => getComputedStyle(cell).borderBottomWidth")
    assert border == "1px"
    assert page.locator("script, b:not(td b), img:not([src^=data])").count() == 0
    sizes = page.locator("img").evaluate_all("all => all.map(one => one.naturalWidth)")
    assert sizes
    assert all(sizes)


def test_evaluation(page, masks, tmp_path):
    tilseg.evaluate(masks[1], masks[0], output=tmp_path / "score")
    _open(page, tmp_path / "score" / "evaluation.html")
    assert "<img src=x>.tif" in page.inner_text("p.sub")


def test_change(page, masks, tmp_path):
    tilseg.change(masks[0], masks[1], output=tmp_path / "changed")
    _open(page, tmp_path / "changed" / "change.html")
    assert "<b>before<script>1<!--.tif" in page.inner_text("p.sub")
    swatch = page.locator("svg.swatch rect").first
    assert swatch.evaluate("one => getComputedStyle(one).fill") != "rgb(0, 0, 0)"
