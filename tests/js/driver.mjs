// Runs pieces of JavaScript with the official client for the Python tests.
//
// One connection carries one request, a JSON object, and its answer, another. A page is what
// survives between requests: its variables and its sockets, which are closed together with it.
// Bytes travel as {"$bytes": base64}. Ends when its standard input does.

import { createServer } from "node:net";
import { Manager } from "socket.io-client";

const DEADLINE = 5_000;
const AsyncFunction = (async () => {}).constructor;
const pages = new Map();

class Page {
  my = {};
  sockets = [];
  manager = null;

  constructor(url) {
    this.url = url;
  }

  // What the code of a request sees besides its own values.
  get words() {
    return {
      my: this.my,
      url: this.url,
      open: this.open,
      connected: this.connected,
      refused: this.refused,
      next: (emitter, event) =>
        new Promise((resolve) => emitter.once(event, (...args) => resolve(withoutOffset(args)))),
      acked: (socket, ...args) => new Promise((resolve) => socket.emit(...args, (...answer) => resolve(answer))),
      diary: (socket) => {
        const events = [];
        socket.onAny((...event) => events.push(withoutOffset(event)));
        return events;
      },
      wire: (socket) => socket.io.engine.transport.ws,
    };
  }

  // As the client's `io` does: namespaces share a connection, a second socket of one does not.
  // `io` itself remembers connections by their address for good, and addresses are used again.
  open = (namespace = "/", { forceNew = false, ...options } = {}) => {
    const manager =
      forceNew || this.manager === null || namespace in this.manager.nsps
        ? new Manager(this.url, {
            transports: ["websocket"],
            reconnectionDelay: 10,
            reconnectionDelayMax: 50,
            ...options,
          })
        : this.manager;
    if (!forceNew) this.manager ??= manager;
    const socket = manager.socket(namespace, options);
    this.sockets.push(socket);
    return socket;
  };

  connected = async (namespace, options) => {
    const socket = this.open(namespace, options);
    await new Promise((resolve, reject) => {
      socket.once("connect", resolve);
      socket.once("connect_error", reject);
    });
    return socket;
  };

  refused = (namespace, options) => {
    const socket = this.open(namespace, options);
    return new Promise((resolve, reject) => {
      socket.once("connect", () => reject(new Error("connected, which should be refused")));
      socket.once("connect_error", ({ message, data }) => resolve({ message, data }));
    });
  };

  async run(code, values) {
    const words = { ...this.words, ...values };
    const body = new AsyncFunction(...Object.keys(words), code);
    return await body(...Object.values(words));
  }

  close() {
    for (const socket of this.sockets) {
      socket.io.reconnection(false);
      socket.disconnect();
      socket.io.engine?.transport.ws?.terminate();
    }
  }
}

// An event that the client could recover has one more argument, which it shows to the program.
const withoutOffset = (args) => (/^\d{13}-\d+$/.test(args.at(-1)) ? args.slice(0, -1) : args);

// A Buffer has a toJSON of its own, which has run before the replacer sees the value.
function encode(value) {
  return JSON.stringify(value, function (key, plain) {
    const given = this[key];
    return given instanceof Uint8Array ? { $bytes: Buffer.from(given).toString("base64") } : plain;
  });
}

function decode(text) {
  return JSON.parse(text, (key, value) =>
    value?.$bytes === undefined ? value : Buffer.from(value.$bytes, "base64"));
}

async function answer({ page: name, url, code, values }) {
  if (code === undefined) {
    pages.get(name)?.close();
    pages.delete(name);
    return {};
  }
  if (!pages.has(name)) pages.set(name, new Page(url));
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not done after ${DEADLINE} ms`)), DEADLINE);
  });
  try {
    return { value: (await Promise.race([pages.get(name).run(code, values), late])) ?? null };
  } catch (error) {
    return { error: `${error?.stack ?? error}` };
  } finally {
    clearTimeout(timer);
  }
}

const server = createServer({ allowHalfOpen: true }, (connection) => {
  const chunks = [];
  connection.on("error", () => connection.destroy());
  connection.on("data", (chunk) => chunks.push(chunk));
  connection.on("end", async () => {
    connection.end(encode(await answer(decode(Buffer.concat(chunks).toString()))));
  });
});

server.listen(0, "127.0.0.1", () => console.log(server.address().port));
process.stdin.on("end", () => process.exit()).resume();

// A promise that nobody awaits any more may not end the driver, which other tests need.
process.on("unhandledRejection", (error) => console.error("nobody awaited:", error));
