/* What stands on the page from beginning to end; the other parts fill it. */

let mounted = 0;

function layout(page) {
  const span = () => make("span", {class: "lkx-field"});
  const nodes = {
    fault: make("p", {class: "lkx-fault", role: "alert", hidden: true}),
    say: make("p", {class: "lkx-say", role: "status", "aria-live": "polite"}),
    stages: make("div", {class: "lkx-views"}),
    rules: make("fieldset", {class: "lkx-rules"}), priors: span(), shown: span(), ofPanel: span(),
    panels: make("div", {class: "lkx-panels"}), story: make("p", {class: "lkx-story"}),
    charts: make("div", {class: "lkx-charts"}), table: make("table"), probe: make("i", {hidden: true}),
  };
  const {fault, say, stages, ofPanel, panels, story, charts, table, probe} = nodes;
  nodes.root = make("div", {class: "lkx", id: `lkx-${++mounted}`}, lead(), fault, say, stages,
    tools(page), settings(page, nodes),
    section("Four questions for the chosen object", ofPanel, panels, story),
    make("div", {class: "lkx-two"},
      section("Positives of the chosen object, were it shifted", shiftField(page), charts),
      section("Positives of every object", make("div", {class: "lkx-scroll"}, table))),
    probe);
  return nodes;
}

const section = (title, ...children) => make("section", {}, make("h3", {}, title), ...children);

function lead() {
  return make("p", {class: "lkx-lead"}, make("b", {}, "Which places of the network learn which object? "),
    "Every grey dot is a place that can report an object. A rule decides which of them learn to: the blue ones. " +
    "Drag an object and watch; one that no place learns is filled and marked 0.");
}

function tools(page) {
  const button = (text, title, act) => make("button", {type: "button", title, "aria-label": title, onclick: act}, text);
  return make("div", {class: "lkx-bar lkx-tools"},
    button("+ object", "add an object", () => add(page)),
    button("− object", "delete the chosen object", () => remove(page)),
    button("− zoom", "zoom out", () => zoom(page, 1 / 1.5)), button("+ zoom", "zoom in", () => zoom(page, 1.5)),
    make("span", {class: "lkx-keys"},
      "Tab chooses, arrows move (shift: 8 px), alt with arrows or + and − resize, Delete removes"));
}

function settings(page, {rules, priors, shown}) {
  const {scenes, files} = page.offered, more = [];
  if (Object.keys(scenes).length) more.push(field("scene", sceneChoice(page)));
  if (files) more.push(field("own picture, COCO file", fileInput(page)));
  return make("details", {class: "lkx-set", open: matchMedia("(min-width: 701px)").matches},
    make("summary", {}, files ? "rules, priors, own picture" : "rules, priors"),
    make("div", {class: "lkx-bar"}, rules, make("div", {class: "lkx-fields"}, priors, shown, ...more)));
}

function sceneChoice(page) {
  const {scenes} = page.offered, names = Object.keys(scenes).map(name => [name, name]);
  return choice([["", "choose …"], ...names], "", "scene", name => {
    if (name) own(page, {...scenes[name], picture: null});
  });
}

function fileInput(page) {
  const input = make("input", {type: "file", multiple: true, accept: "image/*,.json",
    "aria-label": "own picture, COCO file, or both",
    onchange: () => guarded(page, async () => own(page, await fromFiles([...input.files])))});
  return input;
}

function shiftField(page) {
  return field("shift", choice([["x", "to the right"], ["y", "downwards"]], "x", "direction of the shift", value => {
    page.axis = value;
    rest(page);
  }));
}
