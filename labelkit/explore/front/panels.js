/* Below the views: the four questions and their story, the curves, the table, and the sentence above it all. */

function sentence(page) {
  const {objects, rules, chosen} = page.state;
  if (chosen === null) return "There is no object: add one.";
  const [x1, y1, x2, y2] = objects[chosen];
  const counts = rules.map((rule, i) => {
    const n = count(page, rule, chosen);
    return i ? `${rule} ${n ?? "…"}` : `${rule} gives it ${n === undefined ? "…" : many(n, "place")}`;
  });
  return `Object ${chosen}, ${px(x2 - x1)} × ${px(y2 - y1)} px at (${px(x1)}, ${px(y1)}): ${counts.join(", ")}.`;
}

function paintPanels(page, fresh) {
  const {state, answer, picture, place, colours, shown, nodes: {panels, story}} = page;
  const found = fresh && answer.question.chosen === state.chosen ? answer.panels : null;
  panels.hidden = state.chosen === null;
  story.textContent = state.chosen === null ? "" : found?.story ?? story.textContent;
  const key = `${answer?.number} ${panels.clientWidth} ${colours.ground} ${Boolean(picture)}`;
  if (!found || key === shown.panels) return;
  shown.panels = key;
  const window = aroundCandidates(found, state, place);
  fourQuestions(found, state, place, colours).forEach(([title, text, painted], i) => {
    const canvas = panelOf(panels, i, title, text), paper = sheet(canvas, window, canvas.clientWidth, colours.ground);
    canvas.style.height = `${paper.height}px`;
    if (i !== 2 && picture) {
      paper.c.globalAlpha = 0.45;
      paintPicture(paper, state, picture, colours);
      paper.c.globalAlpha = 1;
    }
    painted(paper);
  });
}

function panelOf(panels, i, title, text) {
  if (!panels.children[i]) panels.append(make("figure", {}, make("figcaption"), make("canvas", {role: "img"})));
  const [caption, canvas] = panels.children[i].children;
  caption.replaceChildren(make("b", {}, `${i + 1}. ${title}`), ` ${text}`);
  canvas.setAttribute("aria-label", `${title} ${text}`);
  return canvas;
}

/* The part of the picture that holds the chosen object and its candidates, those within six sides of it. */
function aroundCandidates({candidates}, {size: [height, width], objects, chosen}, place) {
  const [x1, y1, x2, y2] = objects[chosen], far = 6 * Math.max(x2 - x1, y2 - y1, 4);
  let [left, top, right, bottom] = [x1, y1, x2, y2];
  for (const [prior] of candidates) {
    const {x, y} = place(prior);
    if (Math.abs(x - (x1 + x2) / 2) > far || Math.abs(y - (y1 + y2) / 2) > far) continue;
    [left, top, right, bottom] = [Math.min(left, x), Math.min(top, y), Math.max(right, x), Math.max(bottom, y)];
  }
  const share = Math.max((right - left) / width, (bottom - top) / height) * 1.2 + 0.04;
  const [w, h] = [width * share, height * share];
  return [(left + right - w) / 2, (top + bottom - h) / 2, w, h];
}

function drawCharts({state, asking: {curves}, axis, nodes: {charts}}) {
  if (state.chosen === null) return charts.replaceChildren();
  const found = state.rules.map(rule => curves.curve(state, rule, axis));
  const highest = Math.max(1, ...found.flat().map(([, n]) => n ?? 0));
  charts.replaceChildren(...state.rules.map((rule, i) => chart(rule, i, found[i], highest)));
}

function paintTable(page) {
  const {state: {objects, rules, chosen}, answer, shown, nodes: {table}} = page;
  const all = rules.map(rule => answer?.rules[rule]?.per_object);
  const key = JSON.stringify([objects, rules, chosen, all]);
  if (key === shown.table) return;
  shown.table = key;
  const head = text => make("th", {scope: "col"}, text);
  const sum = counts => String(counts?.reduce((a, b) => a + b, 0) ?? "");
  const sums = all.map(counts => make("td", {}, sum(counts)));
  table.replaceChildren(
    make("thead", {}, make("tr", {}, ...["object", "px", ...rules].map(head))),
    make("tbody", {}, ...objects.map((_, i) => row(page, i))),
    make("tfoot", {}, make("tr", {}, make("th", {scope: "row"}, "all"), make("td"), ...sums)));
}

function row(page, i) {
  const {objects, rules, chosen} = page.state, [x1, y1, x2, y2] = objects[i];
  const cell = n => make("td", n === 0 ? {class: "lkx-warn"} : {}, n === undefined ? "" : String(n));
  return make("tr", i === chosen ? {"aria-current": "true"} : {},
    make("th", {scope: "row"}, make("button", {type: "button", onclick: () => choose(page, i)}, `object ${i}`)),
    make("td", {}, `${px(x2 - x1)} × ${px(y2 - y1)}`), ...rules.map(rule => cell(count(page, rule, i))));
}
