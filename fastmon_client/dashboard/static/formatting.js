// Formats numbers like the terminal view. Pure.

const UNITS = ["B", "kB", "MB", "GB", "TB", "PB"];

export function size(bytes) {
  if (bytes === null || bytes === undefined) return "?";
  let amount = bytes;
  let unit = 0;
  while (amount >= 999.95 && unit < UNITS.length - 1) {
    amount /= 1000;
    unit += 1;
  }
  return `${amount.toFixed(unit === 0 ? 0 : 1)} ${UNITS[unit]}`;
}

export function age(seconds) {
  if (seconds === null || seconds === undefined) return "?";
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return `${Math.floor(whole / 86400)} d ${Math.floor((whole % 86400) / 3600)} h`;
}

// In the largest unit only: "2 min".
export const roughly = (seconds) => age(seconds).split(" ").slice(0, 2).join(" ");

export const lag = (seconds) => (seconds === null || seconds === undefined ? "-" : seconds < 0.1 ? `${Math.round(seconds * 1000)} ms` : seconds < 10 ? `${seconds.toFixed(2)} s` : age(seconds));

export const rate = (hz) => (hz >= 100 ? hz.toFixed(0) : hz.toFixed(1));

export const of = (seen, expected) => (expected === null ? `${seen}` : `${seen} / ${expected}`);

export const plural = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;

export function clock(iso) {
  const time = new Date(iso ?? NaN);
  return Number.isNaN(time.getTime()) ? "-" : time.toISOString().slice(11, 19);
}

// With the date if it is not that of *now*.
export function moment(iso, now) {
  const time = new Date(iso ?? NaN);
  if (Number.isNaN(time.getTime())) return "-";
  const text = time.toISOString();
  return now && text.slice(0, 10) !== String(now).slice(0, 10) ? `${text.slice(0, 10)} ${text.slice(11, 19)}` : text.slice(11, 19);
}

// Control and bidirectional characters become escapes, as on the terminal.
const UNPRINTABLE = /[\p{C}\u2028\u2029]/gu;
const escaped = (char) => `\\u{${char.codePointAt(0).toString(16)}}`;
export const visible = (value) => (value === null || value === undefined ? "" : String(value).replace(UNPRINTABLE, escaped));

// "3, 7-9", from ascending numbers.
export function ranges(numbers) {
  return spans(numbers.map((n) => [n, n]));
}

export function spans(pairs) {
  const parts = [];
  for (const [first, last] of pairs) {
    const before = parts.at(-1);
    if (before && first === before[1] + 1) before[1] = last;
    else parts.push([first, last]);
  }
  return parts.map(([first, last]) => (first === last ? `${first}` : `${first}-${last}`)).join(", ");
}
