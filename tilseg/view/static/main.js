// The page of `tilseg view`: asks the server what there is, and puts the parts together.

import { Layers, makeViewer } from "./layers.js";
import { niceLength, placeText, whole } from "./measures.js";
import { make, showClasses, showRegion, shownClasses } from "./panel.js";
import { Table } from "./table.js";

const OSD = window.OpenSeadragon;
const POLL = 2000;
const SCALE_ROOM = 160;
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const KEYS = {
  "+ −": "zoom in, zoom out",
  "0": "whole image",
  "arrows": "move",
  "m": "mask",
  "o": "outlines only",
  "[ ]": "less, more opacity",
  "1 … 9": "classes",
  "t": "table of regions",
  "p": "panel",
  "Esc": "let go of the chosen region",
};

const at = (id) => document.getElementById(id);
const ask = async (path) => {
  const answer = await fetch(path);
  return answer.ok ? answer.json() : null;
};

// The token has become a cookie, and has no place in the history of the browser.
history.replaceState(null, "", "/");

let about = await ask("/about.json");
const viewer = makeViewer(at("picture"));
const layers = new Layers(viewer, about);
let table = null;
let version = 0;
let pinned = null;
let over = null;

function fill() {
  document.title = `${about.name} - tilseg view`;
  at("name").textContent = about.name;
  at("image-row").hidden = !about.image;
  showClasses(at("classes"), about, showMask);
  showRegion(at("region"), about, null, false);
  at("table-toggle").hidden = about.regions === null;
  table = about.regions === null ? null : new Table(about, choose);
  showState(about);
}

const showMask = () =>
  layers.show("mask", new URLSearchParams({
    show: shownClasses(at("classes")).join(","),
    ...(at("outlines").checked && { outlines: "1" }),
    v: version,
  }));

function setOpacity() {
  const opacity = Number(at("opacity").value);
  at("opacity-text").textContent = `${opacity} %`;
  // Lines hide little, and are not seen when they are faint.
  const strength = at("outlines").checked ? Math.min(1, opacity / 50) : opacity / 100;
  layers.setOpacity("mask", at("mask-on").checked ? strength : 0);
}

function showOutlines() {
  showMask().then(setOpacity);
}

// What the panel and the table cover is no place for what one wants to see.
function setMargins() {
  const { width, height } = at("picture").getBoundingClientRect();
  const panel = at("panel").getBoundingClientRect();
  const below = [at("panel"), at("table")]
    .map((each) => each.getBoundingClientRect())
    .filter((each) => each.height && each.width > width / 2);
  const top = Math.min(height, ...below.map((each) => each.top));
  viewer.viewport.setMargins({ right: panel.width < width / 2 ? panel.width : 0, bottom: height - top });
  viewer.forceResize();
}

// A run in progress, or an image without small levels that is read for the first time.

function showState(state) {
  const reading = state.read < 1;
  at("progress").hidden = state.finished && !reading;
  at("bar").value = state.finished ? state.read : state.done / state.blocks;
  at("bar-text").textContent = state.finished
    ? `reading the image: ${Math.round(100 * state.read)} %`
    : `${whole(state.done)} of ${whole(state.blocks)} blocks done`;
  at("notices").replaceChildren(...state.notices.map((text) => make("li", { text })));
}

async function watch(last) {
  let state = null;
  try {
    state = await ask("/state.json");
  } catch {
    at("notices").replaceChildren(make("li", { text: "tilseg view does not answer; has it ended?" }));
  }
  if (state) {
    if (state.finished && !last.finished) {
      about = await ask("/about.json");
      fill();
    }
    showState(state);
    if (state.done !== last.done || state.finished !== last.finished) {
      version += 1;
      showMask();
    }
    if (about.image && state.read !== last.read) layers.show("image", `v=${state.read}`);
    last = state;
  }
  if (!last.finished || last.read < 1) setTimeout(watch, POLL, last);
}

// What is under the pointer. One question at a time, and always the newest.

let asked = null;
let waiting = false;

function pixelAt(position) {
  const item = layers.first;
  if (!item) return null;
  const { x, y } = item.viewportToImageCoordinates(viewer.viewport.pointFromPixel(position));
  return x >= 0 && y >= 0 && x < about.cols && y < about.rows ? { row: y, col: x } : null;
}

async function look() {
  if (waiting) return;
  waiting = true;
  while (asked) {
    const { row, col } = asked;
    asked = null;
    const found = await ask(`/at.json?row=${row.toFixed(2)}&col=${col.toFixed(2)}`);
    over = found;
    at("place").textContent = placeText(row, col, found?.place);
    if (!pinned) showRegion(at("region"), about, found, false);
  }
  waiting = false;
}

function pointTo(position) {
  const pixel = pixelAt(position);
  if (!pixel) return;
  at("place").textContent = placeText(pixel.row, pixel.col, over?.place);
  asked = pixel;
  look();
}

// The chosen region: its box in the picture, its row in the table.

const box = make("div", { class: "box" });

function pin(region) {
  viewer.removeOverlay(box);
  pinned = region;
  at("region-title").textContent = region ? "Chosen region" : "Under the pointer";
  if (!region) {
    showRegion(at("region"), about, over, false);
    return;
  }
  viewer.addOverlay({ element: box, location: rectangle(region, 0) });
  showRegion(at("region"), about, { region }, true);
  table?.show(region.values.label);
}

function rectangle({ box: [top, left, bottom, right] }, margin) {
  const more = margin * Math.max(bottom - top, right - left);
  return layers.first.imageToViewportRectangle(
    left - more, top - more, right - left + 2 * more, bottom - top + 2 * more);
}

async function choose(label) {
  const region = await ask(`/region.json?label=${label}`);
  if (!region) return;
  viewer.viewport.fitBounds(rectangle(region, 1.5));
  pin(region);
}

async function tap(position) {
  const pixel = pixelAt(position);
  if (!pixel) return;
  const found = await ask(`/at.json?row=${pixel.row.toFixed(2)}&col=${pixel.col.toFixed(2)}`);
  over = found;
  at("place").textContent = placeText(pixel.row, pixel.col, found?.place);
  pin(found?.region ?? null);
}

function showScale() {
  const item = layers.first;
  if (!item) return;
  const zoom = item.viewportToImageZoom(viewer.viewport.getZoom(true));
  const [text, share] = niceLength(SCALE_ROOM / zoom, about.metres?.[1]);
  at("scale").style.width = `${SCALE_ROOM * share}px`;
  at("scale-text").textContent = text;
}

const zoomBy = (factor) => viewer.viewport.zoomBy(factor).applyConstraints();

function panBy(right, down) {
  const { width, height } = viewer.viewport.getBounds();
  viewer.viewport.panBy(new OSD.Point(right * width / 8, down * height / 8)).applyConstraints();
}

function flip(id) {
  at(id).checked = !at(id).checked;
  at(id).dispatchEvent(new Event("change"));
}

function toggleTable() {
  if (!table) return;
  table.open = !table.open;
  at("table-toggle").setAttribute("aria-expanded", table.open);
  setMargins();
}

function togglePanel() {
  const closed = document.body.classList.toggle("closed");
  at("panel-toggle").setAttribute("aria-expanded", !closed);
  setMargins();
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || at("help").open) return;
  const actions = {
    m: () => flip("mask-on"),
    o: () => flip("outlines"),
    t: toggleTable,
    p: togglePanel,
    "?": () => at("help").showModal(),
    Escape: () => pin(null),
    "+": () => zoomBy(2),
    "=": () => zoomBy(2),
    "-": () => zoomBy(0.5),
    "0": () => viewer.viewport.goHome(),
    "[": () => at("opacity").stepDown(10),
    "]": () => at("opacity").stepUp(10),
  };
  const [right, down] = ARROWS[event.key] ?? [0, 0];
  if (right || down) {
    // Elsewhere they move a slider, or scroll.
    if (!event.target.closest("input, aside, #table")) panBy(right, down);
  } else if (actions[event.key]) {
    actions[event.key]();
    setOpacity();
  } else if (/^[1-9]$/.test(event.key)) {
    at("classes").querySelectorAll("input")[event.key - 1]?.click();
  }
}

at("keys").append(...Object.entries(KEYS).flatMap(([keys, what]) =>
  [make("dt", {}, make("kbd", { text: keys })), make("dd", { text: what })]));
at("image-on").onchange = () => layers.setOpacity("image", at("image-on").checked ? 1 : 0);
at("mask-on").onchange = setOpacity;
at("opacity").oninput = setOpacity;
at("outlines").onchange = showOutlines;
at("zoom-in").onclick = () => zoomBy(2);
at("zoom-out").onclick = () => zoomBy(0.5);
at("home").onclick = () => viewer.viewport.goHome();
at("help-open").onclick = () => at("help").showModal();
at("panel-toggle").onclick = togglePanel;
at("table-toggle").onclick = at("table-close").onclick = toggleTable;
document.addEventListener("keydown", onKey);
viewer.addHandler("update-viewport", showScale);
viewer.addHandler("canvas-click", (event) => event.quick && tap(event.position));
new OSD.MouseTracker({ element: viewer.container, moveHandler: (event) => pointTo(event.position) });
if (window.matchMedia("(max-width: 700px)").matches) togglePanel();

fill();
setOpacity();
setMargins();
window.addEventListener("resize", setMargins);
if (about.image) await layers.show("image", "v=0");
await showMask();
watch(about);
