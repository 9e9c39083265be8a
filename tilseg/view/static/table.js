// The table of regions, a page of rows at a time; the server sorts.

import { make } from "./panel.js";
import { shown, titled, whole } from "./measures.js";

export class Table {
  #about;
  #choose;
  #parts = {};
  #by = "label";
  #down = false;
  #start = 0;
  #page = { total: 0, rows: [] };
  #chosen = null;

  // choose(label): called when a row is chosen.
  constructor(about, choose) {
    this.#about = about;
    this.#choose = choose;
    for (const id of ["table", "heads", "rows", "table-count", "table-before", "table-after"])
      this.#parts[id] = document.getElementById(id);
    this.#parts["table-before"].onclick = () => this.load(Math.max(0, this.#start - this.#size));
    this.#parts["table-after"].onclick = () => this.load(this.#start + this.#size);
  }

  #size = 100;

  get open() {
    return !this.#parts.table.hidden;
  }

  set open(open) {
    this.#parts.table.hidden = !open;
    if (open) this.#chosen ? this.show(this.#chosen) : this.load(0);
  }

  async load(start, around) {
    const query = new URLSearchParams({ by: this.#by, start });
    if (this.#down) query.set("down", "1");
    if (around) query.set("around", around);
    const answer = await fetch(`/regions.json?${query}`);
    if (!answer.ok) return;
    this.#page = await answer.json();
    this.#start = this.#page.start;
    this.#draw();
  }

  // Mark a region, and turn to its page.
  async show(label) {
    this.#chosen = label;
    if (!this.open) return;
    if (!this.#page.rows.some((row) => row.label === label)) await this.load(0, label);
    else this.#draw();
    this.#parts.rows.querySelector("[aria-selected=true]")?.scrollIntoView({ block: "nearest" });
  }

  #draw() {
    const { columns, classes } = this.#about;
    this.#parts.heads.replaceChildren(...columns.map((column) => this.#head(column)));
    this.#parts.rows.replaceChildren(...this.#page.rows.map((row) => {
      const cells = columns.map((column) => make("td", {
        text: column === "class" ? classes[row.class]?.name ?? row.class : shown(row[column]),
      }));
      const element = make("tr", { tabindex: 0, "aria-selected": row.label === this.#chosen }, ...cells);
      element.onclick = () => this.#choose(row.label);
      element.onkeydown = (event) => event.key === "Enter" && this.#choose(row.label);
      return element;
    }));
    const last = this.#start + this.#page.rows.length;
    this.#parts["table-count"].textContent =
      `regions ${whole(this.#start + 1)} to ${whole(last)} of ${whole(this.#page.total)}`;
    this.#parts["table-before"].disabled = this.#start === 0;
    this.#parts["table-after"].disabled = last >= this.#page.total;
  }

  #head(column) {
    const [title, unit] = titled(column);
    const sorted = column === this.#by;
    const button = make("button", {
      text: `${title}${unit && `, ${unit}`}${sorted ? (this.#down ? " ▾" : " ▴") : ""}`,
    });
    button.onclick = () => {
      // Numbers are asked for from the largest on, first.
      this.#down = sorted ? !this.#down : !["label", "class"].includes(column);
      this.#by = column;
      this.load(0);
    };
    const order = this.#down ? "descending" : "ascending";
    return make("th", { scope: "col", ...(sorted && { "aria-sort": order }) }, button);
  }
}
