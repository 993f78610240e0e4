// Who is in the room, from the server's presence: users, each with one meta for each of its sockets.
// The whole state comes on entering and on coming back, differences after that.

export class Roster {
  #metas = new Map(); // user -> [{name, away, ref}]
  #changed;

  // `changed(people, notices)` hears each change, with sentences where people should read of it.
  constructor(changed) { this.#changed = changed; }

  replace(state) {
    this.#metas.clear();
    for (const [id, { metas }] of Object.entries(state)) this.#metas.set(id, metas);
    this.#changed(this.#people(), []);
  }

  // A meta that changes leaves with its old `ref` and joins with a new one.
  change({ joins, leaves }) {
    const notices = [];
    for (const [id, { metas }] of Object.entries(joins)) {
      if (!this.#metas.has(id)) notices.push(`${metas[0].name} joined`);
      this.#metas.set(id, [...this.#metas.get(id) ?? [], ...metas]);
    }
    for (const [id, { metas }] of Object.entries(leaves)) {
      const gone = new Set(metas.map(({ ref }) => ref));
      const rest = (this.#metas.get(id) ?? []).filter(({ ref }) => !gone.has(ref));
      if (rest.length > 0) this.#metas.set(id, rest);
      else if (this.#metas.delete(id)) notices.push(`${metas[0].name} left`);
    }
    this.#changed(this.#people(), notices);
  }

  #people() {
    return [...this.#metas].map(([id, metas]) => (
      { id, name: metas[0].name, tabs: metas.length, isAway: metas.every(({ away }) => away) }));
  }
}
