// What the URL holds: which page, run and STF; filters and range. So a link shows a colleague the same.

const KEYS = ["view", "run", "stf", "q", "state", "range", "all", "kiosk", "ref"];

export class Address {
  constructor(changed) {
    this.changed = changed;
    addEventListener("popstate", () => this.changed());
    document.addEventListener("click", (event) => {
      const link = event.target.closest?.("a[data-nav]");
      if (!link || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
      event.preventDefault();
      this.go(link.getAttribute("href"));
    });
  }

  get values() {
    const found = new URLSearchParams(location.search);
    return Object.fromEntries(KEYS.map((key) => [key, found.get(key) ?? ""]));
  }

  get view() {
    const { view, run, stf } = this.values;
    if (run) return stf ? "stf" : "run";
    return ["states", "guide"].includes(view) ? view : "overview";
  }

  // The reference run stays until another one is chosen.
  go(href) {
    const before = location.href;
    const { ref } = this.values;
    const target = new URL(href, before);
    if (ref && !target.searchParams.has("ref")) target.searchParams.set("ref", ref);
    history.pushState(null, "", ref ? target : href);
    if (location.href !== before) scrollTo(0, 0);
    this.changed();
  }

  // Filters replace the entry: Back leaves the page, not the last letter.
  set(values) {
    history.replaceState(null, "", linkTo({ ...this.values, ...values }));
    this.changed();
  }
}

export function linkTo(values) {
  const found = new URLSearchParams();
  for (const key of KEYS) if (values[key]) found.set(key, values[key]);
  const text = found.toString();
  return text ? `?${text}` : "./";
}

export const runLink = (run) => linkTo({ run });
export const stfLink = (run, stf) => linkTo({ run, stf });
