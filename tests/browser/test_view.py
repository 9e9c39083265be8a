"""`tilseg view` in a real browser: what it shows is the source and the mask, pixel by pixel."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from browsing import watched
from PIL import Image
from tiny import noise, save_tiny_model
from viewing import COLS, ROWS, finished, get, serving

import tilseg
from tilseg.errors import Stopped
from tilseg.sinks.ngff import rgb
from tilseg.sinks.zarr import MaskStore
from tilseg.window import Window

_LOADED = """query => {
  const world = window.OpenSeadragon?.getViewer("picture")?.world;
  if (!world) return false;
  const items = Array.from({ length: world.getItemCount() }, (_, n) => world.getItemAt(n));
  return items.length === 2 && items.every((item) => item.getFullyLoaded())
    && items[1].source.getTileUrl(0, 0, 0).includes(query);
}"""
# One pixel of the image on one of the screen, with pixel (row, col) in the middle of the page.
_FULL_SIZE = """([row, col]) => {
  const viewer = OpenSeadragon.getViewer("picture"), image = viewer.world.getItemAt(0);
  viewer.viewport.zoomTo(image.imageToViewportZoom(1), null, true);
  viewer.viewport.panTo(image.imageToViewportCoordinates(col, row), true);
}"""
COLORS = [rgb(f"#{40 * value:02x}8040") for value in range(3)]  # of tiny models
_FRAMES = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    return finished(tmp_path_factory.mktemp("view"))


@pytest.fixture(scope="module")
def mask(result):
    """Its class values."""
    return MaskStore.open(result / "mask.zarr").read(Window(0, 0, ROWS, COLS))


@pytest.fixture
def server(result):
    with serving(result) as server:
        yield server


@pytest.fixture
def shown(page, server):
    """The page of the result, all of whose tiles are there."""
    page.goto(server.url)
    settle(page)
    return page


def settle(page, query="show=1%2C2") -> None:
    page.wait_for_function(_LOADED, arg=query)
    page.evaluate(_FRAMES)


def middle(page, row: int, col: int, rows: int = 200, cols: int = 300) -> np.ndarray:
    """What the screen shows around pixel (row, col) of the image at full size."""
    page.evaluate(_FULL_SIZE, [row, col])
    page.evaluate(_FRAMES)
    query = page.evaluate(
        'OpenSeadragon.getViewer("picture").world.getItemAt(1).source.getTileUrl(0, 0, 0)'
    )
    settle(page, query.split("?")[1])
    size = page.viewport_size
    clip = {
        "x": size["width"] // 2 - cols // 2,
        "y": size["height"] // 2 - rows // 2,
        "width": cols,
        "height": rows,
    }
    png = page.screenshot(clip=clip)
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def part(whole: np.ndarray, row: int, col: int, rows: int = 200, cols: int = 300) -> np.ndarray:
    return whole[row - rows // 2 : row + rows // 2, col - cols // 2 : col + cols // 2]


def test_full_size_is_the_source_and_the_mask_over_it(shown, mask):
    pixels = noise(ROWS, COLS)
    shown.keyboard.press("p")
    shown.keyboard.press("m")
    # Over the corner of four tiles.
    assert np.array_equal(middle(shown, 256, 512), part(pixels, 256, 512))
    shown.keyboard.press("m")
    for _ in range(5):
        shown.keyboard.press("]")
    found, values = middle(shown, 256, 512), part(mask, 256, 512)
    assert np.array_equal(found[values == 0], part(pixels, 256, 512)[values == 0])
    for value in (1, 2):
        assert (found[values == value] == COLORS[value]).all()


def test_classes_are_put_on_and_off(shown, mask):
    pixels = part(noise(ROWS, COLS), 256, 400)
    values = part(mask, 256, 400)
    shown.keyboard.press("p")
    for _ in range(5):
        shown.keyboard.press("]")
    shown.keyboard.press("2")
    settle(shown, "show=2")
    found = middle(shown, 256, 400)
    assert np.array_equal(found[values != 2], pixels[values != 2])
    assert (found[values == 2] == COLORS[2]).all()
    shown.keyboard.press("p")
    shown.check("text=class 0")
    settle(shown, "show=0%2C2")
    shown.keyboard.press("p")
    assert (middle(shown, 256, 400)[values == 0] == COLORS[0]).all()


def test_outlines_leave_the_inside_free(shown, mask):
    pixels, values = part(noise(ROWS, COLS), 256, 400), part(mask, 256, 400)
    shown.keyboard.press("p")
    shown.keyboard.press("o")
    settle(shown, "outlines=1")
    found = middle(shown, 256, 400)
    inside = np.ones(values.shape, bool)
    for axis in (0, 1):
        for step in (-2, -1, 1, 2):
            inside &= values == np.roll(values, step, axis)
    inside = inside[2:-2, 2:-2]
    assert inside.any()
    assert np.array_equal(found[2:-2, 2:-2][inside], pixels[2:-2, 2:-2][inside])
    assert not np.array_equal(found, pixels)


def test_the_pointer_tells_class_place_and_region(shown, server, mask):
    row, col = map(int, np.argwhere(mask[100:400, 100:600] == 1)[0] + 100)
    middle(shown, row, col)
    width, height = shown.viewport_size["width"], shown.viewport_size["height"]
    right = shown.evaluate("document.getElementById('panel').getBoundingClientRect().width")
    shown.mouse.move((width - right) / 2 + 0.5, height / 2 + 0.5)
    shown.wait_for_selector("#region p:has-text('region')")
    region = json.loads(get(server, f"/at.json?row={row}.5&col={col}.5")[2])["region"]["values"]
    text = shown.inner_text("#region")
    assert "class 1" in text
    assert f"region {region['label']:,}" in text
    assert f"{region['area']:,} px" in text
    assert shown.inner_text("#place") == f"x {col:,}, y {row:,} px"


def test_from_the_table_to_the_place_and_back(shown, server):
    shown.keyboard.press("t")
    shown.click("#heads button:has-text('area, px')")
    shown.wait_for_selector("th[aria-sort=descending]")
    areas = [
        int(text.replace(",", "")) for text in shown.locator("td:nth-child(3)").all_inner_texts()
    ]
    assert areas == sorted(areas, reverse=True)
    shown.click("#rows tr >> nth=3")
    shown.wait_for_selector("#rows tr[aria-selected=true]")
    label = int(shown.inner_text("tr[aria-selected=true] td").replace(",", ""))
    top, left, bottom, right = json.loads(get(server, f"/region.json?label={label}")[2])["box"]
    shown.wait_for_selector(".box")
    box = shown.evaluate(
        """() => {
          const viewer = OpenSeadragon.getViewer("picture"), image = viewer.world.getItemAt(0);
          const { x, y, width, height } = image.viewportToImageRectangle(
            viewer.getOverlayById(document.querySelector(".box")).getBounds(viewer.viewport));
          return [y, x, y + height, x + width];
        }"""
    )
    assert box == pytest.approx([top, left, bottom, right], abs=1e-6)
    bounds = shown.evaluate(
        """() => {
          const viewer = OpenSeadragon.getViewer("picture"), image = viewer.world.getItemAt(0);
          const { x, y, width, height } = image.viewportToImageRectangle(viewer.viewport.getBounds());
          return [y, x, y + height, x + width];
        }"""
    )
    assert bounds[0] < top < bottom < bounds[2]
    assert bounds[1] < left < right < bounds[3]
    shown.keyboard.press("Escape")
    assert shown.query_selector(".box") is None


def test_the_scale_is_that_of_the_image(shown):
    middle(shown, 256, 400)
    # 160 pixels of the screen are 40 um here.
    assert shown.inner_text("#scale") == "20 µm"
    assert shown.evaluate("document.getElementById('scale').style.width") == "80px"


def test_keys_move_and_zoom(shown):
    def bounds():
        return shown.evaluate(
            'Object.values(OpenSeadragon.getViewer("picture").viewport.getBounds())'
        )

    home = bounds()
    shown.keyboard.press("+")
    assert bounds()[2] == pytest.approx(home[2] / 2)
    near = bounds()
    shown.keyboard.press("ArrowRight")
    assert bounds()[0] > near[0]
    shown.keyboard.press("0")
    assert bounds() == pytest.approx(home)
    shown.keyboard.press("?")
    assert "table of regions" in shown.inner_text("dialog[open]")


def test_the_token_does_not_stay_in_the_address(shown, server):
    assert shown.url == f"http://127.0.0.1:{server.port}/"
    assert shown.evaluate("document.cookie") == ""
    # The same page again, by its cookie.
    shown.reload()
    settle(shown)


def test_a_phone_has_everything_within_reach(browser, server):
    with watched(browser, width=390, height=780) as page:
        page.goto(server.url)
        settle(page)
        assert page.is_hidden("#panel")
        page.click("#panel-toggle")
        assert page.is_visible("#opacity")
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        page.click("#table-toggle")
        page.wait_for_selector("#rows tr")
        page.click("#rows tr >> nth=2")
        page.wait_for_selector("#rows tr[aria-selected=true]")
        assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_a_run_under_way_grows_and_becomes_the_result(page, tmp_path):
    pixels = noise(ROWS, COLS)
    model = tilseg.load_model(save_tiny_model(tmp_path / "tiny.safetensors"))
    source = tilseg.open_source(pixels)
    plan = tilseg.make_plan(source, model, tile=128)
    part_done = [0.0]

    def note(progress):
        if progress.phase == "predict":
            part_done[0] = progress.done / progress.total

    with pytest.raises(Stopped):
        tilseg.run(plan, tmp_path / "x.tilseg", progress=note, stop=lambda: part_done[0] > 0.3)
    with serving(tmp_path / "x.tilseg") as server:
        page.goto(server.url)
        page.wait_for_selector("#bar-text:has-text('blocks done')")
        assert page.is_hidden("#table-toggle")
        tilseg.run(plan, tmp_path / "x.tilseg")
        page.wait_for_selector("#table-toggle", state="visible")
        page.wait_for_selector("#progress", state="hidden")
        settle(page, "show=1")
        mask = MaskStore.open(tmp_path / "x.tilseg" / "mask.zarr")
        values = part(mask.read(Window(0, 0, ROWS, COLS)), 256, 400)
        page.keyboard.press("p")
        for _ in range(5):
            page.keyboard.press("]")
        found = middle(page, 256, 400)
        assert (found[values == 1] == rgb(mask.classes[1].color)).all()
