// What this tab remembers: its name, its draft, and the messages it has not yet got rid of.
// sessionStorage belongs to one tab, so each tab can be another person and a reload stays logged in.

const read = (key, otherwise) => {
  try {
    return JSON.parse(sessionStorage.getItem(`presence.${key}`)) ?? otherwise;
  } catch {
    return otherwise; // storage is switched off, or holds something else
  }
};

const write = (key, value) => {
  try {
    sessionStorage.setItem(`presence.${key}`, JSON.stringify(value));
  } catch {
    // Switched off or full: the page still works, it only forgets on reload.
  }
};

export const newId = () => Array.from(crypto.getRandomValues(new Uint8Array(12)),
  (byte) => byte.toString(16).padStart(2, "0")).join("");

export const session = {
  get name() { return read("name", ""); },
  set name(value) { write("name", value); },
  get draft() { return read("draft", ""); },
  set draft(value) { write("draft", value); },
  get outbox() { return read("outbox", []); },
  set outbox(value) { write("outbox", value); },
  clear() {
    this.name = "";
    this.draft = "";
    this.outbox = [];
  },
};

// The server looked at the name and said no, which is not the same as not being reached.
export class LoginRefused extends Error {}

// A development login: any name gets a token. A real product asks its own login for one.
export async function fetchToken(name) {
  const response = await fetch("/dev/token", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ name }),
  });
  const body = await response.json().catch(() => ({}));
  if (response.ok) return body.token;
  const message = body.error?.message ?? `The server answered ${response.status}.`;
  if (response.status < 500) throw new LoginRefused(message);
  throw new Error(message);
}
