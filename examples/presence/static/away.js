// Whether somebody is at this tab, and what is missed while nobody is.

const IDLE_AFTER = 120_000; // milliseconds without a touch
const TOUCHES = ["pointerdown", "pointermove", "keydown", "wheel", "focus"];

// Calls `changed(isAway)` when the tab is hidden or left alone, and when somebody is back.
export function watchAway(changed) {
  let isAway = false;
  let timer;
  function look(isTouched) {
    clearTimeout(timer);
    if (!document.hidden) timer = setTimeout(() => look(false), IDLE_AFTER);
    if (isAway !== (document.hidden || !isTouched)) changed(isAway = !isAway);
  }
  document.addEventListener("visibilitychange", () => look(true));
  for (const touch of TOUCHES) addEventListener(touch, () => look(true), { passive: true });
  look(true);
}

// What comes while the tab is away, its connection is lost, or both.
export class Missed {
  #reasons = new Set();
  #ids = [];

  leave(reason) { this.#reasons.add(reason); }

  heard(id) { if (this.#reasons.size > 0) this.#ids.push(id); }

  // The ids of what was missed, once the last reason is over.
  comeBack(reason) {
    this.#reasons.delete(reason);
    return this.#reasons.size > 0 ? [] : this.#ids.splice(0);
  }

  forget() { this.#ids = []; }
}
