// Takes pieces of JavaScript from the Python tests, and answers with what they return.
//
// One connection carries one request, a JSON object, and its answer, another. A page is what
// survives between requests: its variables and its sockets, which are closed together with it.
// Bytes travel as {"$bytes": base64}. Ends when its standard input does.

import { createServer } from "node:net";

const DEADLINE = 5_000;
const AsyncFunction = (async () => {}).constructor;
const pages = new Map();

// A page has `words`, which the code of a request sees besides its own values, and `close()`.
export function answerRequests(makePage) {
  const control = createServer({ allowHalfOpen: true }, (connection) => {
    const chunks = [];
    connection.on("error", () => connection.destroy());
    connection.on("data", (chunk) => chunks.push(chunk));
    connection.on("end", async () => {
      const request = decode(Buffer.concat(chunks).toString());
      connection.end(encode(await answer(request, makePage)));
    });
  });
  control.listen(0, "127.0.0.1", () => console.log(control.address().port));
  process.stdin.on("end", () => process.exit()).resume();
  // A promise that nobody awaits any more may not end the process, which other tests need.
  process.on("unhandledRejection", (error) => console.error("nobody awaited:", error));
}

async function answer({ page: name, url, code, values }, makePage) {
  if (code === undefined) {
    await pages.get(name)?.close();
    pages.delete(name);
    return {};
  }
  if (!pages.has(name)) pages.set(name, makePage(url));
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not done after ${DEADLINE} ms`)), DEADLINE);
  });
  try {
    return { value: (await Promise.race([run(pages.get(name), code, values), late])) ?? null };
  } catch (error) {
    return { error: `${error?.stack ?? error}` };
  } finally {
    clearTimeout(timer);
  }
}

async function run(page, code, values) {
  const words = { ...page.words, ...values };
  return await new AsyncFunction(...Object.keys(words), code)(...Object.values(words));
}

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

// Words that pages have in common.

export const acked = (socket, ...args) =>
  new Promise((resolve) => socket.emit(...args, (...answer) => resolve(answer)));

export const whenConnected = (socket) =>
  new Promise((resolve, reject) => {
    socket.once("connect", () => resolve(socket));
    socket.once("connect_error", reject);
  });
