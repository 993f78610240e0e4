// Wires the server's events to the page. Coming back is the client's and the server's work: what
// was missed arrives as if it were said now, and only a new session has to enter its room again.

import { io } from "./vendor/socket.io.esm.min.js";
import { Missed, watchAway } from "./away.js";
import { Outbox } from "./outbox.js";
import { roomOfAddress } from "./rooms.js";
import { Roster } from "./roster.js";
import { LoginRefused, fetchToken, session } from "./session.js";
import { Typing } from "./typing.js";
import * as view from "./view.js";

let visit = null; // of whoever is logged in
let isAway = false;

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

function logout() {
  visit.close();
  visit = null;
  session.clear();
  view.showLogin();
}

function open(name, token = null) {
  let room = roomOfAddress(); // what the page shows
  let entered = null; // where the server has us
  let refusals = 0;
  const socket = io({
    transports: ["websocket"],
    forceNew: true,
    autoConnect: false,
    reconnectionDelay: 500,
    reconnectionDelayMax: 4000,
    retries: Infinity, // what gets no answer is sent again, until it does
    ackTimeout: 8000,
    auth: (send) => sendToken(send),
  });

  // Called on every attempt. A failure here must end the attempt, or it would wait for ever.
  async function sendToken(send) {
    try {
      token ??= await fetchToken(name);
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

  view.showVisit(name);
  view.showRoom(room);
  const missed = new Missed();
  const typing = new Typing(socket, view.showTyping);
  const roster = new Roster((people, notices) => {
    view.showPeople(people);
    for (const notice of notices) view.addNotice(notice);
  });
  const outbox = new Outbox(socket, session, (message, state, error) => {
    if (message.room === room) view.showMessage({ ...message, who: name, name, state, error });
    else if (error) view.addNotice(`Not sent to ${message.room}: ${message.text}`);
  });

  // -- the room --

  async function enter() {
    const wanted = room;
    const reply = await socket.emitWithAck("enter", { room, away: isAway });
    if (wanted !== room) return; // gone on meanwhile
    if (reply.error) {
      view.addNotice(reply.error.message);
      return;
    }
    const isReturn = entered === room; // else all of it is from before we came
    entered = room;
    if (isReturn && view.isApartFrom(reply)) view.addNotice("Messages from while you were away may be missing");
    for (const message of reply) received(message, isReturn);
    backFrom("lost connection");
  }

  function received(message, isNews) {
    outbox.settle(message.id);
    if (isNews && message.who !== name && !view.hasMessage(message.id)) missed.heard(message.id);
    view.showMessage({ ...message, state: "delivered" });
  }

  function backFrom(reason) {
    const [first, ...others] = missed.comeBack(reason);
    if (first) view.markMissed(first, others.length + 1);
  }

  socket.on("rooms", (people) => view.showRooms(people));
  socket.on("presence_state", (where, state) => {
    if (where === room) roster.replace(state);
  });
  socket.on("presence_diff", (where, diff) => {
    if (where === room) roster.change(diff);
  });
  socket.on("typing", (where, { who, name: typist }) => {
    if (where === room && who !== name) typing.heard(who, typist); // not our own other tab
  });
  socket.on("said", (message) => {
    if (message.room !== room) return;
    received(message, true);
    typing.over(message.who);
  });

  // -- the connection --

  socket.on("connect", () => {
    refusals = 0;
    view.showConnection("connected");
    if (!socket.recovered || entered !== room) enter();
    else backFrom("lost connection");
    if (socket.recovered) socket.emit("away", isAway);
  });
  socket.on("disconnect", (reason) => {
    missed.leave("lost connection");
    typing.clear();
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

  // -- what the person does --

  view.onRetry(() => {
    token = null;
    view.showConnection("connecting");
    socket.connect();
  });
  view.onTyping((text) => {
    session.draft = text;
    if (text.trim()) typing.tell();
  });
  view.onSend((text) => {
    if (outbox.isFull) {
      view.addNotice("Too many messages are waiting. This one stays in its box until some are sent.");
      return false;
    }
    outbox.add(room, text);
    typing.told();
    return true;
  });
  visit = {
    go() {
      room = roomOfAddress();
      missed.forget();
      typing.clear();
      view.showRoom(room);
      outbox.showAgain();
      if (socket.connected) enter();
    },
    showAway() {
      if (socket.connected) socket.emit("away", isAway);
      if (isAway) missed.leave("away");
      else backFrom("away");
    },
    close() {
      socket.disconnect();
      typing.clear();
    },
  };
  if (isAway) missed.leave("away");
  socket.connect();
}

addEventListener("hashchange", () => visit?.go());
watchAway((isNowAway) => {
  isAway = isNowAway;
  visit?.showAway();
});
view.onLogin(login);
view.onLogout(logout);
if (session.name) {
  open(session.name);
  view.restoreDraft(session.draft);
} else {
  view.showLogin();
}
