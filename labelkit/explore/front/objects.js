/* What is done to the objects: one is chosen, changed, added, removed, or all are others. */

function choose(page, index, focus = true) {
  const {state, lens} = page;
  if (index === state.chosen) return;
  state.chosen = index;
  look(state, lens);
  changed(page);
  if (focus) hold(page, index);
}

const hold = ({views}, index) => views[0]?.groups[index]?.node.focus({preventScroll: true});

/* A box of at least one pixel, moved into the picture. */
function inPicture([x1, y1, x2, y2], [height, width]) {
  if (x2 - x1 < 1) x2 = x1 + 1;
  if (y2 - y1 < 1) y2 = y1 + 1;
  const dx = Math.min(Math.max(0, -x1), Math.max(0, width - x2)) + Math.min(0, Math.max(width - x2, -x1));
  const dy = Math.min(Math.max(0, -y1), Math.max(0, height - y2)) + Math.min(0, Math.max(height - y2, -y1));
  return [x1 + dx, y1 + dy, x2 + dx, y2 + dy];
}

function set(page, index, box) {
  page.state.objects[index] = inPicture(box, page.state.size);
  changed(page);
}

function add(page) {
  const {state, lens} = page;
  if (state.objects.length >= MOST_OBJECTS) return;
  const [x, y, w, h] = windowOf(state.size, lens), side = Math.min(NEW_SIDE, ...state.size);
  const [u, v] = [x + (w - side) / 2, y + (h - side) / 2].map(Math.round);
  state.objects.push([u, v, u + side, v + side]);
  state.chosen = state.objects.length - 1;
  changed(page, {rebuild: true});
  hold(page, state.chosen);
}

function remove(page) {
  if (page.state.chosen === null) return;
  page.state.objects.splice(page.state.chosen, 1);
  page.state = whole(page.state);
  look(page.state, page.lens);
  changed(page, {rebuild: true});
  hold(page, page.state.chosen);
}

function own(page, {picture, size, objects}) {
  page.picture = picture;
  page.state = whole({...page.state, size, objects, chosen: 0});
  page.lens.fits = false;
  changed(page, {rebuild: true});
}
