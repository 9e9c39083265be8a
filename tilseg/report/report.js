"use strict";
// Layers are shown and hidden by classes of the root, so that all pictures follow at once.
const root = document.documentElement;
const controls = document.querySelector(".controls");
const scroll = document.querySelector(".scroll");
const overview = document.querySelector(".overview");
const LARGEST = 8;
let zoom = 1;

for (const box of controls.querySelectorAll("[type=checkbox]")) {
  const show = () => root.classList.toggle("no-" + box.name, !box.checked);
  box.addEventListener("change", show);
  show();
}

controls.elements.opacity.addEventListener("input", (event) =>
  root.style.setProperty("--opacity", event.target.value / 100));

function enlarge(wanted) {
  const before = zoom;
  const height = overview.getBoundingClientRect().height / before;
  zoom = Math.min(LARGEST, Math.max(1, wanted));
  const middle = (start, length) => (start + length / 2) * zoom / before - length / 2;
  const left = middle(scroll.scrollLeft, scroll.clientWidth);
  const top = middle(scroll.scrollTop, height);
  // The frame keeps its height while what is in it grows.
  const sizes = zoom > 1 ? [height + "px", height * zoom + "px", 100 * zoom + "%", "none"] : ["", "", "", ""];
  [scroll.style.height, overview.style.height, overview.style.width, overview.style.maxHeight] = sizes;
  overview.classList.toggle("enlarged", zoom > 1);
  scroll.scrollTo(left, top);
}

controls.elements.in.addEventListener("click", () => enlarge(zoom * 2));
controls.elements.out.addEventListener("click", () => enlarge(zoom / 2));
controls.elements.fit.addEventListener("click", () => enlarge(1));
scroll.addEventListener("keydown", (event) => {
  const wanted = { "+": zoom * 2, "=": zoom * 2, "-": zoom / 2, "0": 1 }[event.key];
  if (wanted !== undefined) enlarge(wanted);
});
controls.hidden = false;
