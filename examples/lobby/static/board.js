// Draws the floor. The server tells where things are twenty times a second; this fills in between.

const POP = 220; // milliseconds that a new tile takes to grow
const RIPPLE = 26; // milliseconds later for each tile of distance, where many change at once
const MARGIN = 0.5; // tiles around the floor, so that nobody is cut off at a wall
const PACE = { false: 150, true: 100 }; // milliseconds from tile to tile, slow and fast
const LOOK = { up: [0, -1], down: [0, 1], left: [-1, 0], right: [1, 0], stop: [0, 0] };

const isCalm = matchMedia("(prefers-reduced-motion: reduce)");

export class Board {
  #canvas;
  #context;
  #colours;
  #size = 24;
  #owners = []; // colours by tile
  #before = []; // what a tile was before it changed
  #since = []; // when it changed, or will seem to
  #painters = new Map(); // id -> {x, y, to, name, ...}, x and y as they are drawn
  #drops = new Map();
  #frame = 0;
  #drawnAt = 0;

  constructor(canvas) {
    this.#canvas = canvas;
    this.#context = canvas.getContext("2d");
    new ResizeObserver(() => this.#measure()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#readColours());
    this.#readColours();
  }

  // `people` are {id, name, colour, isMe, connected}.
  show(arena, people) {
    const now = performance.now();
    this.#size = arena?.size ?? 24;
    this.#movePainters(arena?.painters ?? {}, people);
    this.#paint(arena?.rows ?? {}, now);
    this.#drops = new Map(Object.entries(arena?.drops ?? {}));
    this.#frame ||= requestAnimationFrame((time) => this.#draw(time));
  }

  // Where somebody is, in parts of the floor; undefined for who is not on it.
  placeOf(id) {
    const painter = this.#painters.get(id);
    const all = this.#size + 2 * MARGIN;
    return painter && { x: (painter.x + 0.5 + MARGIN) / all, y: (painter.y + 0.5 + MARGIN) / all };
  }

  clear() {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    this.#owners = [];
    this.#painters.clear();
  }

  // -- what is shown --

  #movePainters(painters, people) {
    for (const id of this.#painters.keys()) if (!painters[id]) this.#painters.delete(id);
    for (const person of people) {
      const told = painters[person.id];
      if (!told) continue;
      const known = this.#painters.get(person.id) ?? { x: told.x, y: told.y };
      this.#painters.set(person.id, { ...person, ...known, ...person, to: told });
    }
  }

  // Tiles of one colour that change together ripple out from whoever has that colour.
  #paint(rows, now) {
    const isNew = this.#owners.length === 0;
    const centres = new Map([...this.#painters.values()].map(({ colour, to }) => [colour, to]));
    for (let at = 0; at < this.#size ** 2; at++) {
      const [x, y] = [at % this.#size, Math.floor(at / this.#size)];
      const owner = Number(rows[y]?.[x] ?? 0);
      if (owner === this.#owners[at]) continue;
      const centre = centres.get(owner);
      const distance = centre ? Math.hypot(centre.x - x, centre.y - y) : 0;
      this.#before[at] = this.#owners[at] ?? 0;
      this.#owners[at] = owner;
      this.#since[at] = isNew || isCalm.matches ? -Infinity : now + distance * RIPPLE;
    }
  }

  #readColours() {
    const style = getComputedStyle(document.documentElement);
    const probe = document.createElement("span");
    document.body.append(probe);
    const read = (name) => { // light-dark() and color-mix() become plain colours on an element
      probe.style.color = `var(${name})`;
      return style && getComputedStyle(probe).color;
    };
    this.#colours = {
      tiles: [0, 1, 2, 3, 4].map((number) => read(`--tile-${number}`)),
      deep: [0, 1, 2, 3, 4].map((number) => read(`--deep-${number}`)),
      grid: read("--grid"),
      ink: read("--ink"),
      paper: read("--surface"),
      bolt: read("--bolt"),
      burst: read("--burst"),
    };
    probe.remove();
  }

  #measure() {
    const ratio = Math.min(devicePixelRatio, 2);
    const width = Math.round(this.#canvas.clientWidth * ratio);
    if (width > 0 && width !== this.#canvas.width) this.#canvas.width = this.#canvas.height = width;
  }

  // -- drawing --

  #draw(time) {
    const passed = Math.min(time - this.#drawnAt, 100);
    this.#drawnAt = time;
    this.#measure();
    for (const painter of this.#painters.values()) step(painter, passed);
    const context = this.#context;
    const tile = this.#canvas.width / (this.#size + 2 * MARGIN);
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = this.#colours.tiles[0];
    context.fillRect(0, 0, this.#canvas.width, this.#canvas.height);
    context.translate(MARGIN * tile, MARGIN * tile);
    this.#drawTiles(tile, performance.now());
    for (const [at, drop] of this.#drops) this.#drawDrop(Number(at), drop, tile, time);
    const mineLast = [...this.#painters.values()].toSorted((a, b) => a.isMe - b.isMe);
    for (const painter of mineLast) this.#drawPainter(painter, tile, time);
    this.#frame = requestAnimationFrame((next) => this.#draw(next));
  }

  #drawTiles(tile, now) {
    const context = this.#context;
    const { tiles, deep, grid } = this.#colours;
    context.fillStyle = grid;
    for (let at = 0; at < this.#owners.length; at++) {
      if ((at + Math.floor(at / this.#size)) % 2) {
        context.fillRect((at % this.#size) * tile, Math.floor(at / this.#size) * tile, tile, tile);
      }
    }
    for (let at = 0; at < this.#owners.length; at++) {
      const grown = Math.min(1, Math.max(0, (now - this.#since[at]) / POP));
      if (grown < 1 && this.#before[at]) this.#drawTile(at, this.#before[at], 1, tile, tiles, deep);
      if (grown > 0 && this.#owners[at]) this.#drawTile(at, this.#owners[at], ease(grown), tile, tiles, deep);
    }
  }

  // A tile, with the side of a step where the one below is not of its colour.
  #drawTile(at, owner, scale, tile, tiles, deep) {
    const context = this.#context;
    const size = tile * scale;
    const x = (at % this.#size) * tile + (tile - size) / 2;
    const y = Math.floor(at / this.#size) * tile + (tile - size) / 2;
    context.fillStyle = tiles[owner];
    context.fillRect(x - 0.5, y - 0.5, size + 1, size + 1);
    if (scale < 1 || this.#owners[at + this.#size] === owner) return;
    context.fillStyle = deep[owner];
    context.fillRect(x - 0.5, y + tile * 0.8, size + 1, tile * 0.2 + 0.5);
  }

  #drawDrop(at, drop, tile, time) {
    const context = this.#context;
    const bob = isCalm.matches ? 0 : Math.sin(time / 260 + at) * tile * 0.06;
    context.save();
    context.translate(((at % this.#size) + 0.5) * tile, (Math.floor(at / this.#size) + 0.5) * tile + bob);
    context.scale(tile * 0.62, tile * 0.62);
    context.shadowColor = "rgb(0 0 0 / 35%)";
    context.shadowBlur = tile * 0.25;
    context.fillStyle = "#fff";
    context.beginPath();
    context.arc(0, 0, 0.86, 0, 7);
    context.fill();
    context.shadowBlur = 0;
    context.fillStyle = this.#colours[drop];
    context.fill(SIGNS[drop]);
    context.restore();
  }

  #drawPainter(painter, tile, time) {
    const context = this.#context;
    const { tiles, deep, paper, ink } = this.#colours;
    context.save();
    context.translate((painter.x + 0.5) * tile, (painter.y + 0.5) * tile);
    if (!painter.connected) context.globalAlpha = 0.45;
    if (painter.to.fast) ring(context, tile * (0.95 + 0.08 * Math.sin(time / 60)), this.#colours.bolt, tile * 0.14);
    else if (painter.isMe) ring(context, tile * (0.95 + 0.06 * Math.sin(time / 300)), ink, tile * 0.07);
    context.fillStyle = deep[painter.colour];
    circle(context, 0, tile * 0.08, tile * 0.74);
    context.fillStyle = paper;
    circle(context, 0, 0, tile * 0.74);
    context.fillStyle = tiles[painter.colour];
    circle(context, 0, 0, tile * 0.6);
    const [lookX, lookY] = LOOK[painter.to.heading] ?? LOOK.stop;
    for (const side of [-1, 1]) {
      const [x, y] = [side * 0.24 + lookX * 0.14, lookY * 0.14 - 0.05];
      context.fillStyle = "#fff";
      circle(context, x * tile, y * tile, tile * 0.19);
      context.fillStyle = "#14181d";
      circle(context, (x + lookX * 0.07) * tile, (y + lookY * 0.07) * tile, tile * 0.1);
    }
    context.globalAlpha = painter.connected ? 1 : 0.6;
    this.#drawName(painter, tile);
    context.restore();
  }

  #drawName(painter, tile) {
    const context = this.#context;
    const size = Math.max(tile * 0.52, 11 * Math.min(devicePixelRatio, 2));
    const above = painter.y < 2 ? 1 : -1;
    context.font = `650 ${size}px system-ui, sans-serif`;
    context.textAlign = "center";
    context.textBaseline = "middle";
    const name = painter.name.length > 12 ? `${painter.name.slice(0, 11)}…` : painter.name;
    const half = context.measureText(name).width / 2;
    const here = (painter.x + 0.5) * tile; // the name stays on the floor
    const shift = Math.max(half + 2 - here, 0) - Math.max(here + half + 2 - this.#size * tile, 0);
    context.lineWidth = size * 0.28;
    context.lineJoin = "round";
    context.strokeStyle = this.#colours.paper;
    context.strokeText(name, shift, above * tile * 1.3);
    context.fillStyle = this.#colours.ink;
    context.fillText(name, shift, above * tile * 1.3);
  }
}

const SIGNS = {
  bolt: new Path2D("M0.12 -0.62 L-0.42 0.1 H-0.04 L-0.14 0.62 L0.42 -0.14 H0.04 Z"),
  burst: new Path2D(star(8, 0.6, 0.28)),
};

function star(points, outer, inner) {
  const corners = Array.from({ length: points * 2 }, (_, number) => {
    const [angle, reach] = [number * Math.PI / points, number % 2 ? inner : outer];
    return `${Math.sin(angle) * reach} ${-Math.cos(angle) * reach}`;
  });
  return `M${corners.join("L")}Z`;
}

// Towards where the server has it, at its pace; far behind, at once.
function step(painter, passed) {
  const [dx, dy] = [painter.to.x - painter.x, painter.to.y - painter.y];
  const distance = Math.hypot(dx, dy);
  const reach = (passed / PACE[painter.to.fast]) * (distance > 1.2 ? 1.6 : 1.02);
  const part = distance > 3 || distance <= reach ? 1 : reach / distance;
  painter.x += dx * part;
  painter.y += dy * part;
}

const ease = (part) => 1 - (1 - part) ** 3;

function circle(context, x, y, radius) {
  context.beginPath();
  context.arc(x, y, radius, 0, 7);
  context.fill();
}

function ring(context, radius, colour, width) {
  context.strokeStyle = colour;
  context.lineWidth = width;
  context.beginPath();
  context.arc(0, 0, radius, 0, 7);
  context.stroke();
}
