// What is worth a sentence: said at the bottom of the page, for a moment.

import { nameOf } from "./table.js";

const SHOWN = 4500; // milliseconds
const AT_ONCE = 3;
const list = document.getElementById("notices");

export function notice(text) {
  const line = document.createElement("p");
  line.dataset.testid = "notice";
  line.textContent = text;
  list.append(line);
  while (list.children.length > AT_ONCE) list.firstElementChild.remove();
  setTimeout(() => line.remove(), SHOWN);
}

const REASONS = { kicked: "was put out", faulty: "was put out", lost: "did not come back in time" };

const SENTENCES = {
  "room:joined": (view, { player }) => `${player.name} takes a seat`,
  "room:watching": (view, { player }) => `${player.name} watches`,
  "room:left": (view, { player, reason }) => `${nameOf(view, player)} ${REASONS[reason] ?? "left"}`,
  "room:dropped": (view, { player, seconds }) =>
    `${nameOf(view, player)} lost the connection. The seat is held for ${Math.round(seconds)} seconds`,
  "room:returned": (view, { player }) => `${nameOf(view, player)} is back`,
  "room:host": (view, { host }) => host && `${nameOf(view, host)} is the host now`,
};

// What the view was before an event says who it is about.
export function announce(view, event, told) {
  const text = told.room === view.room && SENTENCES[event]?.(view, told);
  if (text) notice(text);
}
