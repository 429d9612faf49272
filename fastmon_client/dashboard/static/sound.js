// Two short tones when an alarm begins; off until somebody turns it on. The browser wants a click before the first tone.

import { setText } from "./table.js";

const NAME = "sound";

export class Sound {
  constructor() {
    this.button = document.getElementById("sound");
    this.isOn = false;
    try {
      this.isOn = localStorage.getItem(NAME) === "on";
    } catch {
      // storage is disabled: off
    }
    this.button.addEventListener("click", () => this.turn(!this.isOn));
    this.show();
  }

  turn(isOn) {
    this.isOn = isOn;
    try {
      localStorage.setItem(NAME, isOn ? "on" : "off");
    } catch {
      // storage is disabled: the choice ends with the page
    }
    if (isOn) this.ring();
    this.show();
  }

  show() {
    this.button.setAttribute("aria-pressed", String(this.isOn));
    setText(this.button, this.isOn ? "Sound on" : "Sound off");
  }

  ring() {
    if (!this.isOn) return;
    this.context ??= new AudioContext();
    this.context.resume();
    const start = this.context.currentTime + 0.02;
    [660, 880].forEach((hz, number) => {
      const tone = this.context.createOscillator();
      const volume = this.context.createGain();
      const at = start + number * 0.22;
      tone.frequency.value = hz;
      volume.gain.setValueAtTime(0.0001, at);
      volume.gain.exponentialRampToValueAtTime(0.2, at + 0.02);
      volume.gain.exponentialRampToValueAtTime(0.0001, at + 0.2);
      tone.connect(volume).connect(this.context.destination);
      tone.start(at);
      tone.stop(at + 0.22);
    });
  }
}
