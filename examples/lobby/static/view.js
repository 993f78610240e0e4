// The page: shows what it is told, reports what is done, and decides nothing.

import { Board } from "./board.js";
import { watchControls } from "./controls.js";
import { colourOf, isSeated } from "./table.js";

const find = (id) => document.getElementById(id);
const page = Object.fromEntries([
  "login", "login-form", "login-lead", "login-name", "login-error", "app", "leave", "mark", "title", "subtitle",
  "connection-state", "logout", "banner", "banner-text", "retry", "lobby", "play-now", "create-form",
  "room-title", "room-private", "room-list", "rooms-count", "no-rooms", "room", "players", "watchers", "cheers",
  "stage", "clock", "clock-bar", "floor", "board", "bubbles", "countdown", "panel", "panel-title", "panel-text",
  "standings", "actions", "ready", "rematch", "take-seat", "start", "invite", "invitation", "invite-link", "invite-note", "pad",
].map((id) => [id, find(id)]));

const CHEERS = ["Nice!", "Wow!", "Ouch!", "Close!", "GG!"];
const CHEER_SHOWN = 2200; // milliseconds
const PHASES = { open: "Waiting", countdown: "Starting", playing: "Playing", ended: "Finished" };

const board = new Board(page.board);
let listeners = {};
let shown = null; // the room, with who looks at it
let panelText = ""; // without the time that is left
let longest = 1; // seconds of the round, as far as was seen

export const listen = (more) => { listeners = { ...listeners, ...more }; };

function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text; // never HTML: names and titles are anybody's
  return element;
}

const initial = (name) => [...name][0].toUpperCase();

function avatar(name, colour) {
  const element = make("span", "avatar", name ? initial(name) : "");
  element.dataset.colour = colour;
  element.ariaHidden = "true";
  return element;
}

// -- screens ----------------------------------------------------------------------------------

export function showLogin(isInvited) {
  page.app.hidden = true;
  page.login.hidden = false;
  page["login-lead"].textContent = isInvited ? "You are invited to a room. Who are you?"
    : "Paint the floor. Close a loop, and all that is inside is yours.";
  page["login-name"].value = "";
  page["login-name"].focus();
}

export function showLoginError(text) {
  page["login-error"].textContent = text;
  page["login-name"].ariaInvalid = String(Boolean(text));
}

export function showVisit(me) {
  page.login.hidden = true;
  page.app.hidden = false;
  page.app.dataset.me = me;
  showConnection("connecting");
  page["room-title"].placeholder = `${me}'s room`;
}

function showScreen(name, title, subtitle) {
  for (const screen of ["lobby", "room"]) page[screen].hidden = screen !== name;
  page.leave.hidden = name !== "room";
  page.logout.hidden = page.mark.hidden = name === "room";
  page.app.dataset.screen = name;
  page.title.textContent = title;
  page.subtitle.textContent = subtitle;
  document.title = name === "room" ? `${title} · Turf` : "Turf";
}

export function showLobby() {
  shown = null;
  board.clear();
  showScreen("lobby", "Turf", `You are ${page.app.dataset.me}`);
}

const CONNECTION = {
  connecting: ["Connecting", ""],
  connected: ["Connected", ""],
  reconnecting: ["Reconnecting", "The connection is lost, and this page tries again. Meanwhile your seat is held."],
  disconnected: ["Disconnected", "The server ended the connection."],
  refused: ["Refused", "The server refused the connection."],
};

export function showConnection(state, detail = "") {
  const [label, text] = CONNECTION[state];
  const pill = page["connection-state"];
  if (pill.dataset.state !== state) { // said once, not on every attempt
    pill.dataset.state = state;
    pill.textContent = label;
  }
  page.app.dataset.connection = state;
  page["banner-text"].textContent = detail || text;
  page.banner.hidden = !text;
  page.retry.hidden = state !== "refused" && state !== "disconnected";
}

// -- the lobby --------------------------------------------------------------------------------

function seatDots({ players, seats }) {
  const dots = make("span", "dots");
  dots.title = `${players} of ${seats} seats are taken`;
  for (let seat = 0; seat < seats; seat++) dots.append(make("i", seat < players ? "taken" : ""));
  return dots;
}

function roomItem(entry) {
  const item = make("li", "room-item");
  item.dataset.testid = "room-item";
  item.dataset.room = entry.room;
  item.dataset.phase = entry.phase;
  const words = make("div", "words");
  const facts = [
    `${entry.players}/${entry.seats} players`,
    entry.spectators > 0 && `${entry.spectators} watching`,
    entry.info.host && `host ${entry.info.host}`,
  ].filter(Boolean);
  words.append(make("h3", "", entry.info.title), make("p", "facts", facts.join(" · ")));
  const phase = make("p", "phase", PHASES[entry.phase] ?? entry.phase);
  const canJoin = entry.free > 0 && entry.phase !== "playing";
  const actions = make("div", "actions");
  const watch = make("button", "quiet", "Watch");
  watch.dataset.testid = watch.dataset.act = "watch";
  const join = make("button", "secondary", "Join");
  join.dataset.testid = join.dataset.act = "join";
  join.disabled = !canJoin;
  join.title = canJoin ? "" : entry.free > 0 ? "The round is being played" : "No seat is free";
  actions.append(watch, join);
  item.append(seatDots(entry), words, phase, actions);
  return item;
}

// Where one can join first, then by name. A room that was just made says what it is in a moment.
export function showRooms(all) {
  const entries = all.filter(({ info }) => info);
  const rank = ({ phase, free }) => (phase !== "playing" && free > 0 ? 0 : 1);
  const name = ({ info }) => info.title;
  const sorted = entries.toSorted((a, b) => rank(a) - rank(b) || name(a).localeCompare(name(b)));
  replaceWhereChanged(page["room-list"], sorted.map(roomItem));
  page["rooms-count"].textContent = entries.length || "";
  page["no-rooms"].hidden = entries.length > 0;
}

// -- the room ---------------------------------------------------------------------------------

export function showRoom(room, me) {
  page.invitation.hidden = true;
  longest = 1;
  showScreen("room", room.options.title, "");
  updateRoom(room, me);
}

export function updateRoom(room, me) {
  const hadPhase = shown?.room.room === room.room ? shown.room.phase : null;
  shown = { room, me };
  page.room.dataset.phase = room.phase;
  page.room.dataset.role = isSeated(room, me) ? "player" : "spectator";
  if (hadPhase !== room.phase) {
    longest = 1;
    page.invitation.hidden = true;
  }
  showPlayers();
  showBoard();
  showClock();
  showPanel();
  showCountdown();
}

function showPlayers() {
  const { room } = shown;
  const isScored = Boolean(room.state.arena) && room.phase !== "open" && room.phase !== "countdown";
  const most = Math.max(1, ...room.players.map(({ id }) => tilesOf(id)));
  const people = isScored ? room.players.toSorted((a, b) => tilesOf(b.id) - tilesOf(a.id)) : room.players;
  const items = people.map((player) => playerItem(player, isScored, most));
  for (let seat = room.players.length; seat < room.seats; seat++) items.push(emptySeat());
  replaceWhereChanged(page.players, items);
  const names = room.spectators.map(({ name }) => name).join(", ");
  page.watchers.textContent = names && `Watching: ${names}`;
  page.subtitle.textContent = `${room.players.length}/${room.seats} players`
    + (room.spectators.length > 0 ? ` · ${room.spectators.length} watching` : "");
}

// What is as it was, which most of it is, keeps its focus and does not move.
function replaceWhereChanged(list, items) {
  items.forEach((item, index) => {
    const old = list.children[index];
    if (!old) list.append(item);
    else if (!old.isEqualNode(item)) old.replaceWith(item);
  });
  while (list.children.length > items.length) list.lastElementChild.remove();
}

const tilesOf = (id) => shown.room.state.arena?.painters[id]?.tiles ?? 0;

function playerItem(player, isScored, most) {
  const { room, me } = shown;
  const item = make("li", "player");
  item.dataset.testid = "player";
  item.dataset.id = player.id;
  item.dataset.who = player.id === me ? "me" : "other";
  item.dataset.state = !player.connected ? "lost" : player.ready ? "ready" : "here";
  const name = make("span", "name", player.name);
  name.title = player.name;
  const words = make("span", "words");
  words.append(name, make("span", "facts", factsOf(player).join(" · ")));
  item.append(avatar(player.name, colourOf(room, player.id)), words);
  if (isScored) {
    const tiles = tilesOf(player.id);
    const score = make("b", "score", tiles);
    score.dataset.testid = "score";
    const bar = make("span", "bar");
    bar.style.setProperty("--part", tiles / most);
    bar.dataset.colour = colourOf(room, player.id);
    item.append(score, bar);
  } else if (room.host === me && player.id !== me) {
    const kick = make("button", "kick", "×");
    kick.type = "button";
    kick.dataset.kick = player.id;
    kick.ariaLabel = kick.title = `Put ${player.name} out`;
    item.append(kick);
  }
  return item;
}

function factsOf(player) {
  const { room, me } = shown;
  const isWaiting = room.phase === "open" || room.phase === "countdown";
  const left = player.heldUntil && Math.ceil((player.heldUntil - performance.now()) / 1000);
  return [
    !player.connected && (left > 0 ? `lost, held ${left} s` : "lost, held"),
    player.connected && isWaiting && player.ready && "ready",
    player.id === me && "you",
    player.id === room.host && "host",
  ].filter(Boolean);
}

function emptySeat() {
  const item = make("li", "player free");
  item.append(avatar("", 0), make("span", "words", "Free seat"));
  return item;
}

function showBoard() {
  const { room, me } = shown;
  board.show(room.state.arena, room.players.map(({ id, name, connected }) => (
    { id, name, connected, isMe: id === me, colour: colourOf(room, id) })));
}

function showClock() {
  const { room } = shown;
  const isPlaying = room.phase === "playing" && room.state.arena;
  const left = isPlaying ? room.state.arena.left : 0;
  longest = Math.max(longest, left);
  page.clock.textContent = isPlaying ? left : "";
  page.clock.dataset.state = isPlaying && left <= 10 ? "hurry" : "";
  page["clock-bar"].style.setProperty("--part", left / longest);
}

function showCountdown() {
  const { room } = shown;
  const left = room.until && Math.ceil((room.until - performance.now()) / 1000);
  page.countdown.hidden = room.phase !== "countdown";
  const text = left > 0 ? String(left) : "…";
  if (page.countdown.textContent !== text) page.countdown.textContent = text;
}

function showPanel() {
  const { room, me } = shown;
  const self = room.players.find(({ id }) => id === me);
  const isHost = room.host === me;
  const isOpen = room.phase === "open";
  const isEnded = room.phase === "ended";
  page.panel.hidden = !(isOpen || isEnded);
  const there = room.players.filter(({ connected }) => connected).length;
  const enough = there >= (room.at_least ?? 2);
  page["panel-title"].textContent = isEnded ? winners() : self ? "Ready?" : "Waiting for the players";
  panelText = isEnded ? endText(self, isHost)
    : enough ? "The round starts when everybody is ready." : "It takes two to play. Invite somebody, or wait for who comes.";
  showPanelText();
  page.ready.hidden = !(isOpen && self);
  page.ready.textContent = self?.ready ? "Ready. Wait for me after all" : "I am ready";
  page.ready.ariaPressed = String(Boolean(self?.ready));
  page.start.hidden = !(isOpen && isHost && enough);
  page.rematch.hidden = !(isEnded && isHost);
  page.invite.hidden = !self || room.players.length >= room.seats;
  page["take-seat"].hidden = Boolean(self) || room.players.length >= room.seats;
  showStandings(isEnded ? room.state.standings ?? [] : []);
}

function showPanelText() {
  const closing = closesIn();
  const text = closing === null ? panelText : `${panelText} The room closes in ${closing}.`;
  if (page["panel-text"].textContent !== text) page["panel-text"].textContent = text;
}

// How long there is for a rematch, or for the first round: told when it matters.
function closesIn() {
  const { phase, until } = shown.room;
  const left = until && Math.max(0, Math.ceil((until - performance.now()) / 1000));
  if (left === null || left === undefined || (phase === "open" && left > 60)) return null;
  return `${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")}`;
}

function winners() {
  const best = (shown.room.state.standings ?? []).filter(({ place }) => place === 1);
  if (best.length === 0) return "The round is over";
  if (best.length > 1) return `A draw: ${best.map(({ name }) => name).join(" and ")}`;
  return best[0].id === shown.me ? "You win!" : `${best[0].name} wins!`;
}

function endText(self, isHost) {
  if (isHost) return "Another one? Everybody stays in the room.";
  return self ? "The host can ask for a rematch." : "There may be a rematch.";
}

function showStandings(standings) {
  page.standings.hidden = standings.length === 0;
  const all = shown.room.state.arena ? shown.room.state.arena.size ** 2 : 1;
  const most = Math.max(1, ...standings.map(({ tiles }) => tiles));
  replaceWhereChanged(page.standings, standings.map(({ id, name, colour, tiles, place }) => {
    const item = make("li", "standing");
    item.dataset.testid = "standing";
    item.dataset.id = id;
    const bar = make("span", "bar");
    bar.dataset.colour = colour;
    bar.style.setProperty("--part", tiles / most);
    item.append(make("b", "place", place), avatar(name, colour), make("span", "name", name),
      make("span", "tiles", `${tiles} ${tiles === 1 ? "tile" : "tiles"} · ${Math.round((tiles / all) * 100)} %`), bar);
    return item;
  }));
}

export async function showInvitation(link, seconds) {
  page.invitation.hidden = false;
  page["invite-link"].value = link;
  const isCopied = await navigator.clipboard?.writeText(link).then(() => true, () => false);
  page["invite-note"].textContent = `${isCopied ? "Copied. " : ""}Good for ${Math.round(seconds / 60)} minutes.`;
  page["invite-link"].select();
}

// Said above who says it; by those who watch, at the lower edge.
export function showCheer(id, word) {
  if (!shown) return;
  const place = board.placeOf(id) ?? { x: 0.5, y: 0.97 };
  const name = [...shown.room.players, ...shown.room.spectators].find((one) => one.id === id)?.name;
  const isPlayer = isSeated(shown.room, id);
  const bubble = make("span", "bubble", isPlayer ? word : `${name}: ${word}`);
  bubble.dataset.testid = "bubble";
  bubble.style.setProperty("--x", Math.min(0.9, Math.max(0.1, place.x)));
  bubble.style.setProperty("--y", Math.max(0.18, place.y));
  page.bubbles.append(bubble);
  while (page.bubbles.children.length > 8) page.bubbles.firstElementChild.remove();
  setTimeout(() => bubble.remove(), CHEER_SHOWN);
}

// What counts down by itself.
setInterval(() => {
  if (!shown) return;
  showCountdown();
  showPanelText();
  if (shown.room.players.some(({ heldUntil }) => heldUntil)) showPlayers();
}, 250);

// -- input ------------------------------------------------------------------------------------

page["login-form"].addEventListener("submit", (event) => {
  event.preventDefault();
  const name = page["login-name"].value.trim().replace(/\s+/g, " ");
  if (name) listeners.login(name);
  else showLoginError("Please write a name.");
});
page["create-form"].addEventListener("submit", (event) => {
  event.preventDefault();
  listeners.create(page["room-title"].value.trim(), page["room-private"].checked);
  page["create-form"].reset();
});
page["room-list"].addEventListener("click", (event) => {
  const { act } = event.target.dataset;
  if (act) listeners.enter(event.target.closest("[data-room]").dataset.room, act === "watch");
});
page.players.addEventListener("click", (event) => {
  const id = event.target.dataset.kick;
  if (id) listeners.kick(id);
});
page["invite-link"].addEventListener("focus", (event) => event.target.select());
page.cheers.append(...CHEERS.map((word) => make("button", "quiet", word)));
page.cheers.addEventListener("click", (event) => {
  if (event.target.matches("button")) listeners.cheer(event.target.textContent);
});

page.logout.addEventListener("click", () => listeners.logout());
page.retry.addEventListener("click", () => listeners.retry());
page.leave.addEventListener("click", () => listeners.leave());
page["play-now"].addEventListener("click", () => listeners.playNow());
page.ready.addEventListener("click", () => listeners.ready(page.ready.ariaPressed !== "true"));
page.start.addEventListener("click", () => listeners.start());
page.rematch.addEventListener("click", () => listeners.rematch());
page["take-seat"].addEventListener("click", () => listeners.takeSeat());
page.invite.addEventListener("click", () => listeners.invite());
watchControls({ stage: page.stage, pad: page.pad, steer: (heading) => listeners.steer?.(heading) ?? false });
