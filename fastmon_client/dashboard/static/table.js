// Elements that keep their place while their texts change: focus, selection and screen readers keep theirs, too.

import { visible } from "./formatting.js";

export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function setAttribute(element, name, value) {
  if (value === null || value === undefined) element.removeAttribute(name);
  else if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

// make("p", { class: "muted" }, "text", element, ...). Strings become text, never markup.
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((each) => each !== null && each !== undefined && each !== ""));
  return element;
}

// A word with a shape and a colour: neither is needed to understand the other.
export function chip(kind, text, title = null) {
  return make("span", { class: `chip ${kind}`, title }, make("i", { class: `shape ${kind}`, "aria-hidden": "true" }), make("span", {}, text));
}

// One child of *place* per item, in order; *key* is the identity of an item, *build* makes its element, *fill* updates it.
export function keep(place, items, key, build, fill) {
  const known = new Map([...place.children].map((element) => [element.dataset.key, element]));
  items.forEach((item, number) => {
    const name = key(item);
    let element = known.get(name);
    known.delete(name);
    if (!element) {
      element = build(item);
      element.dataset.key = name;
    }
    if (place.children[number] !== element) place.insertBefore(element, place.children[number] ?? null);
    fill(element, item);
  });
  for (const element of known.values()) element.remove();
}

// Columns: title, text(item); and optionally number, kind(item) (a class), link(item) (a URL), chip(item) (kind of a
// chip), detail(item) (a title), when(items) (whether the column is shown).
export class LiveTable {
  constructor(table, columns) {
    this.columns = columns;
    this.table = table;
    this.body = table.tBodies[0];
    for (const column of columns) {
      const cell = make("th", { scope: "col", role: "columnheader", class: nameOf(column, null) || null }, column.title);
      table.tHead.rows[0].append(cell);
    }
  }

  show(items, key) {
    keep(this.body, items, key, () => this.newRow(), (row, item) => this.columns.forEach((column, number) => fill(row.cells[number], column, item)));
    this.columns.forEach((column, number) => {
      const isHidden = column.when ? !column.when(items) : false;
      this.table.classList.toggle(`no-${number}`, isHidden);
      for (const row of this.table.rows) if (row.cells[number].hidden !== isHidden) row.cells[number].hidden = isHidden;
    });
  }

  newRow() {
    const row = make("tr", { role: "row" });
    this.columns.forEach((column, number) => {
      const isFirst = number === 0;
      row.append(make(isFirst ? "th" : "td", { scope: isFirst ? "row" : null, role: isFirst ? "rowheader" : "cell", "data-title": column.title }));
    });
    return row;
  }
}

const nameOf = (column, item) => [column.number ? "number" : "", column.kind ? column.kind(item) : ""].join(" ").trim();

function fill(cell, column, item) {
  const text = visible(column.text(item));
  const kind = column.chip ? column.chip(item) : "";
  const link = column.link ? column.link(item) : null;
  const drawn = `${text}\n${kind}\n${link}`;
  if (cell.drawn !== drawn) {
    cell.drawn = drawn;
    const inner = kind ? chip(kind, text) : text;
    cell.replaceChildren(link ? make("a", { href: link, "data-nav": true }, inner) : inner);
  }
  setAttribute(cell, "title", column.detail ? visible(column.detail(item)) || null : null);
  const name = nameOf(column, item);
  if (cell.className !== name) cell.className = name;
}
