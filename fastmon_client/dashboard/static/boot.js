// Runs before the first paint, not as a module: light or dark, and what happens if the other scripts cannot be loaded.
(() => {
  const root = document.documentElement;
  root.classList.add("booted");
  if (new URLSearchParams(location.search).get("kiosk") === "1") root.classList.add("kiosk");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const stored = (area, name, value) => {
    try {
      if (value === undefined) return area().getItem(name);
      area().setItem(name, value);
    } catch {
      // storage is disabled: the value is forgotten with the page
    }
    return null;
  };
  let chosen = stored(() => localStorage, "theme");
  const isDark = () => (chosen ? chosen === "dark" : system.matches);
  const show = () => {
    root.dataset.theme = isDark() ? "dark" : "light";
    const button = document.getElementById("theme");
    if (button) button.textContent = isDark() ? "Light" : "Dark";
    document.dispatchEvent(new Event("themechange"));
  };
  show();
  system.addEventListener("change", show);

  // page.js says that it runs. Until then: reload after growing, jittered pauses, as a front may answer 429 or 502.
  const tries = Number(stored(() => sessionStorage, "loads") ?? 0);
  const pause = Math.min(60, 5 * 2 ** tries) * (0.75 + Math.random() / 2);
  const reload = setTimeout(() => {
    stored(() => sessionStorage, "loads", String(Math.min(tries + 1, 10)));
    location.reload();
  }, pause * 1000);
  document.addEventListener("pageruns", () => {
    clearTimeout(reload);
    stored(() => sessionStorage, "loads", "0");
  });
  addEventListener("error", (event) => {
    const note = document.getElementById("not-loaded");
    if (event.target instanceof HTMLScriptElement && note) {
      root.classList.add("script-missing");
      note.firstChild.data = `A script of this page could not be loaded: next try in ${Math.round(pause)} s. `;
    }
  }, true);

  document.addEventListener("DOMContentLoaded", () => {
    show();
    document.getElementById("theme").addEventListener("click", () => {
      chosen = isDark() ? "light" : "dark";
      stored(() => localStorage, "theme", chosen);
      show();
    });
  });
})();
