// The stream of snapshots, one for all tabs of a browser: a browser has few connections to a host.
//
// One tab leads: it reads the stream and passes each snapshot on to the others. If it is closed, they elect another one; if
// it is silent, the least patient one takes over. A visible tab leads rather than a hidden one, whose timers the browser slows down.

import { Refused, refusal } from "./requests.js";

const ANSWER_MS = 1000;
const ELECTION_MS = 150;
const SILENT_MS = 2500;
const STUCK_MS = 15000;
const STABLE_MS = 10000;
const FIRST_PAUSE_S = 1;
const LONGEST_PAUSE_S = 60;

const id = Math.random().toString(36).slice(2);
const rank = () => `${document.hidden ? 1 : 0}${id}`;

export class Stream {
  // *receive* gets the text of each snapshot; *fail* what is wrong, and when the next try is (as of performance.now).
  constructor(receive, fail) {
    this.receive = receive;
    this.fail = fail;
    this.name = `fastmon ${new URL(".", location.href).pathname}`;
    this.channel = new BroadcastChannel(this.name);
    this.channel.onmessage = ({ data }) => this.hear(data);
    this.leading = null;
    this.newest = null;
    this.trouble = null;
    this.failures = 0;
    this.heardAt = -Infinity;
    this.candidates = [];
    this.patience = SILENT_MS;
    addEventListener("pagehide", () => this.leave());
    addEventListener("pageshow", (event) => event.persisted && this.join());
    document.addEventListener("visibilitychange", () => !document.hidden && this.wake?.());
    setInterval(() => this.check(), 1000);
    this.join();
  }

  // If no tab has led lately, this one leads at once; else it asks for the newest snapshot.
  join() {
    if (Date.now() - this.ledAt() > SILENT_MS) {
      this.lead();
      return;
    }
    this.channel.postMessage({ asks: id });
    setTimeout(() => this.isSilent(ANSWER_MS) && this.lead(), ANSWER_MS);
  }

  // When a tab of this browser led last; they tell each other through the storage, which can be read at once.
  ledAt() {
    try {
      return Number(localStorage.getItem(this.name) ?? 0);
    } catch {
      return 0; // storage is disabled: two tabs may lead until they hear of each other
    }
  }

  leadsAt(time) {
    try {
      localStorage.setItem(this.name, String(time));
    } catch {
      // as above
    }
  }

  leave() {
    if (!this.leading) return;
    this.follow();
    this.leadsAt(0);
    this.channel.postMessage({ leaves: id });
  }

  isSilent(ms) {
    return !this.leading && performance.now() - this.heardAt > ms;
  }

  check() {
    if (this.leading && this.trouble) this.tell();
    if (this.leading && performance.now() - this.receivedAt > STUCK_MS) this.stall?.abort();
    if (this.isSilent(this.patience)) this.lead();
  }

  hear(message) {
    if (message.asks && this.leading) this.tell();
    if (message.leaves) {
      this.heardAt = -Infinity;
      this.candidates = [rank()];
      this.channel.postMessage({ stands: rank() });
      setTimeout(() => this.isSilent(1000) && rank() <= this.candidates.sort()[0] && this.lead(), ELECTION_MS);
    }
    if (message.stands) this.candidates.push(message.stands);
    if (!message.from) return;
    if (this.leading && message.from < rank()) this.follow();
    if (this.leading) return;
    this.heardAt = performance.now();
    this.patience = SILENT_MS * (1 + Math.random());
    if (message.trouble) this.fail(message.trouble.reason, performance.now() + message.trouble.inMs);
    else if (message.text) this.receive(message.text);
  }

  // To the other tabs: the newest snapshot, or what is wrong.
  tell() {
    this.leadsAt(Date.now());
    const trouble = this.trouble && { reason: this.trouble.reason, inMs: Math.max(0, this.trouble.at - performance.now()) };
    this.channel.postMessage({ from: rank(), text: this.newest, trouble });
  }

  follow() {
    this.leading?.abort();
    this.leading = null;
  }

  async lead() {
    const own = new AbortController();
    this.leading = own;
    while (!own.signal.aborted) {
      const began = performance.now();
      let problem;
      try {
        await this.read(own.signal);
        problem = new Refused(0, "The server ended the stream.", null);
      } catch (error) {
        if (own.signal.aborted) return;
        problem = error instanceof Refused ? error : new Refused(0, "The dashboard's server does not answer.", null);
      }
      if (performance.now() - began > STABLE_MS) this.failures = 0;
      await this.pause(problem, own.signal);
    }
  }

  // Growing and jittered: many pages do not come back at the same moment.
  async pause(problem, signal) {
    const growing = Math.min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** this.failures) * (0.5 + Math.random());
    const asked = problem.retryAfterS === null ? 0 : problem.retryAfterS + Math.random() * (1 + problem.retryAfterS / 5);
    const pauseMs = 1000 * Math.max(growing, asked);
    this.failures += 1;
    this.trouble = { reason: problem.message, at: performance.now() + pauseMs };
    this.fail(problem.message, this.trouble.at);
    this.tell();
    await new Promise((done) => {
      const timer = setTimeout(done, pauseMs);
      signal.addEventListener("abort", () => done(clearTimeout(timer)), { once: true });
      if (!asked && pauseMs > 5000) this.wake = () => done(clearTimeout(timer)); // somebody came back to look
    });
    this.wake = null;
  }

  async read(signal) {
    this.stall = new AbortController();
    this.receivedAt = performance.now();
    const either = AbortSignal.any([signal, this.stall.signal]);
    const answer = await fetch("events", { headers: { Accept: "text/event-stream" }, cache: "no-store", redirect: "manual", signal: either });
    if (answer.status !== 200 || !(answer.headers.get("content-type") ?? "").startsWith("text/event-stream")) {
      answer.body?.cancel();
      throw refusal(answer);
    }
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      text += value;
      this.receivedAt = performance.now();
      const blocks = text.split("\n\n");
      text = blocks.pop();
      if (blocks.length) this.take(blocks.at(-1)); // each is the whole state: only the newest counts
    }
  }

  take(block) {
    const data = block.split("\n").filter((line) => line.startsWith("data: ")).map((line) => line.slice(6)).join("\n");
    if (!data) return;
    this.newest = data;
    this.trouble = null;
    this.receive(data);
    this.tell();
  }
}
