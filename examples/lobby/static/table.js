// A room as this page knows it: the whole view that the server gave, and what was told since.
// Each function takes a view and returns another one; nothing here touches the page.

const without = (people, id) => people.filter((person) => person.id !== id);
const change = (people, id, facts) => people.map((person) => (person.id === id ? { ...person, ...facts } : person));

// A JSON merge patch, RFC 7396: null takes a member out, objects are merged, all else replaces.
export function merge(target, patch) {
  if (patch === null || typeof patch !== "object" || Array.isArray(patch)) return patch;
  const result = target && typeof target === "object" && !Array.isArray(target) ? { ...target } : {};
  for (const [name, value] of Object.entries(patch)) {
    if (value === null) delete result[name];
    else result[name] = merge(result[name], value);
  }
  return result;
}

const seconds = (told) => (told.seconds === null || told.seconds === undefined
  ? null : performance.now() + told.seconds * 1000);

// A whole view as it came: what is left of it by then is counted from now on.
export const received = (view) => ({
  ...view,
  until: seconds(view),
  players: view.players.map((player) => ({ ...player, heldUntil: seconds(player) })),
});

const CHANGES = {
  "room:joined": (view, { player }) => ({
    ...view,
    players: [...without(view.players, player.id), { ...player, ready: false, connected: true }],
    spectators: without(view.spectators, player.id),
  }),
  "room:watching": (view, { player }) => ({
    ...view, spectators: [...without(view.spectators, player.id), player],
  }),
  "room:left": (view, { player }) => ({
    ...view, players: without(view.players, player), spectators: without(view.spectators, player),
  }),
  "room:dropped": (view, told) => ({
    ...view,
    players: change(view.players, told.player, { ready: false, connected: false, heldUntil: seconds(told) }),
  }),
  "room:returned": (view, { player }) => ({
    ...view, players: change(view.players, player, { connected: true, heldUntil: null }),
  }),
  "room:ready": (view, { player, ready }) => ({ ...view, players: change(view.players, player, { ready }) }),
  "room:host": (view, { host }) => ({ ...view, host }),
  "room:ready_check": (view, told) => ({ ...view, at_least: told.at_least, until: seconds(told) }),
  "room:phase": (view, told) => ({
    ...view,
    phase: told.phase,
    until: seconds(told),
    players: told.phase === "playing" ? view.players.map((player) => ({ ...player, ready: false })) : view.players,
  }),
  "room:ended": (view, told) => ({ ...view, phase: "ended", until: seconds(told) }),
  "room:patch": (view, { version, patch }) => ({ ...view, version, state: merge(view.state, patch) }),
};

export const EVENTS = Object.keys(CHANGES);

// The view after what was told. Told of another room, or told already: the same view.
// null: a patch is missing before this one, so the whole has to be asked for.
export function after(view, event, told) {
  if (told.room !== view.room) return view;
  if (event === "room:patch") {
    if (told.version <= view.version) return view;
    if (told.version !== view.version + 1) return null;
  }
  return CHANGES[event](view, told);
}

// -- asking a view --

export const nameOf = (view, id) => [...view.players, ...view.spectators].find((one) => one.id === id)?.name ?? id;
export const isSeated = (view, id) => view.players.some((player) => player.id === id);
export const colourOf = (view, id) => view.state.colours?.[id] ?? 0;
