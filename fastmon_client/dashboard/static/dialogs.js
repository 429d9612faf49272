// Dialogs: who acknowledges an alarm, the report for the next shift, and the keys.

import { visible } from "./formatting.js";
import { getJson } from "./requests.js";
import { make } from "./table.js";

const NAME = "shifter";

function open(dialog) {
  document.body.append(dialog);
  dialog.addEventListener("close", () => dialog.remove());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.showModal();
  return dialog;
}

function remembered() {
  try {
    return localStorage.getItem(NAME) ?? "";
  } catch {
    return "";
  }
}

function remember(name) {
  try {
    localStorage.setItem(NAME, name);
  } catch {
    // storage is disabled: the name is asked for again
  }
}

// Resolves to { by, note }, or null if cancelled. The name is remembered in this browser.
export function askForName(incident) {
  return new Promise((done) => {
    const by = make("input", { id: "ack-by", name: "by", required: true, maxlength: "60", autocomplete: "name", value: remembered() });
    const note = make("input", { id: "ack-note", name: "note", maxlength: "300", autocomplete: "off" });
    const cancel = make("button", { type: "button", class: "quiet" }, "Cancel");
    const form = make("form", { method: "dialog" },
      make("h2", { id: "ack-title" }, "Acknowledge"),
      make("p", { class: "muted" }, `${visible(incident.title)}: ${visible(incident.evidence)}`),
      make("label", { for: "ack-by" }, "Your name"), by,
      make("label", { for: "ack-note" }, "Note (optional)"), note,
      make("p", { class: "buttons" }, cancel, make("button", { type: "submit", class: "primary" }, "Acknowledge")));
    const dialog = make("dialog", { "aria-labelledby": "ack-title" }, form);
    let answer = null;
    cancel.addEventListener("click", () => dialog.close());
    form.addEventListener("submit", () => {
      answer = { by: by.value.trim(), note: note.value.trim() };
      remember(answer.by);
    });
    dialog.addEventListener("close", () => done(answer?.by ? answer : null));
    open(dialog);
    (by.value ? note : by).focus();
  });
}

// The report opens in a tab of its own (HTML), or is downloaded.
export async function askForReport() {
  if (document.getElementById("report-title")) return;
  const options = (pairs) => pairs.map(([value, title]) => make("option", { value }, visible(title)));
  const range = make("select", { id: "report-range", name: "range" }, ...options([["since=8h", "last 8 h"]]));
  const format = make("select", { id: "report-format", name: "format" }, ...options([["html", "Page, to read or print"], ["md", "Markdown, for a logbook"], ["json", "JSON"]]));
  const shifter = make("input", { id: "report-shifter", name: "shifter", maxlength: "60", autocomplete: "name", value: remembered() });
  const note = make("textarea", { id: "report-note", name: "note", rows: "4", maxlength: "4000" });
  const cancel = make("button", { type: "button", class: "quiet" }, "Cancel");
  const problem = make("p", { class: "problem", role: "alert" });
  const form = make("form", { method: "get", action: "report", target: "_blank" },
    make("h2", { id: "report-title" }, "Report for the next shift"),
    make("label", { for: "report-range" }, "Time"), range,
    make("label", { for: "report-format" }, "Form"), format,
    make("label", { for: "report-shifter" }, "Shifter (optional)"), shifter,
    make("label", { for: "report-note" }, "Note (optional)"), note, problem,
    make("p", { class: "buttons" }, cancel, make("button", { type: "submit", class: "primary" }, "Make the report")));
  const dialog = make("dialog", { "aria-labelledby": "report-title" }, form);
  cancel.addEventListener("click", () => dialog.close());
  form.addEventListener("submit", () => {
    remember(shifter.value.trim());
    setTimeout(() => dialog.close(), 0); // after the form was sent
  });
  open(dialog);
  range.focus();
  try {
    range.replaceChildren(...options((await getJson("api/report-ranges")).ranges));
  } catch (error) {
    problem.textContent = `Shifts are not known: ${error.message}`;
  }
}

export function showKeys(keys) {
  if (document.getElementById("keys-title")) return;
  const list = make("dl", { class: "keys" });
  for (const [key, what] of keys) list.append(make("dt", {}, make("kbd", {}, key)), make("dd", {}, what));
  const close = make("button", { type: "button", class: "primary" }, "Close");
  const dialog = make("dialog", { "aria-labelledby": "keys-title" }, make("h2", { id: "keys-title" }, "Keys"), list, make("p", { class: "buttons" }, close));
  close.addEventListener("click", () => dialog.close());
  open(dialog);
}
