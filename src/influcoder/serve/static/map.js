// Draws the map: a point a row, coloured by its influence, glyphs for its sign; drag chooses rows, the wheel zooms.
const SIZE = 3;

export async function drawMap(canvas) {
  if (canvas.dataset.drawn) return;
  canvas.dataset.drawn = "yes";
  const told = document.getElementById("map-told");
  const answer = await fetch(canvas.dataset.points);
  if (!answer.ok) {
    told.textContent = (await answer.json()).detail;
    return;
  }
  const points = await answer.json();
  const map = new PointMap(canvas, points);
  map.draw();
  canvas.dataset.ready = String(points.row.length);
  told.textContent = `${points.row.length.toLocaleString("en")} rows. ${told.textContent}`;
  for (const button of document.querySelectorAll("[data-map]"))
    button.addEventListener("click", () => map.press(button.dataset.map));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => map.draw());
}

class PointMap {
  constructor(canvas, points) {
    this.canvas = canvas;
    this.points = points;
    const scale = window.devicePixelRatio || 1;
    this.width = canvas.clientWidth;
    this.height = canvas.clientHeight;
    canvas.width = this.width * scale;
    canvas.height = this.height * scale;
    this.pen = canvas.getContext("2d");
    this.pen.setTransform(scale, 0, 0, scale, 0, 0);
    this.whole = bounds(points);
    this.box = this.whole;
    const sizes = points.score.map(Math.abs).sort((one, other) => one - other);
    this.strong = sizes[Math.floor(sizes.length * 0.99)] || 1;
    // The strongest are drawn last, on top.
    this.order = points.row.map((_, place) => place).sort((one, other) => Math.abs(points.score[one]) - Math.abs(points.score[other]));
    this.listen();
  }

  place(x, y) {
    const [left, bottom, right, top] = this.box;
    return [((x - left) / (right - left)) * this.width, (1 - (y - bottom) / (top - bottom)) * this.height];
  }

  value(px, py) {
    const [left, bottom, right, top] = this.box;
    return [left + (px / this.width) * (right - left), bottom + (1 - py / this.height) * (top - bottom)];
  }

  draw(brush) {
    const { pen, points } = this;
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    const [blue, orange, line, ink] = ["--blue", "--orange", "--line", "--ink"].map(colour);
    pen.clearRect(0, 0, this.width, this.height);
    for (const place of this.order) {
      const [x, y] = this.place(points.x[place], points.y[place]);
      if (x < -5 || y < -5 || x > this.width + 5 || y > this.height + 5) continue;
      const strength = Math.min(1, Math.abs(points.score[place]) / this.strong);
      pen.globalAlpha = 0.35 + 0.65 * strength;
      pen.fillStyle = strength < 0.15 ? line : points.score[place] > 0 ? blue : orange;
      glyph(pen, x, y, SIZE * (0.6 + strength), strength < 0.15 ? 0 : Math.sign(points.score[place]));
    }
    pen.globalAlpha = 1;
    if (brush) {
      pen.strokeStyle = ink;
      pen.strokeRect(brush[0], brush[1], brush[2] - brush[0], brush[3] - brush[1]);
    }
  }

  press(what) {
    if (what === "whole") this.box = this.whole;
    else this.zoom(what === "in" ? 0.6 : 1 / 0.6, this.width / 2, this.height / 2);
    this.draw();
  }

  zoom(by, px, py) {
    const [x, y] = this.value(px, py);
    const [left, bottom, right, top] = this.box;
    this.box = [x + (left - x) * by, y + (bottom - y) * by, x + (right - x) * by, y + (top - y) * by];
  }

  listen() {
    const { canvas } = this;
    const touching = new Map();
    let start = null;
    let apart = 0;
    const at = (event) => {
      const frame = canvas.getBoundingClientRect();
      return [event.clientX - frame.left, event.clientY - frame.top];
    };
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoom(event.deltaY > 0 ? 1.15 : 1 / 1.15, ...at(event));
      this.draw();
    }, { passive: false });
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      touching.set(event.pointerId, at(event));
      start = touching.size === 1 ? at(event) : null;
      apart = 0;
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!touching.has(event.pointerId)) return;
      touching.set(event.pointerId, at(event));
      if (touching.size === 2) {
        const [[ax, ay], [bx, by]] = [...touching.values()];
        const now = Math.hypot(ax - bx, ay - by);
        if (apart) this.zoom(apart / now, (ax + bx) / 2, (ay + by) / 2);
        apart = now;
        this.draw();
      } else if (start) this.draw([...start, ...at(event)]);
    });
    canvas.addEventListener("pointerup", (event) => {
      touching.delete(event.pointerId);
      if (!start) return;
      const end = at(event);
      if (Math.abs(end[0] - start[0]) > 4 && Math.abs(end[1] - start[1]) > 4) this.choose(start, end);
      else this.draw();
      start = null;
    });
    canvas.addEventListener("pointercancel", (event) => {
      touching.delete(event.pointerId);
      start = null;
    });
  }

  // The rows in a box become a filter of the table.
  choose(one, other) {
    const [ax, ay] = this.value(...one);
    const [bx, by] = this.value(...other);
    const box = [Math.min(ax, bx), Math.min(ay, by), Math.max(ax, bx), Math.max(ay, by)].map((edge) => edge.toPrecision(5));
    const url = new URL(location.href);
    url.searchParams.set("view", "rows");
    const kept = url.searchParams.getAll("where").filter((text) => !text.startsWith("map"));
    url.searchParams.delete("where");
    for (const text of [...kept, `map=${box.join(",")}`]) url.searchParams.append("where", text);
    const link = document.createElement("a");
    link.href = url.pathname + url.search;
    document.getElementById("page").append(link);
    window.htmx.process(link);
    link.click();
  }
}

// Up, down, or a dot: the sign is not told by colour alone.
function glyph(pen, x, y, size, sign) {
  pen.beginPath();
  if (sign === 0) pen.arc(x, y, size * 0.8, 0, 7);
  else {
    pen.moveTo(x, y - sign * size * 1.2);
    pen.lineTo(x + size * 1.1, y + sign * size * 0.9);
    pen.lineTo(x - size * 1.1, y + sign * size * 0.9);
  }
  pen.fill();
}

function bounds({ x, y }) {
  const range = (values) => {
    let [low, high] = [Infinity, -Infinity];
    for (const one of values) { low = Math.min(low, one); high = Math.max(high, one); }
    const margin = (high - low) * 0.04 || 1;
    return [low - margin, high + margin];
  };
  const [left, right] = range(x);
  const [bottom, top] = range(y);
  return [left, bottom, right, top];
}
