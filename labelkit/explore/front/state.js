/* The explorer's state and its address, what it asks and remembers, pictures of one's own: everything but drawing. */

const FIELDS = ["size", "priors", "objects", "rules", "chosen", "panel_rule", "heat"];
const MOST_RULES = 6, MOST_OBJECTS = 200, LONGEST = 800;  // px of a picture's longer side
const LARGEST = 2048, MOST_TOLD = 8;  // px of a side, and rules, that an address may ask for: as explore/checks.py has them
const REACH = 16;             // px that an object is shifted for its curve
const QUIET = 150;            // ms without a change, after which curves are asked for and the sentence is said
const NEW_SIDE = 12, AWAY = 17;  // px: a new object; from a box to its handles
const FINGER = globalThis.matchMedia?.("(pointer: coarse)").matches ? 22 : 15;  // px: half of what a hand hits
const LOOKS = [["blue", ""], ["red", "6 3"], ["green", "7 2 2 2"], ["purple", "2 2"], ["orange", ""], ["sky", "6 3"]];
const CIVIDIS = [[0, 34, 78], [18, 53, 112], [59, 73, 108], [87, 93, 109], [112, 113, 115], [138, 134, 120],
                 [165, 156, 116], [195, 179, 105], [225, 204, 85], [254, 232, 56]];
const SVG = "http://www.w3.org/2000/svg";

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
  refuseExcess(found);
  return found;
}

/* An address may come from anybody: what it asks for is painted before the answer could refuse it. */
function refuseExcess({size = [1, 1], objects = [], rules = []}) {
  if (size.length !== 2 || !size.every(side => side >= 1 && side <= LARGEST)) throw new Error(`size must be two sides of 1 to ${LARGEST} px, got ${size}`);
  if (objects.length > MOST_OBJECTS) throw new Error(`objects must be at most ${MOST_OBJECTS}, got ${objects.length}`);
  const bad = objects.find(([x1, y1, x2, y2]) => !(x1 < x2 && y1 < y2));
  if (bad) throw new Error(`objects must have x1 < x2 and y1 < y2, got ${bad}`);
  if (rules.length > MOST_TOLD) throw new Error(`rules must be at most ${MOST_TOLD}, got ${rules.length}`);
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
