// Runs pieces of JavaScript with the official client for the Python tests: see requests.mjs.

import { Manager } from "socket.io-client";
import { acked, answerRequests, whenConnected } from "./requests.mjs";

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
      acked,
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

  connected = (namespace, options) => whenConnected(this.open(namespace, options));

  refused = (namespace, options) => {
    const socket = this.open(namespace, options);
    return new Promise((resolve, reject) => {
      socket.once("connect", () => reject(new Error("connected, which should be refused")));
      socket.once("connect_error", ({ message, data }) => resolve({ message, data }));
    });
  };

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

answerRequests((url) => new Page(url));
