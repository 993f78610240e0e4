// The official server, for the tests of our client. Prints its port; ends when its input does.

import { createServer } from "node:http";
import { Server } from "socket.io";

const http = createServer();
const io = new Server(http, {
  connectionStateRecovery: {},
  transports: ["websocket"],
  pingInterval: 400,
  pingTimeout: 300,
});

io.use((socket, next) => {
  if (socket.handshake.auth.token !== "bad") return next();
  next(Object.assign(new Error("no entry"), { data: { code: "token", details: 7 } }));
});

io.on("connection", (socket) => {
  const cut = () => socket.conn.transport.socket.terminate();
  socket.join("room");
  socket.on("echo", (...values) => values.pop()(...values));
  socket.on("who", (answer) => answer(socket.id, socket.handshake.auth, socket.recovered));
  socket.on("header", (name, answer) => answer(socket.handshake.headers[name]));
  socket.on("ask", async (answer) => answer(await socket.emitWithAck("add", 1, Buffer.from([2]))));
  socket.on("count", (from, to) => {
    for (let n = from; n < to; n++) io.to("room").emit("n", n);
  });
  // The client misses all from the second half on.
  socket.on("cut in the middle", (from, to) => {
    for (let n = from; n < to; n++) {
      if (n === (from + to) / 2) cut();
      io.to("room").emit("n", n);
    }
  });
  socket.on("cut", cut);
  socket.on("deaf", () => socket.conn.transport.socket.pause());
  socket.on("put me out", () => socket.disconnect());
});

io.of("/chat").on("connection", (socket) => {
  socket.on("where", (answer) => answer(socket.nsp.name));
});

http.listen(0, "127.0.0.1", () => console.log(http.address().port));
process.stdin.on("end", () => process.exit()).resume();
