// What stands beside the picture: classes, and the region under the pointer.

import { shown, titled } from "./measures.js";

const FIRST = ["area", "area_um2", "area_m2", "perimeter_um", "perimeter_m", "eccentricity", "solidity"];
const UNSAID = new Set(["class", "bbox-0", "bbox-1", "bbox-2", "bbox-3", "label"]);

export function make(tag, { text, ...attributes } = {}, ...children) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

export function swatch(color) {
  const element = make("span", { class: "swatch" });
  element.style.background = color;
  return element;
}

export function showClasses(parent, about, changed) {
  parent.replaceChildren(
    ...about.classes.map(({ value, name, color, background, fraction }, index) => {
      const box = make("input", { type: "checkbox", value, ...(index < 9 && { title: `key ${index + 1}` }) });
      box.checked = !background;
      box.addEventListener("change", changed);
      const part = fraction === null ? "" : `${(100 * fraction).toFixed(2)} %`;
      return make("label", { class: "check" }, box, swatch(color),
        make("span", { class: "name", text: name }), make("span", { class: "part", text: part }));
    }),
  );
}

export const shownClasses = (parent) =>
  [...parent.querySelectorAll("input:checked")].map((box) => box.value);

function facts(columns, values) {
  return make("dl", {}, ...columns.flatMap((name) => {
    const [title, unit] = titled(name);
    return [make("dt", { text: title }), make("dd", { text: `${shown(values[name])} ${unit}`.trim() })];
  }));
}

export function showRegion(parent, about, found, pinned) {
  const open = parent.querySelector("details")?.open;
  if (!found || (found.class === undefined && !found.region)) {
    parent.replaceChildren(make("p", { text: "Point at the picture, or tap it." }));
    return;
  }
  const value = found.region ? found.region.values.class : found.class;
  if (value === null) {
    parent.replaceChildren(make("p", { text: about.finished ? "no data" : "no data yet" }));
    return;
  }
  const { name, color } = about.classes[value] || { name: `class ${value}`, color: "#868e96" };
  const parts = [make("p", { class: "class" }, swatch(color), make("span", { class: "name", text: name }))];
  if (found.region) {
    const { values } = found.region;
    parts.push(make("p", { text: `region ${shown(values.label)}${pinned ? ", chosen" : ""}` }));
    parts.push(facts(FIRST.filter((each) => each in values), values));
    const rest = Object.keys(values).filter((each) => !FIRST.includes(each) && !UNSAID.has(each));
    const more = make("details", {}, make("summary", { text: "all measurements" }), facts(rest, values));
    more.open = Boolean(open);
    parts.push(more);
  }
  parent.replaceChildren(...parts);
}
