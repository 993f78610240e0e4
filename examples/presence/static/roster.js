// Who is online, as this tab knows it: people, each with one tab or several. Leaving takes effect
// after a moment, so that somebody who only reloads the page is not announced twice.

const GRACE = 1500; // milliseconds

export class Roster {
  #people = new Map(); // id -> {id, name, tabs: Set, timer}
  #changed;

  // `changed(people, notice)` hears each change, with a sentence where people should read of it.
  constructor(changed) { this.#changed = changed; }

  // The whole truth, after each (re)connect.
  replace(visitors) {
    this.close();
    this.#people.clear();
    for (const visitor of visitors) this.#add(visitor);
    this.#tell();
  }

  arrived(visitor) {
    const isNew = !this.#people.has(visitor.id);
    this.#add(visitor);
    this.#tell(isNew ? `${visitor.name} joined` : null);
  }

  departed({ id, tab }) {
    const person = this.#people.get(id);
    if (!person?.tabs.delete(tab)) return;
    if (person.tabs.size === 0) person.timer = setTimeout(() => this.#remove(person), GRACE);
    this.#tell();
  }

  close() {
    for (const { timer } of this.#people.values()) clearTimeout(timer);
  }

  #add({ id, name, tab }) {
    const person = this.#people.get(id) ?? { id, name, tabs: new Set() };
    clearTimeout(person.timer);
    person.tabs.add(tab);
    this.#people.set(id, person);
  }

  #remove({ id, name }) {
    this.#people.delete(id);
    this.#tell(`${name} left`);
  }

  #tell(notice = null) {
    const people = [...this.#people.values()];
    this.#changed(people.map(({ id, name, tabs }) => ({ id, name, tabs: tabs.size })), notice);
  }
}
