/* Hands: what pointers and keys do on a view. */

const STEPS = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]};

function down(page, event, width) {
  const {state, lens} = page, target = event.target.closest("[data-object]");
  if (!target || event.button > 0) return;
  const svg = target.ownerSVGElement, {corner, object} = target.dataset, s = width / windowOf(state.size, lens)[2];
  const index = corner === undefined ? smallestAt(event, svg, s, state, lens) ?? +object : state.chosen;
  event.preventDefault();
  page.nodes.root.classList.add("lkx-hand");
  if (index !== state.chosen) {
    state.chosen = index;
    changed(page);
  }
  hold(page, index);
  const {pointerId: id, clientX, clientY} = event;
  page.drag = {index, id, corner, from: [clientX, clientY], box: [...state.objects[index]], s};
  svg.setPointerCapture(id);
}

/* The object that is meant at this place: the smallest that holds it, or else the nearest within a finger's reach. */
function smallestAt({clientX, clientY}, svg, s, {size, objects, chosen}, lens) {
  const {left, top} = svg.getBoundingClientRect(), [x, y] = windowOf(size, lens);
  const at = [(clientX - left) / s + x, (clientY - top) / s + y];
  const off = (low, high, place) => Math.max(0, low - place, place - high) * s;
  const ranked = objects.map(([x1, y1, x2, y2], i) => {
    const away = Math.max(off(x1, x2, at[0]), off(y1, y2, at[1]));
    return {i, away, area: (x2 - x1) * (y2 - y1), other: i !== chosen};
  }).filter(({away}) => away <= FINGER);
  ranked.sort((a, b) => a.away - b.away || a.area - b.area || a.other - b.other);
  return ranked[0]?.i;
}

function move(page, event) {
  const {drag, state} = page;
  if (!drag || event.pointerId !== drag.id) return;
  const by = [event.clientX - drag.from[0], event.clientY - drag.from[1]].map(way => Math.round(way / drag.s));
  const box = dragged(drag, by, state.size), last = state.objects[drag.index];
  if (box.some((side, i) => side !== last[i])) set(page, drag.index, box);
}

/* The box that was taken hold of, after `by`: all of it is moved, or one corner. */
function dragged({box: [x1, y1, x2, y2], corner}, [dx, dy], [height, width]) {
  if (corner === undefined) return [x1 + dx, y1 + dy, x2 + dx, y2 + dy];
  if (corner & 1) x2 = within(x2 + dx, x1 + 1, width); else x1 = Math.max(Math.min(x1 + dx, x2 - 1), 0);
  if (corner & 2) y2 = within(y2 + dy, y1 + 1, height); else y1 = Math.max(Math.min(y1 + dy, y2 - 1), 0);
  return [x1, y1, x2, y2];
}

function up(page, event) {
  if (!page.drag || event.pointerId !== page.drag.id) return;
  page.drag = null;
  look(page.state, page.lens);
  later(page);
}

function key(page, event) {
  const {state} = page;
  page.nodes.root.classList.remove("lkx-hand");
  if (event.ctrlKey || event.metaKey || state.chosen === null) return;
  const box = pressed(event, state.objects[state.chosen], state.size);
  if (box) set(page, state.chosen, box);
  else if (event.key === "Delete" || event.key === "Backspace") remove(page);
  else return;
  event.preventDefault();
  if (STEPS[event.key]) look(state, page.lens);
}

/* The box that a key makes of a box; null where the key says nothing about it. */
function pressed({key, altKey, shiftKey}, [x1, y1, x2, y2], [height, width]) {
  const [dx, dy] = (STEPS[key] ?? [0, 0]).map(step => step * (shiftKey ? 8 : 1));
  if (STEPS[key] && altKey) return [x1, y1, within(x2 + dx, x1 + 1, width), within(y2 + dy, y1 + 1, height)];
  if (STEPS[key]) return [x1 + dx, y1 + dy, x2 + dx, y2 + dy];
  if (key === "+" || key === "=") return [x1, y1, Math.min(x2 + 1, width), Math.min(y2 + 1, height)];
  if (key === "-" || key === "_") return [x1, y1, Math.max(x2 - 1, x1 + 1), Math.max(y2 - 1, y1 + 1)];
  return null;
}
