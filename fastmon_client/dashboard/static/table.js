// Tables that keep their row elements while the texts change: focus, selection and screen readers keep their place.

export class LiveTable {
  constructor(table, columns) {
    this.columns = columns;
    this.body = table.tBodies[0];
    this.rows = new Map();
    const head = table.tHead.rows[0];
    for (const column of columns) {
      const cell = document.createElement("th");
      cell.scope = "col";
      cell.setAttribute("role", "columnheader");
      cell.textContent = column.title;
      if (column.number) cell.className = "number";
      head.append(cell);
    }
  }

  // One row per item, in order; *key* returns the identity of an item.
  show(items, key) {
    const seen = new Set();
    items.forEach((item, place) => {
      const name = key(item);
      seen.add(name);
      let row = this.rows.get(name);
      if (!row) {
        row = this.newRow();
        this.rows.set(name, row);
      }
      if (this.body.rows[place] !== row) this.body.insertBefore(row, this.body.rows[place] ?? null);
      this.columns.forEach((column, number) => fill(row.cells[number], column, item));
    });
    for (const [name, row] of this.rows) {
      if (!seen.has(name)) {
        row.remove();
        this.rows.delete(name);
      }
    }
  }

  newRow() {
    const row = document.createElement("tr");
    row.setAttribute("role", "row");
    this.columns.forEach((column, number) => {
      const cell = document.createElement(number === 0 ? "th" : "td");
      if (number === 0) cell.scope = "row";
      cell.setAttribute("role", number === 0 ? "rowheader" : "cell");
      cell.dataset.title = column.title;
      row.append(cell);
    });
    return row;
  }
}

function fill(cell, column, item) {
  setText(cell, column.text(item));
  const kind = [column.number ? "number" : "", column.kind ? column.kind(item) : ""].join(" ").trim();
  if (cell.className !== kind) cell.className = kind;
}

export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
