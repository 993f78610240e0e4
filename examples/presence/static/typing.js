// Who is typing. Nobody says "I stopped": what is not said again within a moment is over.

const TELL_EVERY = 1500; // milliseconds between two tellings of our own
const OVER_AFTER = 3500; // more than two tellings, as a volatile one may get lost

export class Typing {
  #socket;
  #changed;
  #timers = new Map(); // id -> timer
  #names = new Map(); // id -> name
  #toldAt = 0;

  constructor(socket, changed) {
    this.#socket = socket;
    this.#changed = changed;
  }

  tell() {
    if (Date.now() - this.#toldAt < TELL_EVERY) return;
    this.#toldAt = Date.now();
    this.#socket.volatile.emit("typing"); // dropped, not queued, while there is no connection
  }

  told() { this.#toldAt = 0; }

  heard(id, name) {
    clearTimeout(this.#timers.get(id));
    this.#timers.set(id, setTimeout(() => this.over(id), OVER_AFTER));
    this.#names.set(id, name);
    this.#changed([...this.#names.values()]);
  }

  over(id) {
    clearTimeout(this.#timers.get(id));
    this.#timers.delete(id);
    if (this.#names.delete(id)) this.#changed([...this.#names.values()]);
  }

  clear() {
    for (const id of [...this.#names.keys()]) this.over(id);
  }
}
