// Formats numbers like the terminal view. Pure.

const UNITS = ["B", "kB", "MB", "GB", "TB", "PB"];

export function size(bytes) {
  if (bytes === null) return "?";
  let amount = bytes;
  let unit = 0;
  while (amount >= 999.95 && unit < UNITS.length - 1) {
    amount /= 1000;
    unit += 1;
  }
  return `${amount.toFixed(unit === 0 ? 0 : 1)} ${UNITS[unit]}`;
}

export function age(seconds) {
  if (seconds === null) return "?";
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return `${Math.floor(whole / 86400)} d ${Math.floor((whole % 86400) / 3600)} h`;
}

// In the largest unit only: "2 min".
export const roughly = (seconds) => age(seconds).split(" ").slice(0, 2).join(" ");

export const lag = (seconds) => (seconds === null ? "-" : seconds < 10 ? seconds.toFixed(2) : age(seconds));

export const of = (seen, expected) => (expected === null ? `${seen}` : `${seen} / ${expected}`);

export function clock(iso) {
  const time = new Date(iso ?? NaN);
  return Number.isNaN(time.getTime()) ? "-" : time.toISOString().slice(11, 19);
}

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
