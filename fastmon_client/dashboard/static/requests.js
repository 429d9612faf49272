// Requests to the own server. Nothing here names a host or an absolute path: the page works under any prefix.

export class Refused extends Error {
  constructor(status, text, retryAfterS) {
    super(text);
    this.status = status;
    this.retryAfterS = retryAfterS;
  }
}

const MAX_RETRY_AFTER_S = 3600;

// Seconds, from a number or a date; null without the header.
export function retryAfter(headers) {
  const value = headers.get("retry-after");
  if (!value) return null;
  const seconds = /^\d+$/.test(value.trim()) ? Number(value) : (Date.parse(value) - Date.now()) / 1000;
  return Number.isFinite(seconds) ? Math.min(MAX_RETRY_AFTER_S, Math.max(0, seconds)) : null;
}

export function refusal(answer, text = "") {
  if (answer.type === "opaqueredirect" || answer.status === 401) return new Refused(401, "Sign-in required: reload the page.", null);
  const said = answer.ok ? "The answer is not from the dashboard's server (login page or proxy?)." : `The answer was ${answer.status}${text ? `: ${text}` : "."}`;
  return new Refused(answer.status, said, retryAfter(answer.headers));
}

export async function getJson(path, signal) {
  return readJson(await fetch(path, { cache: "no-store", redirect: "manual", signal }));
}

export async function postJson(path, value) {
  const headers = { "Content-Type": "application/json", "X-Fastmon-Page": "1" };
  return readJson(await fetch(path, { method: "POST", headers, body: JSON.stringify(value), redirect: "manual" }));
}

async function readJson(answer) {
  const isJson = (answer.headers.get("content-type") ?? "").startsWith("application/json");
  const found = isJson ? await answer.json() : null;
  if (!answer.ok || !isJson) throw refusal(answer, found?.error);
  return found;
}
