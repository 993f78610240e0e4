// Wires the server's events to the page. Everything is learnt again on each connect, so a lost
// connection costs nothing but the time it was away.

import { io } from "./vendor/socket.io.esm.min.js";
import { Outbox } from "./outbox.js";
import { Roster } from "./roster.js";
import { LoginRefused, fetchToken, session } from "./session.js";
import { Typing } from "./typing.js";
import * as view from "./view.js";

let leave = () => {}; // closes the room that this tab is in

async function login(name) {
  view.showLoginError("");
  try {
    const token = await fetchToken(name);
    session.name = name;
    enter(name, token);
  } catch (error) {
    view.showLoginError(error instanceof LoginRefused ? error.message
      : "The server cannot be reached. Is it running?");
  }
}

function logout() {
  leave();
  session.clear();
  view.showLogin();
}

function enter(name, token = null) {
  leave();
  let refusals = 0;
  const socket = io({
    transports: ["websocket"],
    forceNew: true,
    autoConnect: false,
    reconnectionDelay: 500,
    reconnectionDelayMax: 4000,
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

  view.showRoom(name);
  const roster = new Roster((people, notice) => {
    view.showPeople(people);
    if (notice) view.addNotice(notice);
  });
  const typing = new Typing(socket, view.showTyping);
  const outbox = new Outbox(socket, session, (message, state, error) =>
    view.showMessage({ ...message, who: name, name, state, error }));

  socket.on("welcome", ({ visitors, messages }) => {
    if (view.isApartFrom(messages)) view.addNotice("Messages from while you were away may be missing");
    for (const message of messages) received(message);
    roster.replace(visitors);
    outbox.open();
  });
  socket.on("arrived", (visitor) => roster.arrived(visitor));
  socket.on("departed", (visitor) => roster.departed(visitor));
  socket.on("typing", (visitor) => {
    if (visitor.id !== name) typing.heard(visitor); // not our own other tab
  });
  socket.on("said", (message) => {
    received(message);
    typing.over(message.who);
  });
  function received(message) {
    outbox.settle(message.id);
    view.showMessage({ ...message, state: "delivered" });
  }

  socket.on("connect", () => {
    refusals = 0;
    view.showConnection("connected");
  });
  socket.on("disconnect", (reason) => {
    outbox.close();
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
    outbox.add(text);
    typing.told();
    return true;
  });
  leave = () => {
    socket.disconnect();
    roster.close();
    typing.clear();
  };
  socket.connect();
}

view.onLogin(login);
view.onLogout(logout);
if (session.name) {
  enter(session.name);
  view.restoreDraft(session.draft);
} else {
  view.showLogin();
}
