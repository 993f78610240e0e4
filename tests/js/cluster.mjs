// Runs pieces of JavaScript with the official server in a cluster, for the Python tests.
//
// The argument is the URL of a Redis. Requests, pages and their values are as those of driver.mjs;
// a page may have servers, emitters and clients, which end with it.

import { createServer as createHttp } from "node:http";
import { createServer } from "node:net";
import { createAdapter } from "@socket.io/redis-adapter";
import { Emitter } from "@socket.io/redis-emitter";
import { createClient } from "redis";
import { Server } from "socket.io";
import { Manager } from "socket.io-client";

const DEADLINE = 5_000;
const AsyncFunction = (async () => {}).constructor;
const pages = new Map();

async function redis() {
  const client = createClient({ url: process.argv[2] });
  client.on("error", () => {}); // it comes back by itself
  await client.connect();
  return client;
}

class Page {
  my = {};
  ends = [];

  get words() {
    return { my: this.my, server: this.server, emitter: this.emitter, connected: this.connected, next, acked, diary };
  }

  // A server of the cluster with this key; clients are connected to it by `connected`.
  server = async (key, options = {}) => {
    const [pub, sub, http] = [await redis(), await redis(), createHttp()];
    const io = new Server(http, {
      adapter: createAdapter(pub, sub, { key, requestsTimeout: 1_000, ...options }),
      transports: ["websocket"],
    });
    await new Promise((resolve) => http.listen(0, "127.0.0.1", resolve));
    io.url = `http://127.0.0.1:${http.address().port}`;
    this.ends.push(async () => {
      await io.close();
      await Promise.all([pub.close(), sub.close()]); // after what the adapter still says
    });
    return io;
  };

  emitter = async (key, namespace = "/") => {
    const client = await redis();
    this.ends.push(() => client.close());
    return new Emitter(client, { key }, namespace);
  };

  connected = async (io, namespace = "/", auth = {}) => {
    const manager = new Manager(io.url, { transports: ["websocket"], reconnection: false });
    const socket = manager.socket(namespace, { auth });
    this.ends.unshift(() => socket.disconnect());
    await new Promise((resolve, reject) => {
      socket.once("connect", resolve);
      socket.once("connect_error", reject);
    });
    return socket;
  };

  async run(code, values) {
    const words = { ...this.words, ...values };
    return await new AsyncFunction(...Object.keys(words), code)(...Object.values(words));
  }

  async close() {
    for (const end of this.ends) await end();
  }
}

const next = (emitter, event) => new Promise((resolve) => emitter.once(event, (...args) => resolve(args)));
const acked = (socket, ...args) => new Promise((resolve) => socket.emit(...args, (...answer) => resolve(answer)));

function diary(socket) {
  const events = [];
  socket.onAny((...event) => events.push(event));
  return events;
}

// A Buffer has a toJSON of its own, which has run before the replacer sees the value.
const encode = (value) =>
  JSON.stringify(value, function (key, plain) {
    const given = this[key];
    return given instanceof Uint8Array ? { $bytes: Buffer.from(given).toString("base64") } : plain;
  });

const decode = (text) =>
  JSON.parse(text, (key, value) =>
    value?.$bytes === undefined ? value : Buffer.from(value.$bytes, "base64"));

async function answer({ page: name, code, values }) {
  if (code === undefined) {
    await pages.get(name)?.close();
    pages.delete(name);
    return {};
  }
  if (!pages.has(name)) pages.set(name, new Page());
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

const control = createServer({ allowHalfOpen: true }, (connection) => {
  const chunks = [];
  connection.on("error", () => connection.destroy());
  connection.on("data", (chunk) => chunks.push(chunk));
  connection.on("end", async () => {
    connection.end(encode(await answer(decode(Buffer.concat(chunks).toString()))));
  });
});

control.listen(0, "127.0.0.1", () => console.log(control.address().port));
process.stdin.on("end", () => process.exit()).resume();

// A promise that nobody awaits any more may not end the process, which other tests need.
process.on("unhandledRejection", (error) => console.error("nobody awaited:", error));
