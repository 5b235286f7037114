/* Painting: pictures, heat, cells, labels and the four questions. Nothing here knows the page. */

const CIVIDIS = [[0, 34, 78], [18, 53, 112], [59, 73, 108], [87, 93, 109], [112, 113, 115], [138, 134, 120],
                 [165, 156, 116], [195, 179, 105], [225, 204, 85], [254, 232, 56]];

function heatColour(share) {
  const place = within(share, 0, 1) * (CIVIDIS.length - 1), low = Math.min(Math.floor(place), CIVIDIS.length - 2);
  const mixed = CIVIDIS[low].map((part, i) => Math.round(part + (CIVIDIS[low + 1][i] - part) * (place - low)));
  return `rgb(${mixed.join(",")})`;
}

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
  const all = labels.positive.map(([prior, gt]) => ({...place(prior), gt}));
  const shown = all.filter(({level}) => only === null || only === level);
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
  for (const {x, y, gt} of shown) {
    mark(c, "circle", ...at(x, y), gt === state.chosen ? 4 : 3.2, colours.blue, colours.ground);
  }
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

/* By a loop: there may be more candidates than a call takes arguments. */
function extent(values) {
  let low = Infinity, high = -Infinity;
  for (const value of values) [low, high] = [Math.min(low, value), Math.max(high, value)];
  return [low, high];
}

/* The four questions for one object: a heading, a sentence with its numbers, and how the panel is painted. */
function fourQuestions(panels, state, place, colours) {
  const {candidates, bar, chosen, winners, losers} = panels, spots = spotsOf(candidates, place), lost = new Map();
  const [low, high] = extent(candidates.map(([, value]) => value)), mine = new Set([state.chosen]);
  for (const [, rival] of losers) lost.set(rival, (lost.get(rival) ?? 0) + 1);
  const to = rival => rival < 0 ? "nobody" : `object ${rival}`;
  const rivals = [...lost].map(([rival, count]) => `${count} to ${to(rival)}`).join(", ");
  const span = low === high ? `value ${short(low)}` : `values from ${short(low)} to ${short(high)}`;
  return [
    ["Who may match?", many(candidates.length, "candidate"), paper => {
      paintSpots(paper, spots, () => 2.6, () => colours.ink, colours.ground);
      paintObjects(paper, state, colours, mine);
    }],
    ["How well?", candidates.length ? span : "nobody to compare", paper => {
      const share = ({value}) => high > low ? (value - low) / (high - low) : 1;
      const ordered = [...spots].sort((a, b) => a.value - b.value);
      paintSpots(paper, ordered, spot => 2.2 + 4.4 * share(spot), spot => heatColour(share(spot)), colours.ground);
      paintObjects(paper, state, colours, mine);
    }],
    ["Who is chosen?", `${bar === null ? "no bar" : "bar " + short(bar)}: ${many(chosen.length, "passes", "pass")}`,
     paper => paintBar(paper, panels, colours)],
    ["Who wins?", `${many(winners.length, "wins", "win")}${rivals ? `, lost: ${rivals}` : ""}`, paper => {
      paintObjects(paper, state, colours, new Set([state.chosen, ...lost.keys()]));
      paintLosers(paper, losers, state, place, colours);
      paintWinners(paper, winners, place, colours);
    }],
  ];
}

/* Several shapes stand at one place: the best of them is shown. */
function spotsOf(candidates, place) {
  const spots = new Map();
  for (const [prior, value] of candidates) {
    const spot = place(prior), key = `${spot.x} ${spot.y}`;
    if (!spots.has(key) || spots.get(key).value < value) spots.set(key, {...spot, value});
  }
  return [...spots.values()];
}

function paintSpots({c, at}, spots, size, colour, ground) {
  for (const spot of spots) mark(c, "circle", ...at(spot.x, spot.y), size(spot), colour(spot), ground);
}

/* With a line from each to the object that took it. */
function paintLosers({c, at}, losers, state, place, colours) {
  for (const [prior, rival] of losers) {
    const {x, y} = place(prior), [x1, y1, x2, y2] = state.objects[rival] ?? [x, y, x, y];
    c.strokeStyle = colours.orange;
    c.lineWidth = 1;
    c.beginPath();
    c.moveTo(...at(x, y));
    c.lineTo(...at((x1 + x2) / 2, (y1 + y2) / 2));
    c.stroke();
    mark(c, "diamond", ...at(x, y), 4.5, colours.orange, colours.ground);
  }
}

function paintWinners({c, s, at}, winners, place, colours) {
  for (const prior of winners) {
    const {x, y, w, h} = place(prior), [u, v] = at(x, y);
    c.strokeStyle = colours.blue;
    c.lineWidth = 0.8;
    if (w > 0 && winners.length < 60) c.strokeRect(u - w * s / 2, v - h * s / 2, w * s, h * s);
    mark(c, "circle", u, v, 4, colours.blue, colours.ground);
  }
}
