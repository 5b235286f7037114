// The explorer of labelkit: which priors learn which object, while one drags it.
//
// labelkitExplorer.mount(element, scene, image, ask, options) draws `scene` (labelkit/explore/state.py) into `element`
// and asks `ask(question)`, a promise of an answer (labelkit/explore/question.py), after every change.
// options: {rules, priors, similarities, scenes, files, own, url, changed}. Returns a function that takes it down.
// element.labelkit = {state(), answer(), settled(), swept(), painted} is for tests and measurements.
// `page` is one mounted explorer; the other parts' functions get it, or what they need of it. It holds what is asked
// (state, of what is offered) and known (answer; `place` tells where a prior stands), how that is shown (picture,
// level, axis, lens, colours) and on what (nodes, views), what a hand holds (drag), and what is left to paint (frame;
// `shown` is what stands there already, `waiting` who is told when all is painted).

function mount(element, scene, image, ask, options = {}) {
  const page = {
    offered: {rules: scene.rules ?? [], priors: ["retinanet", "fcos", "course-anchors", "course-points"],
              similarities: [], scenes: {}, files: true, own: false, url: false, changed: () => {}, ...options},
    state: whole(scene), answer: null, place: null,
    picture: null, level: null, axis: "x", lens: {zoom: 1, focus: [0, 0], fits: false},
    views: [], colours: {}, drag: null,
    frame: 0, waiting: [], shown: {charts: true, table: "", panels: ""},
  };
  page.nodes = layout(page);
  page.asking = asking(page, ask);
  element.replaceChildren(page.nodes.root);
  page.told = element.labelkit = told(page);
  const back = () => guarded(page, () => restore(page)), still = listen(page, back);
  theme(page);
  if (image) guarded(page, () => unveil(page, image, scene.size));
  changed(page, {rebuild: true});
  if (page.offered.url) back();
  return () => {
    still();
    clearTimeout(page.asking.timer);
    cancelAnimationFrame(page.frame);
    page.frame = -1;  // an answer that is still to come paints nothing
    page.asking.quietly = false;  // and no curve is asked for
    element.replaceChildren();
  };
}

function told(page) {
  const {line, curves} = page.asking, known = ([, count]) => count !== undefined;
  const painted = () => new Promise(resolve => {
    page.waiting.push(resolve);
    later(page);
  });
  return {
    state: () => whole(page.state),
    answer: () => page.answer,
    painted: 0,
    settled: () => line.idle() && !page.frame ? Promise.resolve() : painted(),
    swept: () => page.state.rules.every(rule => curves.curve(page.state, rule, page.axis).every(known)),
  };
}

/* Follows the window, its theme and its address; returns a function that ends it. */
function listen(page, back) {
  const follow = () => theme(page), dark = matchMedia("(prefers-color-scheme: dark)");
  // A widget is mounted before it stands in the page, where it has no colours yet: its first size comes with them.
  const resized = new ResizeObserver(follow), themed = new MutationObserver(follow);
  resized.observe(page.nodes.root);
  dark.addEventListener("change", follow);
  const named = {attributes: true, attributeFilter: ["data-theme", "data-mode", "data-jp-theme-light"]};
  for (const node of [document.documentElement, document.body]) themed.observe(node, named);
  if (page.offered.url) globalThis.addEventListener("hashchange", back);
  return () => {
    resized.disconnect();
    themed.disconnect();
    dark.removeEventListener("change", follow);
    globalThis.removeEventListener("hashchange", back);
  };
}

function theme(page) {
  const {probe} = page.nodes;
  for (const name of ["ground", "ink", "faint", "disc", "blue", "red", "orange", "grey"]) {
    probe.style.color = `var(--lkx-${name})`;
    page.colours[name] = getComputedStyle(probe).color;
  }
  later(page);
}

/* The scene that the address names. */
function restore(page) {
  const found = readState(location.hash), {state} = page;
  if (!Object.keys(found).length || writeState(state) === location.hash.slice(1)) return;
  if (found.size && String(found.size) !== String(state.size)) page.picture = null;
  page.state = whole({...state, ...found});
  page.lens.fits = false;
  changed(page, {rebuild: true});
}

async function unveil(page, image, size) {
  const picture = await decoded(image, "the picture");
  if (String(page.state.size) === String(size)) page.picture = picture;  // or else another scene has come meanwhile
  later(page);
}

/* All painting is done once a frame. */
function later(page) {
  page.frame ||= requestAnimationFrame(() => paint(page));
}

function paint(page) {
  const {state, lens, views, answer, asking, shown} = page;
  page.frame = 0;
  fit(state, lens, views[0]?.stage.clientWidth ?? 0);
  const window = windowOf(state.size, lens), fresh = answer && answer.question.objects.length === state.objects.length;
  for (const one of views) paintView(page, one, window, fresh);
  paintPanels(page, fresh);
  paintTable(page);
  if (shown.charts) drawCharts(page);
  shown.charts = false;
  if (answer) page.told.painted = answer.number;
  if (asking.line.idle()) for (const tell of page.waiting.splice(0)) tell();
}
