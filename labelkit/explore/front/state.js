/* The explorer's state, its address and its measures: plain values and words, no page. */

const FIELDS = ["size", "priors", "objects", "rules", "chosen", "panel_rule", "heat"];
const MOST_RULES = 6, MOST_OBJECTS = 200, LONGEST = 800;  // px of a picture's longer side
const LARGEST = 2048, MOST_TOLD = 8;  // px of a side, rules: what an address may ask for, as in explore/checks.py
const REACH = 16;             // px that an object is shifted for its curve
const QUIET = 150;            // ms without a change, after which curves are asked for and the sentence is said
const NEW_SIDE = 12, AWAY = 17;  // px: a new object; from a box to its handles
const FINGER = globalThis.matchMedia?.("(pointer: coarse)").matches ? 22 : 15;  // px: half of what a hand hits

/* ------------------------------------------------------------------------------------------ state and address */

const written = numbers => numbers.map(number => String(+number.toFixed(4))).join(",");
const numbersOf = text => text.split(",").map(word => {
  if (word.trim() === "" || !Number.isFinite(+word)) {
    throw new Error(`numbers with commas between them are expected, not "${text}"`);
  }
  return +word;
});

function readPriors(text) {
  if (!/^[\d.]/.test(text)) return text;
  const [laid, ratios] = text.split(":"), [strides, scale] = laid.split("x");
  const own = {scale: scale ? numbersOf(scale)[0] : null, ratios: ratios ? numbersOf(ratios) : [1]};
  return {strides: numbersOf(strides), ...own};
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
  if (size.length !== 2 || !size.every(side => side >= 1 && side <= LARGEST)) {
    throw new Error(`size must be two sides of 1 to ${LARGEST} px, got ${size}`);
  }
  if (objects.length > MOST_OBJECTS) throw new Error(`objects must be at most ${MOST_OBJECTS}, got ${objects.length}`);
  const bad = objects.find(([x1, y1, x2, y2]) => !(x1 < x2 && y1 < y2));
  if (bad) throw new Error(`objects must have x1 < x2 and y1 < y2, got ${bad}`);
  if (rules.length > MOST_TOLD) throw new Error(`rules must be at most ${MOST_TOLD}, got ${rules.length}`);
}

function writeState(state) {
  const fields = {size: written(state.size), priors: writePriors(state.priors),
                  objects: state.objects.map(written).join(";"), rules: state.rules.join(";"),
                  chosen: state.chosen, panel_rule: state.panel_rule, heat: state.heat};
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
  state.chosen = count ? within(state.chosen ?? 0, 0, count - 1) : null;
  if (!state.rules.includes(state.panel_rule)) state.panel_rule = state.rules[0] ?? null;
  return state;
}

/* ------------------------------------------------------------------------------------------ words and places */

const px = value => String(+value.toFixed(1));
const short = value => Math.abs(value) >= 1000 ? value.toFixed(0) : String(+value.toPrecision(3));
const within = (value, low, high) => Math.min(Math.max(value, low), high);
const many = (count, one, more) => `${count} ${count === 1 ? one : more ?? one + "s"}`;

/* Where a prior stands: its centre, width and height. */
function geometry(levels) {
  return prior => {
    let level = levels.length - 1;
    while (level > 0 && levels[level].first > prior) level--;
    const {first, columns, sizes, stride, spacing, offset} = levels[level];
    const cell = Math.floor((prior - first) / sizes.length), [w, h] = sizes[(prior - first) % sizes.length];
    const x = offset * stride + (cell % columns) * spacing[0];
    const y = offset * stride + Math.floor(cell / columns) * spacing[1];
    return {x, y, w, h, level, cell};
  };
}
