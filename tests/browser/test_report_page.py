"""report.html in a browser: what it shows can be switched, enlarged, read, printed and held."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
import tifffile
from browsing import watched
from PIL import Image
from tiny import noise, save_tiny_model

import tilseg


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    save_tiny_model(folder / "tiny.safetensors", classes=3)
    image = np.full((401, 307, 3), 240, np.uint8)
    image[150:, 40:] = noise(251, 267)
    tifffile.imwrite(folder / "<i>image.tif", image, photometric="rgb")
    plan = tilseg.make_plan(
        tilseg.open_source(folder / "<i>image.tif"),
        tilseg.load_model(folder / "tiny.safetensors", threads=1),
        tile=64,
        threads=1,
        tissue="auto",
        probabilities=True,
    )
    return tilseg.run(plan, folder / "image.tilseg").output / "report.html"


@pytest.fixture
def shown(page, report):
    page.goto(report.as_uri())
    return page


def _pixels(locator) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(locator.screenshot())).convert("RGB")).astype(int)


@pytest.mark.parametrize("layer", ["mask", "outlines", "tissue", "boxes"])
def test_a_layer_is_switched_off_and_on(shown, layer):
    overview, box = shown.locator(".overview"), shown.locator(f"[name={layer}]")
    before = _pixels(overview)
    box.uncheck()
    assert not shown.locator(f".{layer}").first.is_visible()
    without = _pixels(overview)
    assert (before != without).any()
    box.focus()
    shown.keyboard.press("Space")
    np.testing.assert_array_equal(_pixels(overview), before)


def test_what_was_not_segmented_is_shown_when_asked(shown):
    skipped = shown.locator(".skipped")
    assert not skipped.is_visible()
    shown.locator("[name=skipped]").check()
    assert skipped.is_visible()


def test_opacity_from_none_to_full(shown):
    for layer in ("outlines", "tissue", "boxes"):
        shown.locator(f"[name={layer}]").uncheck()
    overview, slider = shown.locator(".overview"), shown.locator("[name=opacity]")
    slider.fill("0")
    clear = _pixels(overview)
    shown.locator("[name=mask]").uncheck()
    np.testing.assert_array_equal(_pixels(overview), clear)
    shown.locator("[name=mask]").check()
    slider.fill("100")
    colors = {tuple(color) for color in _pixels(overview).reshape(-1, 3).tolist()}
    assert (40, 128, 64) in colors
    slider.focus()
    shown.keyboard.press("ArrowLeft")
    assert shown.locator(".mask").first.evaluate("one => getComputedStyle(one).opacity") == "0.99"


def test_the_overview_is_enlarged_about_its_middle(shown):
    scroll, overview = shown.locator(".scroll"), shown.locator(".overview")
    height = scroll.bounding_box()["height"]

    def middle() -> tuple[float, float]:
        return tuple(
            scroll.evaluate(
                "s => { const o = s.querySelector('svg').getBoundingClientRect(), b = s.getBoundingClientRect();"
                "return [(b.x + b.width / 2 - o.x) / o.width, (b.y + b.height / 2 - o.y) / o.height]; }"
            )
        )

    shown.get_by_label("larger").click()
    wide = overview.bounding_box()["width"]
    assert middle() == pytest.approx((0.5, 0.5), abs=0.02)
    scroll.focus()
    shown.keyboard.press("+")
    assert overview.bounding_box()["width"] == pytest.approx(2 * wide)
    assert middle() == pytest.approx((0.5, 0.5), abs=0.02)
    assert scroll.bounding_box()["height"] == pytest.approx(height, abs=2)
    shown.keyboard.press("-")
    assert overview.bounding_box()["width"] == pytest.approx(wide)
    shown.keyboard.press("0")
    assert scroll.bounding_box()["height"] == pytest.approx(height, abs=2)


def test_a_box_leads_to_its_close_up(shown):
    shown.locator(".overview a").nth(8).focus()
    shown.keyboard.press("Enter")
    assert shown.url.endswith("#close-9")
    figure = shown.locator("#close-9")
    assert "Most uncertain" in figure.inner_text()
    assert figure.bounding_box()["y"] < 800


_CONTRAST = """() => {
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, k) => sum + v * [.2126, .7152, .0722][k], 0);
  const numbers = color => color.match(/[\\d.]+/g).map(Number);
  const ground = one => {
    for (; one; one = one.parentElement) {
      const color = numbers(getComputedStyle(one).backgroundColor);
      if (color.length < 4 || color[3] > 0) return color;
    }
    return [255, 255, 255];
  };
  return [...document.querySelectorAll("body *:not(svg *)")]
    .filter(one => [...one.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()))
    .filter(one => one.tagName !== "SCRIPT")
    .map(one => {
      const [a, b] = [light(numbers(getComputedStyle(one).color)), light(ground(one))];
      return [(Math.max(a, b) + .05) / (Math.min(a, b) + .05), one.textContent.slice(0, 40)];
    });
}"""


def test_text_stands_out(shown):
    """WCAG 2.2, 1.4.3: at least 4.5 to 1."""
    found = shown.evaluate(_CONTRAST)
    assert len(found) > 50
    assert [each for each in found if each[0] < 4.5] == []


def test_it_fits_a_phone(browser, report):
    with watched(browser, 390, 800) as page:
        page.goto(report.as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert page.locator(".overview").bounding_box()["width"] > 340
        assert page.get_by_label("larger").bounding_box()["height"] >= 24


def test_it_prints(shown):
    shown.emulate_media(media="print")
    assert not shown.locator(".controls").is_visible()
    assert shown.locator(".overview").is_visible()
    pages = len(re.findall(rb"/Type\s*/Page\b", shown.pdf(format="A4")))
    assert 2 <= pages <= 6


def test_without_scripts_it_still_shows_all(browser, report):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(report.as_uri())
    assert not page.locator(".controls").is_visible()
    assert page.locator(".overview .mask").is_visible()
    context.close()
