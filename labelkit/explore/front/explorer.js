/* The explorer of labelkit: which priors learn which object, while one drags it.

   labelkitExplorer.mount(element, scene, image, ask, options) draws `scene` (as labelkit/explore/state.py holds it) into
   `element`, and asks `ask(question)`, a promise of an answer (labelkit/explore/question.py), after every change.
   options: {rules, priors, similarities, scenes, own, url, changed}. Returns a function that takes it all down again.
   element.labelkit = {state(), answer(), settled(), swept(), painted} is for tests and measurements. */
(() => {
"use strict";

const FIELDS = ["size", "priors", "objects", "rules", "chosen", "panel_rule", "heat"];
const MOST_RULES = 6, MOST_OBJECTS = 200, LONGEST = 800;  // px of a picture's longer side
const REACH = 16;             // px that an object is shifted for its curve
const QUIET = 150;            // ms without a change, after which curves are asked for and the sentence is said
const NEW_SIDE = 12, FINGER = 15, AWAY = 17;  // px: a new object; half of what a finger hits; from a box to its handles
const LOOKS = [["blue", ""], ["red", "6 3"], ["green", "7 2 2 2"], ["purple", "2 2"], ["orange", ""], ["sky", "6 3"]];
const CIVIDIS = [[0, 34, 78], [18, 53, 112], [59, 73, 108], [87, 93, 109], [112, 113, 115], [138, 134, 120],
                 [165, 156, 116], [195, 179, 105], [225, 204, 85], [254, 232, 56]];
const SVG = "http://www.w3.org/2000/svg";
let mounted = 0;

/* ------------------------------------------------------------------------------------------ state and address */

const written = numbers => numbers.map(number => String(+number.toFixed(4))).join(",");
const numbersOf = text => text.split(",").map(word => {
  if (word.trim() === "" || !Number.isFinite(+word)) throw new Error(`numbers with commas between them are expected, not "${text}"`);
  return +word;
});

function readPriors(text) {
  if (!/^[\d.]/.test(text)) return text;
  const [laid, ratios] = text.split(":"), [strides, scale] = laid.split("x");
  return {strides: numbersOf(strides), scale: scale ? numbersOf(scale)[0] : null, ratios: ratios ? numbersOf(ratios) : [1]};
}

function writePriors(priors) {
  if (typeof priors === "string") return priors;
  const ratios = written(priors.ratios ?? [1]), anchors = priors.scale !== null && priors.scale !== undefined;
  return written(priors.strides) + (anchors ? `x${priors.scale}` + (ratios === "1" ? "" : `:${ratios}`) : "");
}

/* What stands behind the # of an address, as the fields of a scene that it names. */
function readState(text) {
  const found = {}, listed = value => value.split(";").filter(one => one);
  for (const [name, value] of new URLSearchParams(text.replace(/^#/, ""))) {
    if (name === "size") found.size = numbersOf(value).map(Math.round);
    else if (name === "priors") found.priors = readPriors(value);
    else if (name === "objects") found.objects = listed(value).map(numbersOf);
    else if (name === "rules") found.rules = listed(value);
    else if (name === "chosen") found.chosen = value === "" ? null : numbersOf(value)[0];
    else if (FIELDS.includes(name)) found[name] = value || null;
  }
  return found;
}

function writeState(state) {
  const fields = {size: written(state.size), priors: writePriors(state.priors), objects: state.objects.map(written).join(";"),
                  rules: state.rules.join(";"), chosen: state.chosen, panel_rule: state.panel_rule, heat: state.heat};
  const quoted = value => encodeURIComponent(value).replace(/%2C/g, ",").replace(/%3B/g, ";").replace(/%3A/g, ":")
    .replace(/%3D/g, "=").replace(/%20/g, "+");
  return Object.entries(fields).filter(([, value]) => value !== null && value !== undefined)
    .map(([name, value]) => `${name}=${quoted(value)}`).join("&");
}

/* A scene with every field, and none that contradicts another. */
function whole(scene) {
  const state = {size: [128, 128], priors: "course-anchors", objects: [], rules: ["max_iou"], chosen: null,
                 panel_rule: null, heat: null};
  for (const name of FIELDS) if (scene[name] !== undefined) state[name] = scene[name];
  state.objects = state.objects.map(box => [...box]);
  state.rules = [...state.rules];
  const count = state.objects.length;
  state.chosen = count ? Math.min(Math.max(state.chosen ?? 0, 0), count - 1) : null;
  if (!state.rules.includes(state.panel_rule)) state.panel_rule = state.rules[0] ?? null;
  return state;
}

/* ------------------------------------------------------------------------------------------------ small things */

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children);
  return node;
}

function draw(tag, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  put(node, attributes);
  node.append(...children);
  return node;
}

function put(node, attributes) {
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
}

function choice(options, value, label, changed) {
  const select = make("select", {"aria-label": label, onchange: () => changed(select.value)});
  for (const [key, text] of options) select.append(make("option", {value: key, selected: key === value}, text));
  return select;
}

const px = value => String(+value.toFixed(1));
const short = value => Math.abs(value) >= 1000 ? value.toFixed(0) : String(+value.toPrecision(3));
const many = (count, one, more) => `${count} ${count === 1 ? one : more ?? one + "s"}`;

function heatColour(share) {
  const place = Math.min(Math.max(share, 0), 1) * (CIVIDIS.length - 1), low = Math.min(Math.floor(place), CIVIDIS.length - 2);
  const mixed = CIVIDIS[low].map((part, i) => Math.round(part + (CIVIDIS[low + 1][i] - part) * (place - low)));
  return `rgb(${mixed.join(",")})`;
}

/* Where a prior stands: its centre, width and height. */
function geometry(levels) {
  return prior => {
    let level = levels.length - 1;
    while (level > 0 && levels[level].first > prior) level--;
    const {first, columns, sizes, stride, spacing, offset} = levels[level];
    const cell = Math.floor((prior - first) / sizes.length), [w, h] = sizes[(prior - first) % sizes.length];
    const x = offset * stride + (cell % columns) * spacing[0], y = offset * stride + Math.floor(cell / columns) * spacing[1];
    return {x, y, w, h, level, cell};
  };
}

/* --------------------------------------------------------------------------------------------------- questions */

/* One question under way at a time. A newer one takes the place of one that waits; `spare()` gives those of no haste. */
function questioner(ask, spare) {
  let busy = false, waiting = null, number = 0, hasty = false;
  async function go() {
    if (busy) return;
    busy = true;
    for (let next; (next = waiting ?? spare());) {
      hasty = next === waiting;
      if (hasty) waiting = null;
      try {
        const start = performance.now(), promise = ask({...next.question, id: ++number}), blocked = performance.now() - start;
        next.heard(await promise, number, blocked);
      } catch (error) {
        next.refused(error);
      }
      if (!hasty) await new Promise(resolve => setTimeout(resolve, 0));  // hands and pictures first
      hasty = false;
    }
    busy = false;
  }
  return {put(next) { waiting = next; go(); }, wake: go, idle: () => !waiting && !hasty, newest: () => !waiting};
}

/* Positives of an object against its place along an axis, kept from drag to drag: moving along the axis only shifts it. */
function sweeps() {
  const known = new Map();
  let pieces = 4;
  function places(state, rule, axis) {
    const {objects, chosen, size, priors} = state, from = axis === "x" ? 0 : 1, box = [...objects[chosen]];
    box[from + 2] -= box[from];
    box[from] = 0;
    const key = JSON.stringify([size, priors, rule, axis, chosen, objects.with(chosen, box)]);
    if (!known.has(key)) {
      if (known.size > 100) known.delete(known.keys().next().value);
      known.set(key, new Map());
    }
    return known.get(key);
  }
  return {
    curve(state, rule, axis) {
      const found = places(state, rule, axis), at = state.objects[state.chosen][axis === "x" ? 0 : 1];
      return Array.from({length: 2 * REACH + 1}, (_, i) => [i - REACH, found.get(at + i - REACH)]);
    },
    /* The next piece that is missing, as a question; null where all is known. */
    next(state, axis, heard, refused) {
      if (state.chosen === null) return null;
      for (const rule of state.rules) {
        const missing = this.curve(state, rule, axis).filter(([, count]) => count === undefined).map(([offset]) => offset);
        if (!missing.length) continue;
        missing.sort((a, b) => Math.abs(a) - Math.abs(b));
        const offsets = missing.slice(0, pieces);
        const found = places(state, rule, axis), at = state.objects[state.chosen][axis === "x" ? 0 : 1];
        const shift = {object: state.chosen, axis, offsets};
        const question = {...state, rules: [rule], chosen: null, panel_rule: null, heat: null, shift};
        return {question, refused, heard(answer, _, blocked) {
          offsets.forEach((offset, i) => found.set(at + offset, answer.shift[rule][i]));
          pieces = blocked < 8 ? Math.min(2 * pieces, 2 * REACH + 1) : blocked > 20 ? Math.max(1, pieces >> 1) : pieces;
          heard();
        }};
      }
      return null;
    },
  };
}

/* ------------------------------------------------------------------------------------------------ own pictures */

const readAs = (file, how) => new Promise((resolve, reject) => {
  const reader = new FileReader();
  reader.onload = () => resolve(reader.result);
  reader.onerror = () => reject(new Error(`${file.name} cannot be read`));
  reader[how](file);
});

function decoded(url, name) {
  return new Promise((resolve, reject) => {
    const picture = new Image();
    picture.onload = () => resolve(picture);
    picture.onerror = () => reject(new Error(`${name} is no picture that this browser can show`));
    picture.src = url;
  });
}

/* The scene of a picture, of a COCO file, or of both; sides beyond LONGEST are scaled down, boxes and all. */
async function fromFiles(files) {
  const texts = files.filter(file => /\.json$/i.test(file.name)), pictures = files.filter(file => !texts.includes(file));
  let picture = null, size = null, boxes = [];
  if (pictures.length) {
    picture = await decoded(await readAs(pictures[0], "readAsDataURL"), pictures[0].name);
    size = [picture.naturalHeight, picture.naturalWidth];
  }
  if (texts.length) {
    let coco;
    try {
      coco = JSON.parse(await readAs(texts[0], "readAsText"));
    } catch {
      throw new Error(`${texts[0].name} is no JSON`);
    }
    const found = inCoco(coco, pictures[0]?.name, texts[0].name);
    boxes = found.boxes;
    size ??= found.size;
  }
  const by = Math.min(1, LONGEST / Math.max(...size));
  const scaled = size.map(side => Math.max(1, Math.round(side * by)));
  boxes = boxes.map(box => box.map(side => side * by)).slice(0, MOST_OBJECTS);
  if (!boxes.length) boxes = [middle(scaled)];
  return {picture, size: scaled, objects: boxes};
}

function middle([height, width]) {
  const side = Math.min(24, height / 2, width / 2), x = Math.round((width - side) / 2), y = Math.round((height - side) / 2);
  return [x, y, x + side, y + side];
}

function inCoco(coco, name, file) {
  if (!Array.isArray(coco?.images) || !Array.isArray(coco?.annotations)) {
    throw new Error(`${file} must hold images and annotations, as COCO does`);
  }
  const boxed = new Set(coco.annotations.map(one => one.image_id)), last = path => String(path).split(/[\\/]/).pop();
  const image = name ? coco.images.find(one => last(one.file_name) === name) : coco.images.find(one => boxed.has(one.id));
  if (!image) throw new Error(name ? `${file} holds no image of the name ${name}` : `${file} holds no image with boxes`);
  const own = coco.annotations.filter(one => one.image_id === image.id && !one.iscrowd && Array.isArray(one.bbox));
  const boxes = own.map(({bbox: [x, y, w, h]}) => [x, y, x + w, y + h]).filter(([a, b, c, d]) => c > a && d > b);
  return {size: [image.height, image.width], boxes};
}

/* ------------------------------------------------------------------------------------------------------ drawing */

/* A canvas that shows the window [x, y, w, h] of the picture, drawn in the picture's pixels; `s` screen px a pixel. */
function sheet(canvas, [x, y, w, h], width, ground) {
  const height = width * h / w, sharp = Math.min(globalThis.devicePixelRatio || 1, 2);
  const [columns, rows] = [Math.round(width * sharp), Math.round(height * sharp)];
  if (canvas.width !== columns || canvas.height !== rows) Object.assign(canvas, {width: columns, height: rows});
  const c = canvas.getContext("2d"), s = width / w;
  c.setTransform(sharp, 0, 0, sharp, 0, 0);
  c.fillStyle = ground;
  c.fillRect(0, 0, width, height);
  return {c, s, width, height, at: (u, v) => [(u - x) * s, (v - y) * s], window: [x, y, w, h]};
}

function paintPicture({c, s, at, width, height}, state, picture, colours) {
  const [h, w] = state.size, [left, top] = at(0, 0);
  if (picture) {
    c.imageSmoothingEnabled = s < 2;
    c.drawImage(picture, left, top, w * s, h * s);
    return;
  }
  c.fillStyle = colours.disc;
  for (const [x1, y1, x2, y2] of state.objects) {
    const [u, v] = at((x1 + x2) / 2, (y1 + y2) / 2);
    c.beginPath();
    c.ellipse(u, v, (x2 - x1) * s / 2, (y2 - y1) * s / 2, 0, 0, 7);
    c.fill();
  }
  c.strokeStyle = colours.faint;
  c.strokeRect(left, top, w * s, h * s);
}

const cellsIn = ({stride, spacing, offset, rows, columns}, [x, y, w, h]) => {
  const first = (low, i) => Math.max(0, Math.floor((low - offset * stride) / spacing[i] - 0.5));
  const last = (high, i, count) => Math.min(count - 1, Math.ceil((high - offset * stride) / spacing[i] + 0.5));
  return [first(x, 0), last(x + w, 0, columns), first(y, 1), last(y + h, 1, rows)];
};

function paintHeat({c, s, at, window}, level, heat, [low, high]) {
  const {first, columns, sizes, spacing, stride, offset} = level, shapes = sizes.length;
  const [left, right, top, bottom] = cellsIn(level, window);
  c.globalAlpha = 0.8;
  for (let row = top; row <= bottom; row++) for (let column = left; column <= right; column++) {
    const start = first + (row * columns + column) * shapes;
    let best = heat[start];
    for (let i = 1; i < shapes; i++) best = Math.max(best, heat[start + i]);
    const [u, v] = at(offset * stride + (column - 0.5) * spacing[0], offset * stride + (row - 0.5) * spacing[1]);
    c.fillStyle = heatColour((best - low) / (high - low));
    c.fillRect(u, v, spacing[0] * s + 0.5, spacing[1] * s + 0.5);
  }
  c.globalAlpha = 1;
}

/* A dot in the middle of every cell; levels so fine that their dots would run together are left out. */
function paintCells({c, s, at, window}, levels, only, colour) {
  c.fillStyle = colour;
  levels.forEach((level, index) => {
    const {spacing, stride, offset} = level;
    if ((only !== null && only !== index) || Math.min(...spacing) * s < 4) return;
    const [left, right, top, bottom] = cellsIn(level, window), dot = 0.8 + 0.25 * index;
    for (let row = top; row <= bottom; row++) for (let column = left; column <= right; column++) {
      const [u, v] = at(offset * stride + column * spacing[0], offset * stride + row * spacing[1]);
      c.fillRect(u - dot, v - dot, 2 * dot, 2 * dot);
    }
  });
}

function mark(c, kind, u, v, r, colour, ground) {
  c.beginPath();
  if (kind === "circle") c.arc(u, v, r, 0, 7);
  else { c.moveTo(u, v - r); c.lineTo(u + r, v); c.lineTo(u, v + r); c.lineTo(u - r, v); c.closePath(); }
  c.lineWidth = kind === "circle" ? 1 : 1.6;
  c.fillStyle = kind === "circle" ? colour : ground;
  c.fill();
  c.strokeStyle = kind === "circle" ? ground : colour;
  c.stroke();
}

function paintLabels(paper, labels, place, state, only, colours) {
  const {c, s, at} = paper;
  for (const prior of labels.ignored) {
    const {x, y, level} = place(prior);
    if (only === null || only === level) mark(c, "diamond", ...at(x, y), 3.5, colours.orange, colours.ground);
  }
  const shown = labels.positive.map(([prior, gt]) => ({...place(prior), gt})).filter(({level}) => only === null || only === level);
  const boxed = shown.length <= 300;
  c.strokeStyle = colours.blue;
  for (const {x, y, w, h, gt} of shown) {
    const mine = gt === state.chosen, [u, v] = at(x, y), [x1, y1, x2, y2] = state.objects[gt] ?? [x, y, x, y];
    c.lineWidth = mine ? 1.2 : 0.7;
    c.globalAlpha = mine ? 0.8 : 0.35;
    if (boxed && w > 0) c.strokeRect(u - w * s / 2, v - h * s / 2, w * s, h * s);
    c.beginPath();
    c.moveTo(u, v);
    c.lineTo(...at((x1 + x2) / 2, (y1 + y2) / 2));
    c.stroke();
  }
  c.globalAlpha = 1;
  for (const {x, y, gt} of shown) mark(c, "circle", ...at(x, y), gt === state.chosen ? 4 : 3.2, colours.blue, colours.ground);
}

/* The objects' outlines with a halo, for photographs and heat maps; a cross in those that have nothing, for grey. */
function paintEdges({c, s, at}, state, counts, colours) {
  state.objects.forEach(([x1, y1, x2, y2], i) => {
    const [u, v] = at(x1, y1), [w, h] = [(x2 - x1) * s, (y2 - y1) * s];
    c.strokeStyle = colours.ground;
    c.lineWidth = i === state.chosen ? 6 : 3.6;
    c.strokeRect(u, v, w, h);
    c.strokeStyle = colours.red;
    c.lineWidth = i === state.chosen ? 3 : 1.6;
    c.strokeRect(u, v, w, h);
    if (counts[i] !== 0) return;
    c.strokeStyle = colours.ink;
    c.lineWidth = 1.6;
    c.beginPath();
    c.moveTo(u, v);
    c.lineTo(u + w, v + h);
    c.moveTo(u + w, v);
    c.lineTo(u, v + h);
    c.stroke();
  });
}

function paintObjects({c, s, at}, state, colours, only = null) {
  state.objects.forEach(([x1, y1, x2, y2], i) => {
    if (only !== null && !only.has(i)) return;
    const [u, v] = at(x1, y1);
    c.strokeStyle = colours.red;
    c.lineWidth = i === state.chosen ? 2.4 : 1.2;
    c.setLineDash(i === state.chosen ? [] : [3, 2]);
    c.strokeRect(u, v, (x2 - x1) * s, (y2 - y1) * s);
    c.setLineDash([]);
    if (i !== state.chosen) write(c, u, v - 3, String(i), colours.red, colours.ground);
  });
}

function write(c, u, v, text, colour, ground) {
  c.font = "600 12px system-ui, sans-serif";
  c.lineWidth = 3;
  c.strokeStyle = ground;
  c.strokeText(text, u, v);
  c.fillStyle = colour;
  c.fillText(text, u, v);
}

/* The third panel: the candidates' values in order, the bar, and who passes. */
function paintBar(paper, panels, colours) {
  const {c, width, height} = paper, values = panels.candidates.map(([prior, value]) => [value, prior]);
  values.sort((a, b) => b[0] - a[0]);
  const chosen = new Set(panels.chosen.map(([prior]) => prior)), shown = values.slice(0, 160);
  if (!shown.length) return;
  const all = shown.map(([value]) => value).concat(panels.bar ?? []), pad = 12;
  let low = Math.min(...all), high = Math.max(...all);
  if (low >= 0 && low < 0.5 * high) low = 0;
  if (high === low) high = low + 1;
  const y = value => height - pad - (value - low) / (high - low) * (height - 2.4 * pad);
  const x = i => pad + (shown.length < 2 ? 0.5 : i / (shown.length - 1)) * (width - 2 * pad);
  shown.forEach(([value, prior], i) => {
    if (chosen.has(prior)) mark(c, "circle", x(i), y(value), 4, colours.blue, colours.ground);
    else { c.fillStyle = colours.grey; c.fillRect(x(i) - 1.6, y(value) - 1.6, 3.2, 3.2); }
  });
  if (panels.bar === null) return;
  c.strokeStyle = colours.ink;
  c.lineWidth = 1.4;
  c.setLineDash([6, 3]);
  c.beginPath();
  c.moveTo(0, y(panels.bar));
  c.lineTo(width, y(panels.bar));
  c.stroke();
  c.setLineDash([]);
  c.textAlign = "right";
  write(c, width - 6, Math.max(14, y(panels.bar) - 5), `bar ${short(panels.bar)}`, colours.ink, colours.ground);
  c.textAlign = "left";
}

/* The four questions for one object: a heading, a sentence with its numbers, and how the panel is painted. */
function fourQuestions(panels, state, place, colours) {
  const spots = new Map();  // several shapes stand at one place: the best of them is shown
  for (const [prior, value] of panels.candidates) {
    const spot = place(prior), key = `${spot.x} ${spot.y}`;
    if (!spots.has(key) || spots.get(key).value < value) spots.set(key, {...spot, value});
  }
  const values = panels.candidates.map(([, value]) => value), low = Math.min(...values), high = Math.max(...values);
  const lost = new Map();
  for (const [, rival] of panels.losers) lost.set(rival, (lost.get(rival) ?? 0) + 1);
  const rivals = [...lost].map(([rival, count]) => `${count} to ${rival < 0 ? "nobody" : "object " + rival}`).join(", ");
  const mine = new Set([state.chosen]);
  return [
    ["Who may match?", many(values.length, "candidate"), paper => {
      for (const {x, y} of spots.values()) mark(paper.c, "circle", ...paper.at(x, y), 2.6, colours.ink, colours.ground);
      paintObjects(paper, state, colours, mine);
    }],
    ["How well?", !values.length ? "nobody to compare" : low === high ? `value ${short(low)}` : `values from ${short(low)} to ${short(high)}`, paper => {
      for (const {x, y, value} of [...spots.values()].sort((a, b) => a.value - b.value)) {
        const share = high > low ? (value - low) / (high - low) : 1;
        mark(paper.c, "circle", ...paper.at(x, y), 2.2 + 4.4 * share, heatColour(share), colours.ground);
      }
      paintObjects(paper, state, colours, mine);
    }],
    ["Who is chosen?", `${panels.bar === null ? "no bar" : "bar " + short(panels.bar)}: ${many(panels.chosen.length, "passes", "pass")}`,
     paper => paintBar(paper, panels, colours)],
    ["Who wins?", `${many(panels.winners.length, "wins", "win")}${rivals ? `, lost: ${rivals}` : ""}`, paper => {
      paintObjects(paper, state, colours, new Set([state.chosen, ...lost.keys()]));
      for (const [prior, rival] of panels.losers) {
        const {x, y} = place(prior), [x1, y1, x2, y2] = state.objects[rival] ?? [x, y, x, y];
        paper.c.strokeStyle = colours.orange;
        paper.c.lineWidth = 1;
        paper.c.beginPath();
        paper.c.moveTo(...paper.at(x, y));
        paper.c.lineTo(...paper.at((x1 + x2) / 2, (y1 + y2) / 2));
        paper.c.stroke();
        mark(paper.c, "diamond", ...paper.at(x, y), 4.5, colours.orange, colours.ground);
      }
      for (const prior of panels.winners) {
        const {x, y, w, h} = place(prior), [u, v] = paper.at(x, y);
        paper.c.strokeStyle = colours.blue;
        paper.c.lineWidth = 0.8;
        if (w > 0 && panels.winners.length < 60) paper.c.strokeRect(u - w * paper.s / 2, v - h * paper.s / 2, w * paper.s, h * paper.s);
        mark(paper.c, "circle", u, v, 4, colours.blue, colours.ground);
      }
    }],
  ];
}

/* The curve of positives against the shift, one small chart a rule: none can hide another. */
function chart(rule, look, points, highest) {
  const [colour, dash] = LOOKS[look % LOOKS.length], W = 220, H = 96, left = 22, bottom = 16, top = 6;
  const x = offset => left + (offset + REACH) / (2 * REACH) * (W - left - 6), y = n => H - bottom - n / highest * (H - bottom - top);
  const svg = draw("svg", {viewBox: `0 0 ${W} ${H}`, role: "img"});
  for (const n of [0, highest]) {
    svg.append(draw("line", {x1: left, x2: W - 6, y1: y(n), y2: y(n), class: "lkx-grid"}),
               draw("text", {x: left - 4, y: y(n) + 4, "text-anchor": "end"}, String(n)));
  }
  for (const offset of [-REACH, 0, REACH]) {
    svg.append(draw("text", {x: x(offset), y: H - 3, "text-anchor": offset > 0 ? "end" : offset < 0 ? "start" : "middle"},
                    offset > 0 ? `+${offset} px` : String(offset)));
  }
  svg.append(draw("line", {x1: x(0), x2: x(0), y1: top, y2: H - bottom, class: "lkx-here"}));
  const step = (x(1) - x(0)) / 2;
  let path = "", none = "";
  for (const [offset, count] of points) {
    if (count === undefined) continue;
    path += `M${px(x(offset) - step)} ${px(y(count))}H${px(x(offset) + step)}`;
    if (count === 0) none += `M${px(x(offset) - step)} ${px(y(0))}h${px(2 * step)}v-9h${px(-2 * step)}z`;
  }
  const joined = points.map(([offset, count], i) => count === undefined ? "" :
    `${i && points[i - 1][1] !== undefined ? "L" : "M"}${px(x(offset))} ${px(y(count))}`).join("");
  svg.append(draw("path", {d: none, class: "lkx-none"}),
             draw("path", {d: joined, class: "lkx-curve", stroke: `var(--lkx-${colour})`, "stroke-dasharray": dash}),
             draw("path", {d: path, class: "lkx-steps", stroke: `var(--lkx-${colour})`}));
  const known = points.filter(([, count]) => count !== undefined), counts = known.map(([, count]) => count);
  const without = counts.filter(count => count === 0).length;
  const least = Math.min(...counts), most = Math.max(...counts);
  const sentence = !known.length ? "not known yet" : (least === most ? many(least, "positive") : `${least} to ${most} positives`)
    + (without ? `, none at ${without} of ${counts.length} places` : "");
  svg.setAttribute("aria-label", `${rule}: ${sentence}, shifted by ${-REACH} to ${REACH} pixels`);
  return make("figure", {}, make("figcaption", {}, make("b", {}, rule), ` ${sentence}`), svg);
}

/* -------------------------------------------------------------------------------------------------------- mount */

function mount(element, scene, image, ask, options = {}) {
  const offered = {rules: scene.rules ?? [], priors: ["retinanet", "fcos", "course-anchors", "course-points"],
                   similarities: [], scenes: {}, own: false, url: false, changed: () => {}, ...options};
  const number = ++mounted, curves = sweeps();
  const ui = {zoom: 1, focus: [0, 0], level: null, axis: "x", picture: null, charts: true, table: "", panels: ""};
  let state = whole(scene), answer = null, place = null, views = [], frame = 0, quiet = 0, quietly = false, fits = false;
  let colours = {}, drag = null, painted = [];

  /* --- what stands on the page --- */
  const say = make("p", {class: "lkx-say", role: "status", "aria-live": "polite"});
  const fault = make("p", {class: "lkx-fault", role: "alert", hidden: true});
  const stages = make("div", {class: "lkx-views"}), panels = make("div", {class: "lkx-panels"});
  const story = make("p", {class: "lkx-story"}), charts = make("div", {class: "lkx-charts"}), table = make("table");
  const rules = make("fieldset", {class: "lkx-rules"}), priors = make("span", {class: "lkx-field"});
  const shown = make("span", {class: "lkx-field"}), ofPanel = make("span", {class: "lkx-field"}), probe = make("i", {hidden: true});
  const button = (text, title, act) => make("button", {type: "button", title, "aria-label": title, onclick: act}, text);
  const files = make("input", {type: "file", multiple: true, accept: "image/*,.json", "aria-label": "own picture, COCO file, or both",
                               onchange: () => guarded(async () => own(await fromFiles([...files.files])))});
  const axis = choice([["x", "to the right"], ["y", "downwards"]], "x", "direction of the shift", value => {
    ui.axis = value;
    rest();
  });
  const scenes = Object.keys(offered.scenes);
  const named = scenes.length ? choice([["", "choose …"], ...scenes.map(name => [name, name])], "", "scene", name => {
    if (name) own({...offered.scenes[name], picture: null});
  }) : null;
  const root = make("div", {class: "lkx", id: `lkx-${number}`},
    make("p", {class: "lkx-lead"}, make("b", {}, "Which places of the network learn which object? "),
      "Every grey dot is a place that can report an object. A rule decides which of them learn to: the blue ones. Drag an object and watch; " +
      "one that no place learns is filled and marked 0."),
    make("details", {class: "lkx-set", open: matchMedia("(min-width: 701px)").matches}, make("summary", {}, "rules, priors, own picture"), make("div", {class: "lkx-bar"}, rules, make("div", {class: "lkx-fields"}, priors, shown,
      ...(named ? [field("scene", named)] : []), field("own picture, COCO file", files)))),
    make("div", {class: "lkx-bar lkx-tools"},
      button("+ object", "add an object", () => add()), button("− object", "delete the chosen object", () => remove()),
      button("− zoom", "zoom out", () => zoom(1 / 1.5)), button("+ zoom", "zoom in", () => zoom(1.5)),
      make("span", {class: "lkx-keys"}, "Tab chooses, arrows move (shift: 8 px), alt with arrows or + and − resize, Delete removes")),
    fault, stages, say,
    make("section", {}, make("h3", {}, "Four questions for the chosen object"), ofPanel, panels, story),
    make("div", {class: "lkx-two"},
      make("section", {}, make("h3", {}, "Positives of the chosen object, were it shifted"), field("shift", axis), charts),
      make("section", {}, make("h3", {}, "Positives of every object"), make("div", {class: "lkx-scroll"}, table))),
    probe);

  function field(name, control) {
    return make("label", {class: "lkx-field"}, make("span", {}, name), control);
  }

  /* --- asking --- */
  const line = questioner(ask, () => quietly ? curves.next(state, ui.axis, redraw, refused) : null);

  function changed({rebuild = false} = {}) {
    if (rebuild) build();
    const {size, priors, objects, rules, chosen, panel_rule, heat} = state;
    const question = {size, priors, objects: objects.map(box => [...box]), rules: [...rules], chosen, panel_rule, heat, shift: null};
    line.put({question, heard: (found, id) => heard(found, question, id), refused});
    rest();
    later();
  }

  function rest() {
    quietly = false;
    clearTimeout(quiet);
    quiet = setTimeout(() => {
      quietly = true;
      line.wake();
      tell(line.idle());
      if (offered.url) remember();
      offered.changed(whole(state));
    }, QUIET);
    redraw();
  }

  function redraw() {
    ui.charts = true;
    later();
  }

  function heard(found, question, id) {
    answer = {...found, question, number: id};
    place = geometry(found.priors.levels);
    fault.hidden = true;
    levels();
    tell(line.newest());
    later();
  }

  function remember() {
    try {
      history.replaceState(null, "", `#${writeState(state)}`);
    } catch { /* a frame without an address of its own */ }
  }

  /* In words, once nothing moves any more. */
  function tell(known) {
    if (quietly && known && say.textContent !== sentence()) say.textContent = sentence();
  }

  function refused(error) {
    later();
    fault.textContent = error.message;
    fault.hidden = false;
    quietly = false;
  }

  async function guarded(act) {
    try {
      await act();
    } catch (error) {
      refused(error);
    }
  }

  function sentence() {
    if (state.chosen === null) return "There is no object: add one.";
    const [x1, y1, x2, y2] = state.objects[state.chosen];
    const counts = state.rules.map(rule => `${rule} gives it ${count(rule, state.chosen) ?? "…"}`);
    return `Object ${state.chosen}, ${px(x2 - x1)} × ${px(y2 - y1)} px at (${px(x1)}, ${px(y1)}): ${counts.join(", ")}.`;
  }

  const count = (rule, object) => answer?.rules[rule]?.per_object[object];

  /* --- changing the scene --- */
  function choose(index, focus = true) {
    if (index === state.chosen) return;
    state.chosen = index;
    look();
    changed();
    if (focus) hold(index);
  }

  const hold = index => views[0]?.groups[index]?.node.focus({preventScroll: true});

  function set(index, box) {
    const [height, width] = state.size, least = 1;
    let [x1, y1, x2, y2] = box;
    if (x2 - x1 < least) x2 = x1 + least;
    if (y2 - y1 < least) y2 = y1 + least;
    const dx = Math.min(Math.max(0, -x1), Math.max(0, width - x2)) + Math.min(0, Math.max(width - x2, -x1));
    const dy = Math.min(Math.max(0, -y1), Math.max(0, height - y2)) + Math.min(0, Math.max(height - y2, -y1));
    state.objects[index] = [x1 + dx, y1 + dy, x2 + dx, y2 + dy];
    changed();
  }

  function add() {
    if (state.objects.length >= MOST_OBJECTS) return;
    const [x, y, w, h] = frameOf(), side = Math.min(NEW_SIDE, ...state.size), [u, v] = [x + (w - side) / 2, y + (h - side) / 2].map(Math.round);
    state.objects.push([u, v, u + side, v + side]);
    state.chosen = state.objects.length - 1;
    changed({rebuild: true});
    hold(state.chosen);
  }

  function remove() {
    if (state.chosen === null) return;
    state.objects.splice(state.chosen, 1);
    state = whole(state);
    look();
    changed({rebuild: true});
    hold(state.chosen);
  }

  function own({picture, size, objects}) {
    ui.picture = picture;
    state = whole({...state, size, objects, chosen: 0});
    fits = false;
    changed({rebuild: true});
  }

  /* --- the window on the picture --- */
  function frameOf() {
    const [height, width] = state.size, [w, h] = [width / ui.zoom, height / ui.zoom];
    const x = Math.min(Math.max(ui.focus[0] - w / 2, 0), width - w), y = Math.min(Math.max(ui.focus[1] - h / 2, 0), height - h);
    return [x, y, w, h];
  }

  /* The chosen object into the window, where it is not in it with a margin. */
  function look() {
    if (state.chosen === null) return;
    const [x, y, w, h] = frameOf(), [x1, y1, x2, y2] = state.objects[state.chosen], edge = 0.08;
    const inside = x1 > x + edge * w && x2 < x + (1 - edge) * w && y1 > y + edge * h && y2 < y + (1 - edge) * h;
    if (!inside) ui.focus = [(x1 + x2) / 2, (y1 + y2) / 2];
  }

  function zoom(by) {
    ui.zoom = Math.min(Math.max(ui.zoom * by, 1), 16);
    if (state.chosen !== null) {
      const [x1, y1, x2, y2] = state.objects[state.chosen];
      ui.focus = [(x1 + x2) / 2, (y1 + y2) / 2];
    }
    later();
  }

  /* Magnified to begin with, so that a finger can take hold of the chosen object. */
  function fit(width) {
    if (fits || !width) return;
    fits = true;
    ui.zoom = 1;
    ui.focus = [state.size[1] / 2, state.size[0] / 2];
    if (state.chosen === null) return;
    const [x1, y1, x2, y2] = state.objects[state.chosen], side = Math.min(x2 - x1, y2 - y1) * width / state.size[1];
    ui.zoom = Math.min(Math.max(26 / side, 1), 4, state.size[1] / (2 * (x2 - x1)), state.size[0] / (2 * (y2 - y1)));
    ui.zoom = Math.max(ui.zoom, 1);
    ui.focus = [(x1 + x2) / 2, (y1 + y2) / 2];
  }

  /* --- hands --- */
  function down(event, width) {
    const target = event.target.closest("[data-object]");
    if (!target || event.button > 0) return;
    const svg = target.ownerSVGElement, s = width / frameOf()[2];
    const index = target.dataset.corner === undefined ? smallestAt(event, svg, s) ?? +target.dataset.object : state.chosen;
    event.preventDefault();
    if (index !== state.chosen) {
      state.chosen = index;
      changed();
    }
    hold(index);
    drag = {index, id: event.pointerId, corner: target.dataset.corner, from: [event.clientX, event.clientY], box: [...state.objects[index]], s};
    svg.setPointerCapture(event.pointerId);
  }

  /* The object that is meant at this place: one that holds it before one within a finger's reach, then the smallest. */
  function smallestAt({clientX, clientY}, svg, s) {
    const {left, top} = svg.getBoundingClientRect(), [x, y] = frameOf(), at = [(clientX - left) / s + x, (clientY - top) / s + y];
    const off = (low, high, place) => Math.max(0, low - place, place - high) * s;
    const ranked = state.objects.map(([x1, y1, x2, y2], i) => {
      const away = Math.max(off(x1, x2, at[0]), off(y1, y2, at[1]));
      return {i, away: away > 0, far: away > FINGER, area: (x2 - x1) * (y2 - y1), other: i !== state.chosen};
    }).filter(({far}) => !far);
    ranked.sort((a, b) => a.away - b.away || a.area - b.area || a.other - b.other);
    return ranked[0]?.i;
  }

  function move(event) {
    if (!drag || event.pointerId !== drag.id) return;
    const dx = Math.round((event.clientX - drag.from[0]) / drag.s), dy = Math.round((event.clientY - drag.from[1]) / drag.s);
    let [x1, y1, x2, y2] = drag.box;
    if (drag.corner === undefined) [x1, y1, x2, y2] = [x1 + dx, y1 + dy, x2 + dx, y2 + dy];
    else {
      if (drag.corner & 1) x2 = Math.min(Math.max(x2 + dx, x1 + 1), state.size[1]); else x1 = Math.max(Math.min(x1 + dx, x2 - 1), 0);
      if (drag.corner & 2) y2 = Math.min(Math.max(y2 + dy, y1 + 1), state.size[0]); else y1 = Math.max(Math.min(y1 + dy, y2 - 1), 0);
    }
    const box = state.objects[drag.index];
    if ([x1, y1, x2, y2].some((side, i) => side !== box[i])) set(drag.index, [x1, y1, x2, y2]);
  }

  function up(event) {
    if (!drag || event.pointerId !== drag.id) return;
    drag = null;
    look();
    later();
  }

  const STEPS = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]};

  function key(event) {
    if (event.ctrlKey || event.metaKey || state.chosen === null) return;
    const [x1, y1, x2, y2] = state.objects[state.chosen], step = STEPS[event.key], by = event.shiftKey && step ? 8 : 1;
    const [height, width] = state.size;
    if (step && event.altKey) set(state.chosen, [x1, y1, Math.min(Math.max(x2 + step[0] * by, x1 + 1), width), Math.min(Math.max(y2 + step[1] * by, y1 + 1), height)]);
    else if (step) set(state.chosen, [x1 + step[0] * by, y1 + step[1] * by, x2 + step[0] * by, y2 + step[1] * by]);
    else if (event.key === "+" || event.key === "=") set(state.chosen, [x1, y1, Math.min(x2 + 1, width), Math.min(y2 + 1, height)]);
    else if (event.key === "-" || event.key === "_") set(state.chosen, [x1, y1, Math.max(x2 - 1, x1 + 1), Math.max(y2 - 1, y1 + 1)]);
    else if (event.key === "Delete" || event.key === "Backspace") remove();
    else return;
    event.preventDefault();
    if (step) look();
  }

  /* --- building: after a change of rules or of how many objects there are --- */
  function build() {
    views = state.rules.map((rule, index) => view(rule, index === 0));
    stages.replaceChildren(...views.map(one => one.node));
    stages.style.setProperty("--lkx-columns", String(Math.min(Math.max(views.length, 1), 4)));
    controls();
    later();
  }

  function view(rule, first) {
    const canvas = make("canvas", {"aria-hidden": "true"}), caption = make("figcaption");
    const svg = draw("svg", first ? {role: "application", "aria-label": "the picture and its objects"} : {"aria-hidden": "true"});
    const groups = state.objects.map((_, i) => {
      const box = draw("rect", {class: "lkx-box"}), hit = draw("rect", {class: "lkx-hit", "data-object": i}), name = draw("text");
      const node = draw("g", first ? {tabindex: 0, role: "button"} : {}, box, hit, name);
      if (first) node.addEventListener("focus", () => choose(i, false));
      return {node, box, hit, name};
    });
    const handles = [0, 1, 2, 3].map(corner => draw("g", {class: "lkx-handle"},
      draw("line"), draw("circle", {r: FINGER, class: "lkx-hit"}), draw("rect", {width: 9, height: 9, class: "lkx-grip"})));
    svg.append(...groups.map(({node}) => node), ...handles);
    const stage = make("div", {class: "lkx-stage"}, canvas, svg), node = make("figure", {class: "lkx-view"}, caption, stage);
    svg.addEventListener("pointerdown", event => down(event, stage.clientWidth));
    svg.addEventListener("pointermove", move);
    svg.addEventListener("pointerup", up);
    svg.addEventListener("pointercancel", up);
    if (first) svg.addEventListener("keydown", key);
    return {rule, node, stage, canvas, svg, caption, groups, handles, first};
  }

  function controls() {
    const known = [...new Set([...offered.rules, ...state.rules])];
    rules.replaceChildren(make("legend", {}, "rules"), ...known.map(rule => {
      const on = state.rules.includes(rule), box = make("input", {type: "checkbox", checked: on, disabled: !on && state.rules.length >= MOST_RULES,
        onchange: () => toggle(rule, known)});
      return make("label", {}, box, rule);
    }));
    if (offered.own) {
      const words = make("input", {type: "text", placeholder: "rka k=5", size: 12, "aria-label": "a rule with arguments"});
      const form = make("form", {onsubmit: event => { event.preventDefault(); if (words.value.trim()) toggle(words.value.trim(), known); }},
        words, make("button", {}, "add rule"));
      rules.append(form);
    }
    const own = typeof state.priors === "object", presets = [...offered.priors.map(name => [name, name]), ["own", "own strides"]];
    const select = choice(presets, own ? "own" : state.priors, "priors", value => {
      state.priors = value === "own" ? {strides: [4, 8, 16], scale: 4, ratios: [1]} : value;
      ui.level = null;
      changed({rebuild: true});
    });
    priors.replaceChildren(field("priors", select));
    if (own) priors.append(field("strides x scale : ratios", make("input", {type: "text", size: 14, value: writePriors(state.priors),
      "aria-label": "strides, scale and ratios", onchange: event => guarded(() => {
        const found = readPriors(event.target.value.replace(/\s/g, ""));
        if (typeof found === "string") throw new Error("own strides are written as 4,8 for points or 4,8x4:0.5,1 for anchors");
        state.priors = found;
        ui.level = null;
        changed();
      })})));
    ofPanel.replaceChildren(field("rule", choice(state.rules.map(rule => [rule, rule]), state.panel_rule, "rule of the four questions", value => {
      state.panel_rule = value;
      changed();
    })));
    levels(true);
  }

  /* Which levels and which similarity are shown; the list of levels follows the answer. */
  function levels(force = false) {
    const strides = (answer?.priors.levels ?? []).map(({stride}) => stride), key = strides.join();
    if (!force && shown.dataset.key === key) return;
    shown.dataset.key = key;
    if (ui.level !== null && ui.level >= strides.length) ui.level = null;
    shown.replaceChildren(
      field("level", choice([["all", "all"], ...strides.map((stride, i) => [String(i), `stride ${stride}`])],
        ui.level === null ? "all" : String(ui.level), "level", value => { ui.level = value === "all" ? null : +value; later(); })),
      ...(offered.similarities.length ? [field("heat map", choice([["", "none"], ...offered.similarities.map(name => [name, name])],
        state.heat ?? "", "heat map", value => { state.heat = value || null; changed(); }))] : []));
  }

  function toggle(rule, known) {
    if (state.rules.includes(rule)) state.rules = state.rules.filter(one => one !== rule);
    else state.rules = [...known, rule].filter((one, i, all) => all.indexOf(one) === i && (one === rule || state.rules.includes(one)));
    state = whole(state);
    changed({rebuild: true});
  }

  /* --- painting, once a frame --- */
  function later() {
    frame ||= requestAnimationFrame(paint);
  }

  function paint() {
    frame = 0;
    const width = views[0]?.stage.clientWidth ?? 0;
    fit(width);
    const window_ = frameOf(), fresh = answer && answer.question.objects.length === state.objects.length;
    for (const one of views) paintView(one, window_, one.stage.clientWidth, fresh);
    paintPanels(fresh);
    paintTable();
    if (ui.charts) drawCharts();
    ui.charts = false;
    if (answer) element.labelkit.painted = answer.number;
    if (line.idle()) for (const tell of painted.splice(0)) tell();
  }

  function paintView({rule, canvas, svg, stage, caption, groups, handles, first}, window_, width, fresh) {
    const paper = sheet(canvas, window_, width, colours.ground), {height, s, at} = paper;
    stage.style.height = `${height}px`;
    paintPicture(paper, state, ui.picture, colours);
    const all = answer?.priors.levels, labels = fresh ? answer.rules[rule] : null;
    if (answer?.heat && state.heat && fresh) {
      const span = heatSpan(answer.heat);
      paintHeat(paper, all[ui.level ?? span.level], answer.heat, [span.low, span.high]);
    }
    if (all) paintCells(paper, all, ui.level, colours.grey);
    paintEdges(paper, state, labels?.per_object ?? [], colours);
    if (labels) paintLabels(paper, labels, place, state, ui.level, colours);
    const total = labels?.positive.length, without = labels ? labels.per_object.filter(n => n === 0).length : 0;
    caption.replaceChildren(make("b", {}, rule), labels ? ` ${many(total, "positive")}` : "",
      ...(without ? [" ", make("span", {class: "lkx-warn"}, `${without} without`)] : []));
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    groups.forEach(({node, box, hit, name}, i) => {
      const [x1, y1, x2, y2] = state.objects[i], [u, v] = at(x1, y1), [w, h] = [(x2 - x1) * s, (y2 - y1) * s];
      const n = labels?.per_object[i], more = [Math.max(0, FINGER - w / 2), Math.max(0, FINGER - h / 2)];
      put(box, {x: px(u), y: px(v), width: px(w), height: px(h)});
      put(hit, {x: px(u - more[0]), y: px(v - more[1]), width: px(w + 2 * more[0]), height: px(h + 2 * more[1])});
      put(name, {x: px(u + w / 2), y: px(v > 16 ? v - 5 : v + h + 15)});
      name.textContent = n === undefined ? "" : String(n);
      node.setAttribute("class", `lkx-object${i === state.chosen ? " lkx-chosen" : ""}${n === 0 ? " lkx-none" : ""}`);
      if (first) {
        const counts = state.rules.map(one => `${one} ${count(one, i) ?? "unknown"}`).join(", ");
        put(node, {"aria-label": `object ${i}, ${px(x2 - x1)} by ${px(y2 - y1)} pixels at ${px(x1)}, ${px(y1)}; positives: ${counts}`});
      }
    });
    placeHandles(handles, at, s);
  }

  function placeHandles(handles, at, s) {
    const box = state.objects[state.chosen];
    handles.forEach((handle, corner) => {
      handle.style.display = box ? "" : "none";
      if (!box) return;
      const [u, v] = at(box[corner & 1 ? 2 : 0], box[corner & 2 ? 3 : 1]);
      const away = side => AWAY + Math.max(0, FINGER - side * s / 2);
      const x = u + (corner & 1 ? 1 : -1) * away(box[2] - box[0]), y = v + (corner & 2 ? 1 : -1) * away(box[3] - box[1]);
      const [link, hit, grip] = handle.children;
      put(link, {x1: px(u), y1: px(v), x2: px(x), y2: px(y)});
      put(hit, {cx: px(x), cy: px(y), "data-object": state.chosen, "data-corner": corner});
      put(grip, {x: px(x - 4.5), y: px(y - 4.5)});
    });
  }

  /* The part of the picture that holds the chosen object and its candidates, as far as they are no more than six sides away. */
  function aroundCandidates(found) {
    const [height, width] = state.size, [x1, y1, x2, y2] = state.objects[state.chosen], far = 6 * Math.max(x2 - x1, y2 - y1, 4);
    let [left, top, right, bottom] = [x1, y1, x2, y2];
    for (const [prior] of found.candidates) {
      const {x, y} = place(prior);
      if (Math.abs(x - (x1 + x2) / 2) > far || Math.abs(y - (y1 + y2) / 2) > far) continue;
      [left, top, right, bottom] = [Math.min(left, x), Math.min(top, y), Math.max(right, x), Math.max(bottom, y)];
    }
    const share = Math.max((right - left) / width, (bottom - top) / height) * 1.2 + 0.04, [w, h] = [width * share, height * share];
    return [(left + right - w) / 2, (top + bottom - h) / 2, w, h];
  }

  function heatSpan(heat) {
    if (answer.span) return answer.span;
    let best = 0;
    for (let i = 1; i < heat.length; i++) if (heat[i] > heat[best]) best = i;
    const low = heat.reduce((least, value) => Math.min(least, value), 0);
    answer.span = {low, high: Math.max(heat[best], low + 1e-6), level: place(best).level};
    return answer.span;
  }

  function paintPanels(fresh) {
    const found = fresh && answer.question.chosen === state.chosen ? answer.panels : null;
    panels.hidden = state.chosen === null;
    story.textContent = state.chosen === null ? "" : found?.story ?? story.textContent;
    const key = `${answer?.number} ${panels.clientWidth} ${colours.ground} ${Boolean(ui.picture)}`;
    if (!found || key === ui.panels) return;
    ui.panels = key;
    const window_ = aroundCandidates(found);
    fourQuestions(found, state, place, colours).forEach(([title, text, painted], i) => {
      if (!panels.children[i]) panels.append(make("figure", {}, make("figcaption"), make("canvas", {role: "img"})));
      const [caption, canvas] = panels.children[i].children;
      caption.replaceChildren(make("b", {}, `${i + 1}. ${title}`), ` ${text}`);
      canvas.setAttribute("aria-label", `${title} ${text}`);
      const width = canvas.clientWidth, paper = sheet(canvas, window_, width, colours.ground);
      canvas.style.height = `${paper.height}px`;
      if (i !== 2 && ui.picture) { paper.c.globalAlpha = 0.45; paintPicture(paper, state, ui.picture, colours); paper.c.globalAlpha = 1; }
      painted(paper);
    });
  }

  function drawCharts() {
    if (state.chosen === null) { charts.replaceChildren(); return; }
    const found = state.rules.map(rule => curves.curve(state, rule, ui.axis));
    const highest = Math.max(1, ...found.flat().map(([, n]) => n ?? 0));
    charts.replaceChildren(...state.rules.map((rule, i) => chart(rule, i, found[i], highest)));
  }

  function paintTable() {
    const key = JSON.stringify([state.objects, state.rules, state.chosen, state.rules.map(rule => answer?.rules[rule]?.per_object)]);
    if (key === ui.table) return;
    ui.table = key;
    const cell = n => make("td", n === 0 ? {class: "lkx-warn"} : {}, n === undefined ? "" : String(n));
    const rows = state.objects.map(([x1, y1, x2, y2], i) => make("tr", i === state.chosen ? {"aria-current": "true"} : {},
      make("th", {scope: "row"}, make("button", {type: "button", onclick: () => choose(i)}, `object ${i}`)),
      make("td", {}, `${px(x2 - x1)} × ${px(y2 - y1)}`), ...state.rules.map(rule => cell(count(rule, i)))));
    const sum = rule => answer?.rules[rule]?.per_object.reduce((a, b) => a + b, 0);
    table.replaceChildren(
      make("thead", {}, make("tr", {}, make("th", {scope: "col"}, "object"), make("th", {scope: "col"}, "px"), ...state.rules.map(rule => make("th", {scope: "col"}, rule)))),
      make("tbody", {}, ...rows),
      make("tfoot", {}, make("tr", {}, make("th", {scope: "row"}, "all"), make("td"), ...state.rules.map(rule => make("td", {}, String(sum(rule) ?? ""))))));
  }

  function theme() {
    for (const name of ["ground", "ink", "faint", "disc", "blue", "red", "orange", "grey"]) {
      probe.style.color = `var(--lkx-${name})`;
      colours[name] = getComputedStyle(probe).color;
    }
    later();
  }

  /* --- life --- */
  element.replaceChildren(root);
  element.labelkit = {
    state: () => whole(state),
    answer: () => answer,
    painted: 0,
    settled: () => line.idle() && !frame ? Promise.resolve() : new Promise(resolve => { painted.push(resolve); later(); }),
    swept: () => state.rules.every(rule => curves.curve(state, rule, ui.axis).every(([, n]) => n !== undefined)),
  };
  const resized = new ResizeObserver(later), dark = matchMedia("(prefers-color-scheme: dark)"), themed = new MutationObserver(theme);
  resized.observe(root);
  dark.addEventListener("change", theme);
  for (const node of [document.documentElement, document.body]) themed.observe(node, {attributes: true, attributeFilter: ["data-theme", "data-mode", "data-jp-theme-light"]});
  const restore = () => guarded(() => {
    const found = readState(location.hash);
    if (!Object.keys(found).length || writeState(state) === location.hash.slice(1)) return;
    if (found.size && String(found.size) !== String(state.size)) ui.picture = null;
    state = whole({...state, ...found});
    fits = false;
    changed({rebuild: true});
  });
  if (offered.url) globalThis.addEventListener("hashchange", restore);
  theme();
  if (image) guarded(async () => {
    const picture = await decoded(image, "the picture");
    if (String(state.size) === String(scene.size)) ui.picture = picture;  // a scene of another size may have come meanwhile
    later();
  });
  changed({rebuild: true});
  if (offered.url) restore();
  return () => {
    resized.disconnect();
    themed.disconnect();
    dark.removeEventListener("change", theme);
    globalThis.removeEventListener("hashchange", restore);
    clearTimeout(quiet);
    cancelAnimationFrame(frame);
    element.replaceChildren();
  };
}

globalThis.labelkitExplorer = {mount, readState, writeState};
})();
