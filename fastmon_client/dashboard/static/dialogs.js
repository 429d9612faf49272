// Dialogs: who acknowledges an alarm, and the keys.

import { visible } from "./formatting.js";
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
      try {
        localStorage.setItem(NAME, answer.by);
      } catch {
        // storage is disabled: the name is asked for again
      }
    });
    dialog.addEventListener("close", () => done(answer?.by ? answer : null));
    open(dialog);
    (by.value ? note : by).focus();
  });
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
