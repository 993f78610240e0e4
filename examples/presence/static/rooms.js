// Which room: the address says it, so links can be shared and the back button goes back.

const HOME = "lobby";

// What the server takes for a room's name: words with dashes between them.
export const roomName = (text) => (text.toLowerCase().match(/[\p{L}\p{N}_]+/gu) ?? [])
  .join("-").slice(0, 24).replace(/-$/, "");

export const roomLink = (name) => `#${encodeURIComponent(name)}`;

export function roomOfAddress() {
  try {
    return roomName(decodeURIComponent(location.hash)) || HOME;
  } catch {
    return HOME; // the address has a % that stands for nothing
  }
}
