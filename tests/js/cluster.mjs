// Runs pieces of JavaScript with the official server in a cluster, for the Python tests.
//
// The argument is the URL of a Redis. A page (see requests.mjs) may have servers, emitters and
// clients, which end with it.

import { createServer as createHttp } from "node:http";
import { createAdapter } from "@socket.io/redis-adapter";
import { Emitter } from "@socket.io/redis-emitter";
import { createClient } from "redis";
import { Server } from "socket.io";
import { Manager } from "socket.io-client";
import { acked, answerRequests, whenConnected } from "./requests.mjs";

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

  connected = (io, namespace = "/", auth = {}) => {
    const manager = new Manager(io.url, { transports: ["websocket"], reconnection: false });
    const socket = manager.socket(namespace, { auth });
    this.ends.unshift(() => socket.disconnect());
    return whenConnected(socket);
  };

  async close() {
    for (const end of this.ends) await end();
  }
}

const next = (emitter, event) => new Promise((resolve) => emitter.once(event, (...args) => resolve(args)));

function diary(socket) {
  const events = [];
  socket.onAny((...event) => events.push(event));
  return events;
}

answerRequests(() => new Page());
