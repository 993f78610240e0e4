// What this tab remembers over a reload: who it is, and whether it only watches.
// sessionStorage belongs to one tab, so each tab can be another player.

const read = (key) => {
  try {
    return sessionStorage.getItem(`turf.${key}`) ?? "";
  } catch {
    return ""; // storage is switched off: the page works, and forgets on reload
  }
};

const write = (key, value) => {
  try {
    sessionStorage.setItem(`turf.${key}`, value);
  } catch {
    // see above
  }
};

export const session = {
  get name() { return read("name"); },
  set name(value) { write("name", value); },
  get watching() { return read("watching"); }, // a room's id
  set watching(value) { write("watching", value); },
};

// Which room, and the code of an invitation to it: in the part of the address that no server sees.
export function address() {
  const [room = "", code = ""] = location.hash.slice(1).split(".");
  return { room, code };
}

export const inviteLink = (room, code) => `${location.origin}${location.pathname}#${room}.${code}`;

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
