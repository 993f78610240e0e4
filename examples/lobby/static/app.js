// Wires the server's events to the page. The server's rooms know who is in them; this page keeps a
// copy of the one that it is in, and asks for the whole again where it might have missed something.

import { io } from "./vendor/socket.io.esm.min.js";
import { announce, notice } from "./notices.js";
import { LoginRefused, address, fetchToken, inviteLink, session } from "./session.js";
import { EVENTS, after, isSeated, received } from "./table.js";
import * as view from "./view.js";

const ANSWER_WITHIN = 8000; // milliseconds

let game = null; // of whoever is logged in

class Refused extends Error {
  constructor({ code, message }) {
    super(message);
    this.code = code;
  }
}

async function login(name) {
  view.showLoginError("");
  try {
    const token = await fetchToken(name);
    session.name = name;
    open(name, token);
  } catch (error) {
    view.showLoginError(error instanceof LoginRefused ? error.message
      : "The server cannot be reached. Is it running?");
  }
}

function open(me, token = null) {
  let room = null; // the view of the room that we are in
  let entering = null; // the id of the room that we have asked for
  let heading = "stop";
  let refusals = 0;
  const rooms = new Map(); // what there is to join, by id
  const socket = io("/games", {
    transports: ["websocket"],
    forceNew: true,
    autoConnect: false,
    reconnectionDelay: 400,
    reconnectionDelayMax: 3000,
    auth: (send) => sendToken(send),
  });

  // -- the connection --

  // Called on every attempt. A failure here must end the attempt, or it would wait for ever.
  async function sendToken(send) {
    try {
      token ??= await fetchToken(me);
      send({ token });
    } catch (error) {
      if (error instanceof LoginRefused) refused(error.message);
      else socket.io.engine?.close(); // the client comes back by itself
    }
  }

  function refused(why) {
    socket.disconnect();
    view.showConnection("refused", `The server refused the connection: ${why}`);
  }

  socket.on("connect", () => {
    refusals = 0;
    view.showConnection("connected");
    follow();
    // A session that is recovered gets its room's state by itself; a new one asks for its seat.
    if (!socket.recovered || !room) {
      room = null;
      go();
    }
  });
  socket.on("disconnect", (reason) => {
    if (reason === "io client disconnect") return; // our own doing
    view.showConnection(socket.active ? "reconnecting" : "disconnected");
  });
  socket.on("connect_error", (error) => {
    if (socket.active) { // not reached: the client tries again by itself
      view.showConnection("reconnecting");
    } else if (refusals++ === 0) { // refused: the token may be too old, so try once with a new one
      token = null;
      socket.connect();
    } else {
      refused(error.message);
    }
  });

  async function call(event, ...payload) {
    const reply = await socket.timeout(ANSWER_WITHIN).emitWithAck(event, ...payload);
    if (reply?.error) throw new Refused(reply.error);
    return reply;
  }

  // For what a button asks: what is refused is said.
  async function ask(event, ...payload) {
    try {
      return await call(event, ...payload);
    } catch (error) {
      notice(error instanceof Refused ? sentence(error) : "The server did not answer.");
      return null;
    }
  }

  // -- the list of rooms --

  async function follow() {
    const answer = await ask("room:list", { live: true });
    if (answer) listed(answer.rooms);
  }

  function listed(entries) {
    rooms.clear();
    for (const entry of entries) rooms.set(entry.room, entry);
    view.showRooms([...rooms.values()]);
  }

  socket.on("rooms", ({ all, changed = [], gone = [] }) => {
    if (all) {
      listed(all);
      return;
    }
    for (const entry of changed) rooms.set(entry.room, entry);
    for (const id of gone) rooms.delete(id);
    view.showRooms([...rooms.values()]);
  });

  // -- coming and going: the address says where we want to be --

  function go() {
    const { room: wanted, code } = address();
    if (wanted === room?.room || !socket.connected) return;
    if (room) {
      socket.emit("room:leave", { room: room.room });
      room = null;
    }
    if (wanted) enter(wanted, code);
    else view.showLobby();
  }

  async function enter(id, code) {
    if (entering === id) return;
    entering = id;
    try {
      const came = await find(id, code, session.watching === id);
      if (address().room === id) entered(came);
      else socket.emit("room:leave", { room: id }); // gone on meanwhile
    } catch (error) {
      notice(error instanceof Refused ? sentence(error) : "The server did not answer.");
      if (address().room === id) leave();
    } finally {
      entering = null;
    }
  }

  // A seat, or else a place to watch from.
  async function find(id, code, watches) {
    try {
      return await call(watches ? "room:watch" : "room:join", code ? { room: id, code } : { room: id });
    } catch (error) {
      if (error.code === "bad_invite" && code) return find(id, "", watches); // open rooms need none
      if (error.code === "already_here") return find(id, code, false); // with another tab
      if (watches || !["wrong_phase", "full"].includes(error.code)) throw error;
      notice(error.code === "full" ? "No seat is free: you watch." : "The round has begun: you watch this one.");
      return find(id, code, true);
    }
  }

  function entered(came) {
    room = received(came);
    heading = "stop";
    session.watching = isSeated(room, me) ? "" : room.room;
    if (location.hash !== `#${room.room}`) history.replaceState(null, "", `#${room.room}`);
    view.showRoom(room, me);
  }

  function leave() {
    session.watching = "";
    if (location.hash) location.hash = ""; // `go` does the rest
    else go();
  }

  function putOut(text) {
    room = null;
    notice(text);
    leave();
    view.showLobby();
  }

  // -- the room --

  socket.on("room:state", (whole) => {
    if (whole.room === address().room) entered(whole);
  });
  for (const event of EVENTS) socket.on(event, (told) => heard(event, told));

  async function heard(event, told) {
    if (told.room !== room?.room) return;
    if (event === "room:left" && told.player === me) {
      putOut(OUT[told.reason] ?? "Your seat is not held any more.");
      return;
    }
    announce(room, event, told);
    const next = after(room, event, told);
    if (next) {
      room = next;
    } else {
      const whole = await ask("room:state", { room: room.room });
      if (whole && room) room = received(whole);
    }
    if (event === "room:phase" && told.phase === "playing") heading = "stop";
    if (room) view.updateRoom(room, me);
  }

  socket.on("room:closed", (told) => {
    if (told.room === room?.room) putOut(`The room is closed: ${told.text}.`);
  });
  socket.on("cheer", ({ player, cheer }) => view.showCheer(player, cheer));

  // -- what the player does --

  view.listen({
    login,
    logout() {
      socket.disconnect();
      game = null;
      session.name = "";
      session.watching = "";
      history.replaceState(null, "", location.pathname);
      view.showLogin(false);
    },
    retry() {
      token = null;
      view.showConnection("connecting");
      socket.connect();
    },
    leave,
    async create(title, isPrivate) {
      const made = await ask("room:create", { options: { title: title || `${me}'s room` }, private: isPrivate });
      if (!made) return;
      entered(made);
    },
    playNow() {
      const free = [...rooms.values()].filter((entry) => entry.free > 0 && entry.phase !== "playing");
      const [best] = free.toSorted((a, b) => b.players - a.players);
      if (best) location.hash = best.room;
      else this.create("", false);
    },
    enter(id, watches) {
      session.watching = watches ? id : "";
      location.hash = id;
    },
    ready: (isReady) => ask(isReady ? "room:ready" : "room:unready", { room: room.room }),
    start: () => ask("room:start", { room: room.room }),
    rematch: () => ask("room:rematch", { room: room.room }),
    kick: (player) => ask("room:kick", { player, room: room.room }),
    async takeSeat() {
      const came = await ask("room:join", { room: room.room });
      if (came) entered(came);
    },
    async invite() {
      const made = await ask("room:invite", { room: room.room });
      if (made) view.showInvitation(inviteLink(room.room, made.code), made.seconds);
    },
    cheer: (word) => socket.volatile.emit("cheer", word),
    // Only what is new is sent, and nothing is kept for later: by then it would be wrong.
    steer(wanted) {
      if (room?.phase !== "playing" || !isSeated(room, me)) return false;
      if (wanted !== heading) socket.volatile.emit("steer", wanted);
      heading = wanted;
      return true;
    },
  });

  game = { go };
  view.showVisit(me);
  socket.connect();
}

const OUT = {
  kicked: "The host has put you out.",
  faulty: "What you sent made the room fail, so you are out.",
};

const SENTENCES = {
  not_found: "That room is over.",
  banned: "You were put out of that room.",
  bad_invite: "That invitation is not good any more.",
  full: "No seat is free.",
  not_enough: "It takes two to play.",
};
const sentence = ({ code, message }) => SENTENCES[code] ?? message;

addEventListener("hashchange", () => game?.go());
view.listen({ login });
if (session.name) open(session.name);
else view.showLogin(Boolean(address().room));
