// The keys. None works while somebody types, or with a modifier.

import { askForReport, showKeys } from "./dialogs.js";

const RANGES = { 1: "15m", 2: "1h", 3: "8h", 4: "24h" };

export const KEYS = [
  ["?", "Show the keys"],
  ["/", "Filter the runs"],
  ["j, k", "Next run, previous run"],
  ["Enter", "Open the run"],
  ["Esc", "Back to the overview"],
  ["o, s, g", "Overview, states, guide"],
  ["a", "Acknowledge the first alarm"],
  ["m", "All runs, or the newest only"],
  ["h", "Hand over: report for the next shift"],
  ["1 to 4", "Last 15 min, 1 h, 8 h, 24 h"],
  ["t", "Light or dark"],
];

export function listenToKeys({ address, runs, alarms }) {
  document.getElementById("keys").addEventListener("click", () => showKeys(KEYS));
  document.getElementById("report").addEventListener("click", askForReport);
  const actions = {
    "?": () => showKeys(KEYS),
    "/": () => {
      if (address.view !== "overview") address.go("./");
      document.getElementById("filter").focus();
    },
    j: () => runs.move(1),
    k: () => runs.move(-1),
    h: () => askForReport(),
    o: () => address.go("./"),
    s: () => address.go("?view=states"),
    g: () => address.go("?view=guide"),
    a: () => alarms.acknowledgeFirst(),
    m: () => address.set({ all: address.values.all ? "" : "1" }),
    t: () => document.getElementById("theme").click(),
    Escape: () => address.view !== "overview" && address.go("./"),
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || document.querySelector("dialog[open]")) return;
    if (event.target.closest("input, select, textarea")) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    const range = RANGES[event.key];
    const action = range ? () => address.set({ range: range === "15m" ? "" : range }) : actions[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  });
}
