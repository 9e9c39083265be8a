// Numbers as people read them: lengths, positions and the columns of the table of regions.

const METRIC = [[1e3, "km"], [1, "m"], [1e-3, "mm"], [1e-6, "µm"], [1e-9, "nm"]];
const UNITS = { um2: "µm²", m2: "m²", um: "µm", m: "m" };
const PIXELS = { area: "px", perimeter: "px", perimeter_crofton: "px", axis_major_length: "px",
  axis_minor_length: "px", equivalent_diameter_area: "px", area_convex: "px", feret_diameter_max: "px" };

export const whole = (number) => Math.round(number).toLocaleString("en");

export function shown(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "string") return value;
  if (Number.isInteger(value)) return value.toLocaleString("en");
  const size = Math.abs(value);
  return value.toLocaleString("en", { maximumFractionDigits: size >= 1000 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 4 });
}

// "area_um2" -> ["area", "µm²"]; bands are counted from 1, as on the command line.
export function titled(column) {
  const [, stem, unit] = /^(.*?)(?:_(um2|m2|um|m))?$/.exec(column);
  const title = stem.replaceAll("_", " ").replace(/-(\d+)$/, (_, n) =>
    stem.startsWith("intensity") ? `, band ${Number(n) + 1}` : ` ${n}`);
  return [title, unit ? UNITS[unit] : PIXELS[column] || ""];
}

// The longest length of 1, 2 or 5 that fits, as [text, share of the room]; units in metres.
export function niceLength(most, metres) {
  const room = metres ? most * metres : most;
  const power = 10 ** Math.floor(Math.log10(room));
  const length = [5, 2, 1].map((step) => step * power).find((each) => each <= room) || power;
  if (!metres) return [`${length.toLocaleString("en")} px`, length / room];
  const [size, unit] = METRIC.find(([each]) => length >= each * 0.999) || METRIC.at(-1);
  return [`${Number((length / size).toPrecision(3)).toLocaleString("en")} ${unit}`, length / room];
}

export function placeText(row, col, place) {
  const pixels = `x ${whole(col)}, y ${whole(row)} px`;
  if (!place || place.lon === undefined) return pixels;
  return `${pixels} · lon ${place.lon.toFixed(6)}°, lat ${place.lat.toFixed(6)}°`;
}
