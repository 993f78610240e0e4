// Messages on their way: kept until the server has answered, sent again after a lost connection.
// Each has an id, so the server knows a message that it gets twice.

const LIMIT = 50; // messages waiting at once
const ANSWER_WITHIN = 8000; // milliseconds

const newId = () => Array.from(crypto.getRandomValues(new Uint8Array(12)),
  (byte) => byte.toString(16).padStart(2, "0")).join("");

export class Outbox {
  #socket;
  #changed;
  #session;
  #waiting; // id -> {id, text, at}, oldest first
  #isOpen = false;

  // `changed(message, state, error)` hears "pending", "sent", "delivered" and "failed".
  constructor(socket, session, changed) {
    this.#socket = socket;
    this.#session = session;
    this.#changed = changed;
    this.#waiting = new Map(session.outbox.map((message) => [message.id, message]));
    for (const message of this.#waiting.values()) changed(message, "pending");
  }

  get isFull() { return this.#waiting.size >= LIMIT; }

  add(text) {
    const message = { id: newId(), text, at: Date.now() / 1000 };
    this.#waiting.set(message.id, message);
    this.#save();
    this.#changed(message, "pending");
    if (this.#isOpen) this.#send(message);
  }

  // Connected (again): whatever has no answer yet goes out, oldest first.
  open() {
    this.#isOpen = true;
    for (const message of this.#waiting.values()) this.#send(message);
  }

  // Disconnected: wait. Every answer still missing is taken for lost.
  close() { this.#isOpen = false; }

  // The room has it, so it is done, whether or not its own answer arrives.
  settle(id) {
    if (this.#waiting.delete(id)) this.#save();
  }

  async #send(message) {
    this.#changed(message, "sent");
    let reply;
    try {
      const { id, text } = message;
      reply = await this.#socket.timeout(ANSWER_WITHIN).emitWithAck("say", { id, text });
    } catch {
      this.#unanswered(message);
      return;
    }
    if (!this.#waiting.has(message.id)) return;
    this.settle(message.id);
    if (reply?.error) this.#changed(message, "failed", reply.error.message);
    else this.#changed({ ...message, ...reply }, "delivered");
  }

  #unanswered(message) {
    if (!this.#waiting.has(message.id)) return;
    this.#changed(message, "pending");
    if (this.#isOpen) this.#send(message); // the answer is late, so ask again
  }

  #save() { this.#session.outbox = [...this.#waiting.values()]; }
}
