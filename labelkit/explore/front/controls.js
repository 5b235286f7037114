/* Controls: which rules, priors, levels and heat map there are to choose from, and what is chosen. */

function controls(page) {
  const {nodes, state} = page;
  nodes.rules.replaceChildren(make("legend", {}, "rules"), ...ruleBoxes(page));
  nodes.priors.replaceChildren(...priorFields(page));
  const pairs = state.rules.map(rule => [rule, rule]);
  nodes.ofPanel.replaceChildren(field("rule", choice(pairs, state.panel_rule, "rule of the four questions", value => {
    page.state.panel_rule = value;
    changed(page);
  })));
  levels(page, true);
}

const known = ({offered, state}) => [...new Set([...offered.rules, ...state.rules])];

function ruleBoxes(page) {
  const {rules} = page.state, boxes = known(page).map(rule => {
    const checked = rules.includes(rule), disabled = !checked && rules.length >= MOST_RULES;
    const onchange = () => toggle(page, rule);
    return make("label", {}, make("input", {type: "checkbox", "aria-label": rule, checked, disabled, onchange}), rule);
  });
  if (!page.offered.own) return boxes;
  const words = make("input", {type: "text", placeholder: "rka k=5", size: 12, "aria-label": "a rule with arguments"});
  const onsubmit = event => {
    event.preventDefault();
    if (words.value.trim()) toggle(page, words.value.trim());
  };
  return [...boxes, make("form", {onsubmit}, words, make("button", {}, "add rule"))];
}

function toggle(page, rule) {
  const {rules} = page.state, on = rules.includes(rule);
  page.state.rules = on ? rules.filter(one => one !== rule)
    : [...new Set([...known(page), rule])].filter(one => one === rule || rules.includes(one));
  page.state = whole(page.state);
  changed(page, {rebuild: true});
}

function priorFields(page) {
  const {state: {priors}, offered} = page, own = typeof priors === "object";
  const presets = [...offered.priors.map(name => [name, name]), ["own", "own strides"]];
  const select = choice(presets, own ? "own" : priors, "priors", value => {
    page.state.priors = value === "own" ? {strides: [4, 8, 16], scale: 4, ratios: [1]} : value;
    page.level = null;
    changed(page, {rebuild: true});
  });
  if (!own) return [field("priors", select)];
  const onchange = event => guarded(page, () => ownStrides(page, event.target.value.replace(/\s/g, "")));
  return [field("priors", select), field("strides x scale : ratios", make("input",
    {type: "text", size: 14, value: writePriors(priors), "aria-label": "strides, scale and ratios", onchange}))];
}

function ownStrides(page, text) {
  const found = readPriors(text);
  if (typeof found === "string") {
    throw new Error("own strides are written as 4,8 for points or 4,8x4:0.5,1 for anchors");
  }
  page.state.priors = found;
  page.level = null;
  changed(page);
}

/* Which level and which similarity are shown; the list of levels follows the answer. */
function levels(page, force = false) {
  const {nodes: {shown}, offered: {similarities}, state} = page;
  const strides = (page.answer?.priors.levels ?? []).map(({stride}) => stride), key = strides.join();
  if (!force && shown.dataset.key === key) return;
  shown.dataset.key = key;
  if (page.level !== null && page.level >= strides.length) page.level = null;
  const offered = [["all", "all"], ...strides.map((stride, i) => [String(i), `stride ${stride}`])];
  const level = page.level === null ? "all" : String(page.level);
  shown.replaceChildren(field("level", choice(offered, level, "level", value => {
    page.level = value === "all" ? null : +value;
    later(page);
  })));
  if (!similarities.length) return;
  const heats = [["", "none"], ...similarities.map(name => [name, name])];
  shown.append(field("heat map", choice(heats, state.heat ?? "", "heat map", value => {
    page.state.heat = value || null;
    changed(page);
  })));
}
