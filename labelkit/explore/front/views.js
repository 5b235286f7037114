/* Views: for every rule the picture with its objects, built anew for other rules or objects, and painted. */

function build(page) {
  const {nodes: {root, stages}, state} = page;
  const held = root.contains(document.activeElement) ? document.activeElement.getAttribute("aria-label") : null;
  page.views = state.rules.map((rule, index) => view(page, rule, index === 0));
  stages.replaceChildren(...page.views.map(one => one.node));
  stages.style.setProperty("--lkx-columns", String(within(page.views.length, 1, 4)));
  controls(page);
  const again = [...root.querySelectorAll("input, select")].find(one => one.getAttribute("aria-label") === held);
  if (held) again?.focus({preventScroll: true});
  later(page);
}

function view(page, rule, first) {
  const canvas = make("canvas", {"aria-hidden": "true"}), caption = make("figcaption");
  const named = {role: "application", "aria-label": "the picture and its objects"};
  const groups = page.state.objects.map((_, i) => group(page, i, first)), handles = [0, 1, 2, 3].map(handle);
  const svg = draw("svg", first ? named : {"aria-hidden": "true"}, ...groups.map(({node}) => node), ...handles);
  const stage = make("div", {class: "lkx-stage"}, canvas, svg);
  const node = make("figure", {class: "lkx-view"}, caption, stage);
  svg.addEventListener("pointerdown", event => down(page, event, stage.clientWidth));
  svg.addEventListener("pointermove", event => move(page, event));
  for (const name of ["pointerup", "pointercancel"]) svg.addEventListener(name, event => up(page, event));
  if (first) svg.addEventListener("keydown", event => key(page, event));
  return {rule, node, stage, canvas, svg, caption, groups, handles, first};
}

function group(page, i, first) {
  const box = draw("rect", {class: "lkx-box"}), name = draw("text");
  const hit = draw("rect", {class: "lkx-hit", "data-object": i});
  const node = draw("g", first ? {tabindex: 0, role: "button"} : {}, box, hit, name);
  if (first) node.addEventListener("focus", () => choose(page, i, false));
  return {node, box, hit, name};
}

function handle() {
  const hit = draw("circle", {r: FINGER, class: "lkx-hit"});
  const grip = draw("rect", {width: 9, height: 9, class: "lkx-grip"});
  return draw("g", {class: "lkx-handle"}, draw("line"), hit, grip);
}

const count = ({answer}, rule, object) => answer?.rules[rule]?.per_object[object];

/* fresh: whether the answer is about as many objects as there are now. */
function paintView(page, {rule, canvas, svg, stage, caption, groups, handles, first}, window, fresh) {
  const {state, answer, colours} = page, width = stage.clientWidth, labels = fresh ? answer.rules[rule] : null;
  const paper = sheet(canvas, window, width, colours.ground);
  stage.style.height = `${paper.height + stage.offsetHeight - stage.clientHeight}px`;  // with its border
  paintStage(page, paper, labels, fresh);
  caption.replaceChildren(make("b", {}, rule), ...(labels ? totals(labels, state.objects.length) : []));
  svg.setAttribute("viewBox", `0 0 ${width} ${paper.height}`);
  groups.forEach((group, i) => {
    placeObject(group, state.objects[i], paper, labels?.per_object[i], i === state.chosen);
    if (first) put(group.node, {"aria-label": named(page, i)});
  });
  placeHandles(handles, state, paper);
}

function paintStage({state, answer, picture, level, place, colours}, paper, labels, fresh) {
  paintPicture(paper, state, picture, colours);
  const all = answer?.priors.levels;
  if (answer?.heat && state.heat && fresh) {
    const span = heatSpan(answer, place);
    paintHeat(paper, all[level ?? span.level], answer.heat, [span.low, span.high]);
  }
  if (all) paintCells(paper, all, level, colours.grey);
  paintEdges(paper, state, labels?.per_object ?? [], colours);
  if (labels) paintLabels(paper, labels, place, state, level, colours);
}

/* From the least value of the heat map, at most 0, to the best one, and the level that has it. */
function heatSpan(answer, place) {
  if (answer.span) return answer.span;
  const {heat} = answer;
  let best = 0;
  for (let i = 1; i < heat.length; i++) if (heat[i] > heat[best]) best = i;
  const low = heat.reduce((least, value) => Math.min(least, value), 0);
  answer.span = {low, high: Math.max(heat[best], low + 1e-6), level: place(best).level};
  return answer.span;
}

function totals({positive, per_object}, objects) {
  const without = per_object.filter(n => n === 0).length;
  const none = without ? `${without} of ${objects} get none` : objects ? `all ${objects} get some` : "";
  return [" ", make("span", {class: "lkx-total"}, `${many(positive.length, "positive")}, `),
          make("span", {class: without ? "lkx-warn" : ""}, none)];
}

function placeObject({node, box, hit, name}, [x1, y1, x2, y2], {at, s}, n, chosen) {
  const [u, v] = at(x1, y1), [w, h] = [(x2 - x1) * s, (y2 - y1) * s];
  const more = [Math.max(0, FINGER - w / 2), Math.max(0, FINGER - h / 2)];
  put(box, {x: px(u), y: px(v), width: px(w), height: px(h)});
  put(hit, {x: px(u - more[0]), y: px(v - more[1]), width: px(w + 2 * more[0]), height: px(h + 2 * more[1])});
  put(name, {x: px(u + w / 2), y: px(v > 16 ? v - 5 : v + h + 15)});
  name.textContent = n === undefined ? "" : String(n);
  node.setAttribute("class", `lkx-object${chosen ? " lkx-chosen" : ""}${n === 0 ? " lkx-none" : ""}`);
}

function named(page, i) {
  const {objects, rules} = page.state, [x1, y1, x2, y2] = objects[i];
  const counts = rules.map(rule => `${rule} ${count(page, rule, i) ?? "unknown"}`).join(", ");
  return `object ${i}, ${px(x2 - x1)} by ${px(y2 - y1)} pixels at ${px(x1)}, ${px(y1)}; positives: ${counts}`;
}

function placeHandles(handles, {objects, chosen}, {at, s}) {
  const box = objects[chosen];
  handles.forEach((handle, corner) => {
    handle.style.display = box ? "" : "none";
    if (!box) return;
    const [u, v] = at(box[corner & 1 ? 2 : 0], box[corner & 2 ? 3 : 1]);
    const away = side => AWAY + Math.max(0, FINGER - side * s / 2);
    const x = u + (corner & 1 ? 1 : -1) * away(box[2] - box[0]), y = v + (corner & 2 ? 1 : -1) * away(box[3] - box[1]);
    const [link, hit, grip] = handle.children;
    put(link, {x1: px(u), y1: px(v), x2: px(x), y2: px(y)});
    put(hit, {cx: px(x), cy: px(y), "data-object": chosen, "data-corner": corner});
    put(grip, {x: px(x - 4.5), y: px(y - 4.5)});
  });
}
