// Messages on their way: kept until the server has answered, and over a reload. The client sends
// again what gets no answer (`retries`). Each has an id, so the server knows what it gets twice.

import { newId } from "./session.js";

const LIMIT = 50; // messages waiting at once

export class Outbox {
  #socket;
  #session;
  #changed;
  #waiting; // id -> {id, room, text, at}, oldest first

  // `changed(message, state, error)` hears "pending", "delivered" and "failed".
  constructor(socket, session, changed) {
    this.#socket = socket;
    this.#session = session;
    this.#changed = changed;
    this.#waiting = new Map(session.outbox.map((message) => [message.id, message]));
    for (const message of this.#waiting.values()) this.#send(message);
  }

  get isFull() { return this.#waiting.size >= LIMIT; }

  add(room, text) {
    const message = { id: newId(), room, text, at: Date.now() / 1000 };
    this.#waiting.set(message.id, message);
    this.#save();
    this.#send(message);
  }

  // For a page that shows another room now.
  showAgain() {
    for (const message of this.#waiting.values()) this.#changed(message, "pending");
  }

  // The room has it, so it is done, whether or not its own answer arrives.
  settle(id) {
    if (this.#waiting.delete(id)) this.#save();
  }

  async #send(message) {
    const { id, room, text } = message;
    this.#changed(message, "pending");
    const reply = await this.#socket.emitWithAck("say", { id, room, text });
    this.settle(id);
    if (reply.error) this.#changed(message, "failed", reply.error.message);
    else this.#changed(reply, "delivered");
  }

  #save() { this.#session.outbox = [...this.#waiting.values()]; }
}
