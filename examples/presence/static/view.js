// The page: shows what it is told, reports what is done, and decides nothing.

import { roomLink, roomName } from "./rooms.js";

const find = (id) => document.getElementById(id);
const page = Object.fromEntries([
  "login", "login-form", "login-name", "login-error", "room", "room-name", "headcount",
  "connection-state", "logout", "room-list", "room-form", "new-room", "online-list", "alone", "scroller", "empty", "messages", "jump", "typing", "banner", "banner-text",
  "retry", "message-form", "message-input", "counter",
].map((id) => [id, find(id)]));

const KEPT = 300; // lines of conversation on the page
const TEXT_LIMIT = 2000; // what the server takes; the counter shows when it comes near
const GROUP_WITHIN = 180; // seconds between two messages that stand together

let me = "";
let here = ""; // the room that is shown
let rooms = {}; // how many people are in each
let unread = 0;
let headcount = 0;
const lines = new Map(); // message id -> its <li>

function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text; // never HTML: names and texts are anybody's
  return element;
}

// -- people ---------------------------------------------------------------------------------

function initials(name) {
  const words = name.trim().split(/\s+/);
  const letters = words.length > 1 ? [words[0], words.at(-1)].map((word) => [...word][0]) : [...name].slice(0, 2);
  return letters.join("").toUpperCase();
}

// FNV-1a over the id: the same person has the same colour in every tab.
function hue(id) {
  let hash = 0x811c9dc5;
  for (const char of id) hash = Math.imul(hash ^ char.codePointAt(0), 0x01000193);
  return ((hash >>> 0) % 24) * 15;
}

function avatar(id, name) {
  const element = make("span", "avatar", initials(name));
  element.style.setProperty("--hue", hue(id));
  element.ariaHidden = "true";
  return element;
}

function personItem({ id, name, tabs, isAway }) {
  const item = make("li", "person");
  item.dataset.testid = "online-item";
  item.dataset.id = id;
  item.dataset.state = isAway ? "away" : "here";
  const label = make("span", "name", name);
  label.title = name;
  const facts = [id === me && "you", isAway && "away", tabs > 1 && `${tabs} tabs`].filter(Boolean);
  const words = make("span", "words");
  words.append(label, make("span", "facts", facts.join(" · ")));
  item.append(avatar(id, name), words);
  return item;
}

export function showPeople(people) {
  const sorted = people.toSorted((a, b) =>
    (b.id === me) - (a.id === me) || a.isAway - b.isAway || a.name.localeCompare(b.name));
  page["online-list"].replaceChildren(...sorted.map(personItem));
  headcount = people.length;
  page.alone.hidden = headcount !== 1;
  showHeadcount();
}

function showHeadcount() {
  const isKnown = page.room.dataset.connection === "connected";
  const count = headcount === 1 ? "1 person here" : `${headcount} people here`;
  page.headcount.textContent = headcount === 0 ? "" : isKnown ? count : `${headcount} last seen`;
}

export function showTyping(names) {
  const [first, second] = names;
  page.typing.textContent = {
    0: "",
    1: `${first} is typing`,
    2: `${first} and ${second} are typing`,
  }[names.length] ?? `${names.length} people are typing`;
}

// -- rooms ----------------------------------------------------------------------------------

function roomItem([name, count]) {
  const item = make("li");
  const link = make("a", "room-link");
  link.href = roomLink(name);
  link.dataset.testid = "room-item";
  link.dataset.room = name;
  if (name === here) link.ariaCurrent = "page";
  link.append(make("span", "name", name));
  if (count > 0) {
    const badge = make("span", "count", count);
    badge.title = count === 1 ? "1 person" : `${count} people`;
    link.append(badge);
  }
  item.append(link);
  return item;
}

// The one that is shown is in the list even if the server does not know it yet.
export function showRooms(people) {
  rooms = people;
  const all = here in rooms ? rooms : { ...rooms, [here]: 0 };
  const focused = page["room-list"].contains(document.activeElement) && document.activeElement.hash;
  page["room-list"].replaceChildren(...Object.entries(all).map(roomItem));
  if (focused) page["room-list"].querySelector(`[href="${focused}"]`)?.focus(); // as it was
}

// -- messages -------------------------------------------------------------------------------

const clock = new Intl.DateTimeFormat([], { hour: "numeric", minute: "2-digit" });
const STATES = { pending: "Waiting", delivered: "Delivered", failed: "Not sent" };

export function showMessage(message) {
  const known = lines.get(message.id);
  const item = known ?? messageItem(message);
  const isDelivered = message.state === "delivered";
  const moves = !known || (isDelivered && known.dataset.state !== "delivered");
  lines.set(message.id, item);
  if (moves) {
    markTime(item, message.at);
    place(item, isDelivered ? message.at : Infinity);
  }
  markState(item, message);
  afterAdding(message.who !== me && !known);
}

export const hasMessage = (id) => lines.has(id);

// Whether what the server remembers does not reach back to what is on the page.
export function isApartFrom(messages) {
  const isAnyKnown = [...lines.values()].some((item) => item.dataset.state === "delivered");
  return messages.length > 0 && isAnyKnown && !messages.some(({ id }) => lines.has(id));
}

function messageItem({ id, who, name, text }) {
  const item = make("li", who === me ? "message mine" : "message");
  item.dataset.testid = "message-item";
  item.dataset.id = id;
  item.dataset.who = who;
  const body = make("div", "body");
  const meta = make("p", "meta");
  meta.append(make("time"));
  if (who === me) meta.append(make("span", "mark-state"));
  body.append(make("p", "who", name), make("p", "bubble", text), meta);
  item.append(avatar(who, name), body);
  return item;
}

function markTime(item, at) {
  const time = item.querySelector("time");
  time.textContent = clock.format(at * 1000);
  time.dateTime = new Date(at * 1000).toISOString();
  item.dataset.at = at;
}

function markState(item, { state, error, text }) {
  item.dataset.state = state;
  const mark = item.querySelector(".mark-state");
  if (!mark) return;
  mark.textContent = error ? `${STATES.failed}: ${error}` : STATES[state];
  if (state === "failed") mark.after(editButton(item, text));
}

function editButton(item, text) {
  const button = make("button", "link", "Edit");
  button.type = "button";
  button.addEventListener("click", () => {
    forget(item);
    setDraft(text);
    page["message-input"].focus();
  });
  return button;
}

// In the order in which it was said; what is still on its way comes last.
function place(item, at) {
  const later = [...page.messages.children].find((other) => other !== item
    && (other.dataset.state === "pending" || Number(other.dataset.at) > at));
  page.messages.insertBefore(item, at === Infinity ? null : later ?? null);
}

function noticeItem(text) {
  const item = make("li", "notice", text);
  item.dataset.testid = "notice";
  return item;
}

export function addNotice(text) {
  const waiting = page.messages.querySelector("[data-state=pending]");
  page.messages.insertBefore(noticeItem(text), waiting);
  afterAdding(false);
}

// A quiet line above the first message that came while nobody was here.
export function markMissed(firstId, count) {
  const messages = count === 1 ? "1 message" : `${count} messages`;
  const item = noticeItem(`Back. ${messages} while you were away`);
  item.classList.add("missed");
  lines.get(firstId)?.before(item);
  afterAdding(false);
}

function forget(item) {
  lines.delete(item.dataset.id);
  item.remove();
  afterAdding(false);
}

function afterAdding(isNews) {
  const items = [...page.messages.children];
  for (const item of items.slice(0, -KEPT)) {
    lines.delete(item.dataset.id);
    item.remove();
  }
  group(items.slice(-KEPT));
  page.empty.hidden = items.length > 0;
  if (isNearEnd()) toEnd();
  else if (isNews) page.jump.hidden = false;
  if (isNews && document.hidden) showUnread(unread + 1);
}

function group(items) {
  items.forEach((item, index) => {
    const before = items[index - 1];
    const together = before?.dataset.who !== undefined && before.dataset.who === item.dataset.who
      && item.dataset.at - before.dataset.at < GROUP_WITHIN;
    item.classList.toggle("follows", together);
  });
}

// -- scrolling and the tab's title ------------------------------------------------------------

// The scroller's column is reversed, so its end is at 0 and stays in view whatever changes size.
const isNearEnd = () => page.scroller.scrollTop > -48;
const toEnd = () => { page.scroller.scrollTop = 0; };

page.scroller.addEventListener("scroll", () => {
  if (isNearEnd()) page.jump.hidden = true;
}, { passive: true });
page.jump.addEventListener("click", toEnd);

function showUnread(count) {
  unread = count;
  const title = me ? `${me} · Presence` : "Presence";
  document.title = unread ? `(${unread}) ${title}` : title;
}
document.addEventListener("visibilitychange", () => { if (!document.hidden) showUnread(0); });

// -- connection -----------------------------------------------------------------------------

const CONNECTION = {
  connecting: ["Connecting", ""],
  connected: ["Connected", ""],
  reconnecting: ["Reconnecting", "The connection is lost. What you write is kept and sent as soon as it is back."],
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
  page.room.dataset.connection = state;
  page["banner-text"].textContent = detail || text;
  showHeadcount();
  page.banner.hidden = !text;
  page.retry.hidden = state !== "refused" && state !== "disconnected";
}

// -- screens and input ------------------------------------------------------------------------

export function showLogin() {
  me = "";
  showUnread(0);
  page.room.hidden = true;
  page.login.hidden = false;
  page["login-name"].value = "";
  page["login-name"].focus();
}

export function showLoginError(text) {
  page["login-error"].textContent = text;
  page["login-name"].ariaInvalid = String(Boolean(text));
}

export function showVisit(name) {
  me = name;
  page.login.hidden = true;
  page.room.hidden = false;
  showConnection("connecting");
  setDraft("");
  if (matchMedia("(hover: hover)").matches) page["message-input"].focus(); // no keyboard popping up
}

// Nothing is known of a room at first.
export function showRoom(room) {
  here = room;
  page["room-name"].textContent = room;
  page["message-input"].placeholder = `Write to #${room}`;
  lines.clear();
  page.messages.replaceChildren();
  page.empty.hidden = false;
  page.jump.hidden = true;
  headcount = 0;
  page.alone.hidden = true;
  page["online-list"].replaceChildren();
  showRooms(rooms);
  page["room-list"].querySelector("[aria-current]").scrollIntoView({ block: "nearest", inline: "nearest" });
  showHeadcount();
  showTyping([]);
  showUnread(0);
}

export const restoreDraft = (text) => setDraft(text);

function setDraft(text) {
  page["message-input"].value = text;
  measure();
}

function measure() {
  const input = page["message-input"];
  input.style.height = "auto";
  input.style.height = `${Math.min(input.scrollHeight, 168)}px`;
  const left = TEXT_LIMIT - [...input.value].length;
  page.counter.hidden = left > 200;
  page.counter.textContent = left < 0 ? `${-left} over the limit` : `${left} left`;
  page.counter.dataset.state = left < 0 ? "over" : "near";
}

let listeners = {};
export const onLogin = (act) => { listeners.login = act; };
export const onLogout = (act) => { listeners.logout = act; };
export const onRetry = (act) => { listeners.retry = act; };
export const onTyping = (act) => { listeners.typing = act; };
export const onSend = (act) => { listeners.send = act; };

page["login-form"].addEventListener("submit", (event) => {
  event.preventDefault();
  const name = page["login-name"].value.trim().replace(/\s+/g, " ");
  if (name) listeners.login(name);
  else showLoginError("Please write a name.");
});
page.logout.addEventListener("click", () => listeners.logout());
page.retry.addEventListener("click", () => listeners.retry());

page["room-form"].addEventListener("submit", (event) => {
  event.preventDefault();
  const name = roomName(page["new-room"].value);
  page["new-room"].value = "";
  if (!name) {
    page["new-room"].focus();
    return;
  }
  page["new-room"].blur();
  location.hash = roomLink(name);
});

page["message-input"].addEventListener("input", (event) => {
  measure();
  listeners.typing(event.target.value);
});
page["message-input"].addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  page["message-form"].requestSubmit();
});
page["message-form"].addEventListener("submit", (event) => {
  event.preventDefault();
  const input = page["message-input"];
  const text = input.value.trim();
  toEnd(); // who writes wants to see it
  if (text && listeners.send(text)) {
    setDraft("");
    listeners.typing("");
  }
  input.focus();
});
