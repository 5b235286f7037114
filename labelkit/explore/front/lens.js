/* The lens over the picture, {zoom, focus, fits}: which part of it the views show. */

const centre = ([x1, y1, x2, y2]) => [(x1 + x2) / 2, (y1 + y2) / 2];

/* The part that is shown, [x, y, width, height] in the picture's pixels. */
function windowOf([height, width], {zoom, focus: [x, y]}) {
  const [w, h] = [width / zoom, height / zoom];
  return [within(x - w / 2, 0, width - w), within(y - h / 2, 0, height - h), w, h];
}

/* The chosen object into the window, where it is not in it with a margin. */
function look({size, objects, chosen}, lens) {
  if (chosen === null) return;
  const [x, y, w, h] = windowOf(size, lens), [x1, y1, x2, y2] = objects[chosen], edge = 0.08;
  const inside = x1 > x + edge * w && x2 < x + (1 - edge) * w && y1 > y + edge * h && y2 < y + (1 - edge) * h;
  if (!inside) lens.focus = centre(objects[chosen]);
}

function zoom(page, by) {
  const {lens, state: {objects, chosen}} = page;
  lens.zoom = within(lens.zoom * by, 1, 16);
  if (chosen !== null) lens.focus = centre(objects[chosen]);
  later(page);
}

/* Magnified to begin with, so that a finger can take hold of the chosen object. */
function fit({size: [height, width], objects, chosen}, lens, shown) {
  if (lens.fits || !shown) return;
  Object.assign(lens, {fits: true, zoom: 1, focus: [width / 2, height / 2]});
  if (chosen === null) return;
  const [x1, y1, x2, y2] = objects[chosen], side = Math.min(x2 - x1, y2 - y1) * shown / width;
  lens.zoom = Math.max(Math.min(Math.max(26 / side, 1), 4, width / (2 * (x2 - x1)), height / (2 * (y2 - y1))), 1);
  lens.focus = centre(objects[chosen]);
}
