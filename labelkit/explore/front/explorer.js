/* The explorer of labelkit: which priors learn which object, while one drags it.

   labelkitExplorer.mount(element, scene, image, ask, options) draws `scene` (as labelkit/explore/state.py holds it) into
   `element`, and asks `ask(question)`, a promise of an answer (labelkit/explore/question.py), after every change.
   options: {rules, priors, similarities, scenes, files, own, url, changed}. Returns a function that takes it all down again.
   element.labelkit = {state(), answer(), settled(), swept(), painted} is for tests and measurements. */

let mounted = 0;

function mount(element, scene, image, ask, options = {}) {
  const offered = {rules: scene.rules ?? [], priors: ["retinanet", "fcos", "course-anchors", "course-points"],
                   similarities: [], scenes: {}, files: true, own: false, url: false, changed: () => {}, ...options};
  const number = ++mounted, curves = sweeps();
  const ui = {zoom: 1, focus: [0, 0], level: null, axis: "x", picture: null, charts: true, table: "", panels: ""};
  let state = whole(scene), answer = null, place = null, views = [], frame = 0, quiet = 0, quietly = false, fits = false;
  let colours = {}, drag = null, painted = [];

  /* --- what stands on the page --- */
  const say = make("p", {class: "lkx-say", role: "status", "aria-live": "polite"});
  const fault = make("p", {class: "lkx-fault", role: "alert", hidden: true});
  const stages = make("div", {class: "lkx-views"}), panels = make("div", {class: "lkx-panels"});
  const story = make("p", {class: "lkx-story"}), charts = make("div", {class: "lkx-charts"}), table = make("table");
  const rules = make("fieldset", {class: "lkx-rules"}), priors = make("span", {class: "lkx-field"});
  const shown = make("span", {class: "lkx-field"}), ofPanel = make("span", {class: "lkx-field"}), probe = make("i", {hidden: true});
  const button = (text, title, act) => make("button", {type: "button", title, "aria-label": title, onclick: act}, text);
  const files = make("input", {type: "file", multiple: true, accept: "image/*,.json", "aria-label": "own picture, COCO file, or both",
                               onchange: () => guarded(async () => own(await fromFiles([...files.files])))});
  const axis = choice([["x", "to the right"], ["y", "downwards"]], "x", "direction of the shift", value => {
    ui.axis = value;
    rest();
  });
  const scenes = Object.keys(offered.scenes);
  const named = scenes.length ? choice([["", "choose …"], ...scenes.map(name => [name, name])], "", "scene", name => {
    if (name) own({...offered.scenes[name], picture: null});
  }) : null;
  const root = make("div", {class: "lkx", id: `lkx-${number}`},
    make("p", {class: "lkx-lead"}, make("b", {}, "Which places of the network learn which object? "),
      "Every grey dot is a place that can report an object. A rule decides which of them learn to: the blue ones. Drag an object and watch; " +
      "one that no place learns is filled and marked 0."),
    fault, say, stages,
    make("div", {class: "lkx-bar lkx-tools"},
      button("+ object", "add an object", () => add()), button("− object", "delete the chosen object", () => remove()),
      button("− zoom", "zoom out", () => zoom(1 / 1.5)), button("+ zoom", "zoom in", () => zoom(1.5)),
      make("span", {class: "lkx-keys"}, "Tab chooses, arrows move (shift: 8 px), alt with arrows or + and − resize, Delete removes")),
    make("details", {class: "lkx-set", open: matchMedia("(min-width: 701px)").matches}, make("summary", {}, offered.files ? "rules, priors, own picture" : "rules, priors"), make("div", {class: "lkx-bar"}, rules, make("div", {class: "lkx-fields"}, priors, shown,
      ...(named ? [field("scene", named)] : []), ...(offered.files ? [field("own picture, COCO file", files)] : [])))),
    make("section", {}, make("h3", {}, "Four questions for the chosen object"), ofPanel, panels, story),
    make("div", {class: "lkx-two"},
      make("section", {}, make("h3", {}, "Positives of the chosen object, were it shifted"), field("shift", axis), charts),
      make("section", {}, make("h3", {}, "Positives of every object"), make("div", {class: "lkx-scroll"}, table))),
    probe);

  function field(name, control) {
    return make("label", {class: "lkx-field"}, make("span", {}, name), control);
  }

  /* --- asking --- */
  const line = questioner(ask, () => quietly ? curves.next(state, ui.axis, redraw, refused) : null);

  function changed({rebuild = false} = {}) {
    ui.kept = false;
    if (rebuild) build();
    const {size, priors, objects, rules, chosen, panel_rule, heat} = state;
    const question = {size, priors, objects: objects.map(box => [...box]), rules: [...rules], chosen, panel_rule, heat, shift: null};
    line.put({question, heard: (found, id) => heard(found, question, id), refused});
    rest();
    later();
  }

  function rest() {
    quietly = false;
    clearTimeout(quiet);
    quiet = setTimeout(() => {
      quietly = true;
      line.wake();
      tell(line.idle());
      if (offered.url) remember();
      offered.changed(whole(state));
    }, QUIET);
    redraw();
  }

  function redraw() {
    ui.charts = true;
    later();
  }

  function heard(found, question, id) {
    answer = {...found, question, number: id};
    place = geometry(found.priors.levels);
    if (!ui.kept) fault.hidden = true;
    levels();
    tell(line.newest());
    later();
  }

  function remember() {
    try {
      history.replaceState(null, "", `#${writeState(state)}`);
    } catch { /* a frame without an address of its own */ }
  }

  /* In words, once nothing moves any more. */
  function tell(known) {
    if (quietly && known && say.textContent !== sentence()) say.textContent = sentence();
  }

  function refused(error) {
    later();
    fault.textContent = error.message;
    fault.hidden = false;
    quietly = false;
  }

  async function guarded(act) {
    try {
      await act();
    } catch (error) {
      refused(error);
      ui.kept = true;  // what was wrong with an address or a file is not said away by an answer to something else
    }
  }

  function sentence() {
    if (state.chosen === null) return "There is no object: add one.";
    const [x1, y1, x2, y2] = state.objects[state.chosen];
    const counts = state.rules.map((rule, i) => {
      const n = count(rule, state.chosen);
      return i ? `${rule} ${n ?? "…"}` : `${rule} gives it ${n === undefined ? "…" : many(n, "place")}`;
    });
    return `Object ${state.chosen}, ${px(x2 - x1)} × ${px(y2 - y1)} px at (${px(x1)}, ${px(y1)}): ${counts.join(", ")}.`;
  }

  const count = (rule, object) => answer?.rules[rule]?.per_object[object];

  /* --- changing the scene --- */
  function choose(index, focus = true) {
    if (index === state.chosen) return;
    state.chosen = index;
    look();
    changed();
    if (focus) hold(index);
  }

  const hold = index => views[0]?.groups[index]?.node.focus({preventScroll: true});

  function set(index, box) {
    const [height, width] = state.size, least = 1;
    let [x1, y1, x2, y2] = box;
    if (x2 - x1 < least) x2 = x1 + least;
    if (y2 - y1 < least) y2 = y1 + least;
    const dx = Math.min(Math.max(0, -x1), Math.max(0, width - x2)) + Math.min(0, Math.max(width - x2, -x1));
    const dy = Math.min(Math.max(0, -y1), Math.max(0, height - y2)) + Math.min(0, Math.max(height - y2, -y1));
    state.objects[index] = [x1 + dx, y1 + dy, x2 + dx, y2 + dy];
    changed();
  }

  function add() {
    if (state.objects.length >= MOST_OBJECTS) return;
    const [x, y, w, h] = frameOf(), side = Math.min(NEW_SIDE, ...state.size), [u, v] = [x + (w - side) / 2, y + (h - side) / 2].map(Math.round);
    state.objects.push([u, v, u + side, v + side]);
    state.chosen = state.objects.length - 1;
    changed({rebuild: true});
    hold(state.chosen);
  }

  function remove() {
    if (state.chosen === null) return;
    state.objects.splice(state.chosen, 1);
    state = whole(state);
    look();
    changed({rebuild: true});
    hold(state.chosen);
  }

  function own({picture, size, objects}) {
    ui.picture = picture;
    state = whole({...state, size, objects, chosen: 0});
    fits = false;
    changed({rebuild: true});
  }

  /* --- the window on the picture --- */
  function frameOf() {
    const [height, width] = state.size, [w, h] = [width / ui.zoom, height / ui.zoom];
    const x = Math.min(Math.max(ui.focus[0] - w / 2, 0), width - w), y = Math.min(Math.max(ui.focus[1] - h / 2, 0), height - h);
    return [x, y, w, h];
  }

  /* The chosen object into the window, where it is not in it with a margin. */
  function look() {
    if (state.chosen === null) return;
    const [x, y, w, h] = frameOf(), [x1, y1, x2, y2] = state.objects[state.chosen], edge = 0.08;
    const inside = x1 > x + edge * w && x2 < x + (1 - edge) * w && y1 > y + edge * h && y2 < y + (1 - edge) * h;
    if (!inside) ui.focus = [(x1 + x2) / 2, (y1 + y2) / 2];
  }

  function zoom(by) {
    ui.zoom = Math.min(Math.max(ui.zoom * by, 1), 16);
    if (state.chosen !== null) {
      const [x1, y1, x2, y2] = state.objects[state.chosen];
      ui.focus = [(x1 + x2) / 2, (y1 + y2) / 2];
    }
    later();
  }

  /* Magnified to begin with, so that a finger can take hold of the chosen object. */
  function fit(width) {
    if (fits || !width) return;
    fits = true;
    ui.zoom = 1;
    ui.focus = [state.size[1] / 2, state.size[0] / 2];
    if (state.chosen === null) return;
    const [x1, y1, x2, y2] = state.objects[state.chosen], side = Math.min(x2 - x1, y2 - y1) * width / state.size[1];
    ui.zoom = Math.min(Math.max(26 / side, 1), 4, state.size[1] / (2 * (x2 - x1)), state.size[0] / (2 * (y2 - y1)));
    ui.zoom = Math.max(ui.zoom, 1);
    ui.focus = [(x1 + x2) / 2, (y1 + y2) / 2];
  }

  /* --- hands --- */
  function down(event, width) {
    const target = event.target.closest("[data-object]");
    if (!target || event.button > 0) return;
    const svg = target.ownerSVGElement, s = width / frameOf()[2];
    const index = target.dataset.corner === undefined ? smallestAt(event, svg, s) ?? +target.dataset.object : state.chosen;
    event.preventDefault();
    root.classList.add("lkx-hand");
    if (index !== state.chosen) {
      state.chosen = index;
      changed();
    }
    hold(index);
    drag = {index, id: event.pointerId, corner: target.dataset.corner, from: [event.clientX, event.clientY], box: [...state.objects[index]], s};
    svg.setPointerCapture(event.pointerId);
  }

  /* The object that is meant at this place: the smallest that holds it, or else the nearest within a finger's reach. */
  function smallestAt({clientX, clientY}, svg, s) {
    const {left, top} = svg.getBoundingClientRect(), [x, y] = frameOf(), at = [(clientX - left) / s + x, (clientY - top) / s + y];
    const off = (low, high, place) => Math.max(0, low - place, place - high) * s;
    const ranked = state.objects.map(([x1, y1, x2, y2], i) => {
      return {i, away: Math.max(off(x1, x2, at[0]), off(y1, y2, at[1])), area: (x2 - x1) * (y2 - y1), other: i !== state.chosen};
    }).filter(({away}) => away <= FINGER);
    ranked.sort((a, b) => a.away - b.away || a.area - b.area || a.other - b.other);
    return ranked[0]?.i;
  }

  function move(event) {
    if (!drag || event.pointerId !== drag.id) return;
    const dx = Math.round((event.clientX - drag.from[0]) / drag.s), dy = Math.round((event.clientY - drag.from[1]) / drag.s);
    let [x1, y1, x2, y2] = drag.box;
    if (drag.corner === undefined) [x1, y1, x2, y2] = [x1 + dx, y1 + dy, x2 + dx, y2 + dy];
    else {
      if (drag.corner & 1) x2 = Math.min(Math.max(x2 + dx, x1 + 1), state.size[1]); else x1 = Math.max(Math.min(x1 + dx, x2 - 1), 0);
      if (drag.corner & 2) y2 = Math.min(Math.max(y2 + dy, y1 + 1), state.size[0]); else y1 = Math.max(Math.min(y1 + dy, y2 - 1), 0);
    }
    const box = state.objects[drag.index];
    if ([x1, y1, x2, y2].some((side, i) => side !== box[i])) set(drag.index, [x1, y1, x2, y2]);
  }

  function up(event) {
    if (!drag || event.pointerId !== drag.id) return;
    drag = null;
    look();
    later();
  }

  const STEPS = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]};

  function key(event) {
    root.classList.remove("lkx-hand");
    if (event.ctrlKey || event.metaKey || state.chosen === null) return;
    const [x1, y1, x2, y2] = state.objects[state.chosen], step = STEPS[event.key], by = event.shiftKey && step ? 8 : 1;
    const [height, width] = state.size;
    if (step && event.altKey) set(state.chosen, [x1, y1, Math.min(Math.max(x2 + step[0] * by, x1 + 1), width), Math.min(Math.max(y2 + step[1] * by, y1 + 1), height)]);
    else if (step) set(state.chosen, [x1 + step[0] * by, y1 + step[1] * by, x2 + step[0] * by, y2 + step[1] * by]);
    else if (event.key === "+" || event.key === "=") set(state.chosen, [x1, y1, Math.min(x2 + 1, width), Math.min(y2 + 1, height)]);
    else if (event.key === "-" || event.key === "_") set(state.chosen, [x1, y1, Math.max(x2 - 1, x1 + 1), Math.max(y2 - 1, y1 + 1)]);
    else if (event.key === "Delete" || event.key === "Backspace") remove();
    else return;
    event.preventDefault();
    if (step) look();
  }

  /* --- building: after a change of rules or of how many objects there are --- */
  function build() {
    const held = root.contains(document.activeElement) ? document.activeElement.getAttribute("aria-label") : null;
    views = state.rules.map((rule, index) => view(rule, index === 0));
    stages.replaceChildren(...views.map(one => one.node));
    stages.style.setProperty("--lkx-columns", String(Math.min(Math.max(views.length, 1), 4)));
    controls();
    if (held) [...root.querySelectorAll("input, select")].find(one => one.getAttribute("aria-label") === held)?.focus({preventScroll: true});
    later();
  }

  function view(rule, first) {
    const canvas = make("canvas", {"aria-hidden": "true"}), caption = make("figcaption");
    const svg = draw("svg", first ? {role: "application", "aria-label": "the picture and its objects"} : {"aria-hidden": "true"});
    const groups = state.objects.map((_, i) => {
      const box = draw("rect", {class: "lkx-box"}), hit = draw("rect", {class: "lkx-hit", "data-object": i}), name = draw("text");
      const node = draw("g", first ? {tabindex: 0, role: "button"} : {}, box, hit, name);
      if (first) node.addEventListener("focus", () => choose(i, false));
      return {node, box, hit, name};
    });
    const handles = [0, 1, 2, 3].map(corner => draw("g", {class: "lkx-handle"},
      draw("line"), draw("circle", {r: FINGER, class: "lkx-hit"}), draw("rect", {width: 9, height: 9, class: "lkx-grip"})));
    svg.append(...groups.map(({node}) => node), ...handles);
    const stage = make("div", {class: "lkx-stage"}, canvas, svg), node = make("figure", {class: "lkx-view"}, caption, stage);
    svg.addEventListener("pointerdown", event => down(event, stage.clientWidth));
    svg.addEventListener("pointermove", move);
    svg.addEventListener("pointerup", up);
    svg.addEventListener("pointercancel", up);
    if (first) svg.addEventListener("keydown", key);
    return {rule, node, stage, canvas, svg, caption, groups, handles, first};
  }

  function controls() {
    const known = [...new Set([...offered.rules, ...state.rules])];
    rules.replaceChildren(make("legend", {}, "rules"), ...known.map(rule => {
      const on = state.rules.includes(rule), box = make("input", {type: "checkbox", "aria-label": rule, checked: on, disabled: !on && state.rules.length >= MOST_RULES,
        onchange: () => toggle(rule, known)});
      return make("label", {}, box, rule);
    }));
    if (offered.own) {
      const words = make("input", {type: "text", placeholder: "rka k=5", size: 12, "aria-label": "a rule with arguments"});
      const form = make("form", {onsubmit: event => { event.preventDefault(); if (words.value.trim()) toggle(words.value.trim(), known); }},
        words, make("button", {}, "add rule"));
      rules.append(form);
    }
    const own = typeof state.priors === "object", presets = [...offered.priors.map(name => [name, name]), ["own", "own strides"]];
    const select = choice(presets, own ? "own" : state.priors, "priors", value => {
      state.priors = value === "own" ? {strides: [4, 8, 16], scale: 4, ratios: [1]} : value;
      ui.level = null;
      changed({rebuild: true});
    });
    priors.replaceChildren(field("priors", select));
    if (own) priors.append(field("strides x scale : ratios", make("input", {type: "text", size: 14, value: writePriors(state.priors),
      "aria-label": "strides, scale and ratios", onchange: event => guarded(() => {
        const found = readPriors(event.target.value.replace(/\s/g, ""));
        if (typeof found === "string") throw new Error("own strides are written as 4,8 for points or 4,8x4:0.5,1 for anchors");
        state.priors = found;
        ui.level = null;
        changed();
      })})));
    ofPanel.replaceChildren(field("rule", choice(state.rules.map(rule => [rule, rule]), state.panel_rule, "rule of the four questions", value => {
      state.panel_rule = value;
      changed();
    })));
    levels(true);
  }

  /* Which levels and which similarity are shown; the list of levels follows the answer. */
  function levels(force = false) {
    const strides = (answer?.priors.levels ?? []).map(({stride}) => stride), key = strides.join();
    if (!force && shown.dataset.key === key) return;
    shown.dataset.key = key;
    if (ui.level !== null && ui.level >= strides.length) ui.level = null;
    shown.replaceChildren(
      field("level", choice([["all", "all"], ...strides.map((stride, i) => [String(i), `stride ${stride}`])],
        ui.level === null ? "all" : String(ui.level), "level", value => { ui.level = value === "all" ? null : +value; later(); })),
      ...(offered.similarities.length ? [field("heat map", choice([["", "none"], ...offered.similarities.map(name => [name, name])],
        state.heat ?? "", "heat map", value => { state.heat = value || null; changed(); }))] : []));
  }

  function toggle(rule, known) {
    if (state.rules.includes(rule)) state.rules = state.rules.filter(one => one !== rule);
    else state.rules = [...known, rule].filter((one, i, all) => all.indexOf(one) === i && (one === rule || state.rules.includes(one)));
    state = whole(state);
    changed({rebuild: true});
  }

  /* --- painting, once a frame --- */
  function later() {
    frame ||= requestAnimationFrame(paint);
  }

  function paint() {
    frame = 0;
    const width = views[0]?.stage.clientWidth ?? 0;
    fit(width);
    const window_ = frameOf(), fresh = answer && answer.question.objects.length === state.objects.length;
    for (const one of views) paintView(one, window_, one.stage.clientWidth, fresh);
    paintPanels(fresh);
    paintTable();
    if (ui.charts) drawCharts();
    ui.charts = false;
    if (answer) element.labelkit.painted = answer.number;
    if (line.idle()) for (const tell of painted.splice(0)) tell();
  }

  function paintView({rule, canvas, svg, stage, caption, groups, handles, first}, window_, width, fresh) {
    const paper = sheet(canvas, window_, width, colours.ground), {height, s, at} = paper;
    stage.style.height = `${height + stage.offsetHeight - stage.clientHeight}px`;  // with its border
    paintPicture(paper, state, ui.picture, colours);
    const all = answer?.priors.levels, labels = fresh ? answer.rules[rule] : null;
    if (answer?.heat && state.heat && fresh) {
      const span = heatSpan(answer.heat);
      paintHeat(paper, all[ui.level ?? span.level], answer.heat, [span.low, span.high]);
    }
    if (all) paintCells(paper, all, ui.level, colours.grey);
    paintEdges(paper, state, labels?.per_object ?? [], colours);
    if (labels) paintLabels(paper, labels, place, state, ui.level, colours);
    const total = labels?.positive.length, without = labels ? labels.per_object.filter(n => n === 0).length : 0;
    const objects = state.objects.length, none = without ? `${without} of ${objects} get none` : objects ? `all ${objects} get some` : "";
    caption.replaceChildren(make("b", {}, rule), ...(labels ? [" ", make("span", {class: "lkx-total"}, `${many(total, "positive")}, `),
      make("span", {class: without ? "lkx-warn" : ""}, none)] : []));
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    groups.forEach(({node, box, hit, name}, i) => {
      const [x1, y1, x2, y2] = state.objects[i], [u, v] = at(x1, y1), [w, h] = [(x2 - x1) * s, (y2 - y1) * s];
      const n = labels?.per_object[i], more = [Math.max(0, FINGER - w / 2), Math.max(0, FINGER - h / 2)];
      put(box, {x: px(u), y: px(v), width: px(w), height: px(h)});
      put(hit, {x: px(u - more[0]), y: px(v - more[1]), width: px(w + 2 * more[0]), height: px(h + 2 * more[1])});
      put(name, {x: px(u + w / 2), y: px(v > 16 ? v - 5 : v + h + 15)});
      name.textContent = n === undefined ? "" : String(n);
      node.setAttribute("class", `lkx-object${i === state.chosen ? " lkx-chosen" : ""}${n === 0 ? " lkx-none" : ""}`);
      if (first) {
        const counts = state.rules.map(one => `${one} ${count(one, i) ?? "unknown"}`).join(", ");
        put(node, {"aria-label": `object ${i}, ${px(x2 - x1)} by ${px(y2 - y1)} pixels at ${px(x1)}, ${px(y1)}; positives: ${counts}`});
      }
    });
    placeHandles(handles, at, s);
  }

  function placeHandles(handles, at, s) {
    const box = state.objects[state.chosen];
    handles.forEach((handle, corner) => {
      handle.style.display = box ? "" : "none";
      if (!box) return;
      const [u, v] = at(box[corner & 1 ? 2 : 0], box[corner & 2 ? 3 : 1]);
      const away = side => AWAY + Math.max(0, FINGER - side * s / 2);
      const x = u + (corner & 1 ? 1 : -1) * away(box[2] - box[0]), y = v + (corner & 2 ? 1 : -1) * away(box[3] - box[1]);
      const [link, hit, grip] = handle.children;
      put(link, {x1: px(u), y1: px(v), x2: px(x), y2: px(y)});
      put(hit, {cx: px(x), cy: px(y), "data-object": state.chosen, "data-corner": corner});
      put(grip, {x: px(x - 4.5), y: px(y - 4.5)});
    });
  }

  /* The part of the picture that holds the chosen object and its candidates, as far as they are no more than six sides away. */
  function aroundCandidates(found) {
    const [height, width] = state.size, [x1, y1, x2, y2] = state.objects[state.chosen], far = 6 * Math.max(x2 - x1, y2 - y1, 4);
    let [left, top, right, bottom] = [x1, y1, x2, y2];
    for (const [prior] of found.candidates) {
      const {x, y} = place(prior);
      if (Math.abs(x - (x1 + x2) / 2) > far || Math.abs(y - (y1 + y2) / 2) > far) continue;
      [left, top, right, bottom] = [Math.min(left, x), Math.min(top, y), Math.max(right, x), Math.max(bottom, y)];
    }
    const share = Math.max((right - left) / width, (bottom - top) / height) * 1.2 + 0.04, [w, h] = [width * share, height * share];
    return [(left + right - w) / 2, (top + bottom - h) / 2, w, h];
  }

  function heatSpan(heat) {
    if (answer.span) return answer.span;
    let best = 0;
    for (let i = 1; i < heat.length; i++) if (heat[i] > heat[best]) best = i;
    const low = heat.reduce((least, value) => Math.min(least, value), 0);
    answer.span = {low, high: Math.max(heat[best], low + 1e-6), level: place(best).level};
    return answer.span;
  }

  function paintPanels(fresh) {
    const found = fresh && answer.question.chosen === state.chosen ? answer.panels : null;
    panels.hidden = state.chosen === null;
    story.textContent = state.chosen === null ? "" : found?.story ?? story.textContent;
    const key = `${answer?.number} ${panels.clientWidth} ${colours.ground} ${Boolean(ui.picture)}`;
    if (!found || key === ui.panels) return;
    ui.panels = key;
    const window_ = aroundCandidates(found);
    fourQuestions(found, state, place, colours).forEach(([title, text, painted], i) => {
      if (!panels.children[i]) panels.append(make("figure", {}, make("figcaption"), make("canvas", {role: "img"})));
      const [caption, canvas] = panels.children[i].children;
      caption.replaceChildren(make("b", {}, `${i + 1}. ${title}`), ` ${text}`);
      canvas.setAttribute("aria-label", `${title} ${text}`);
      const width = canvas.clientWidth, paper = sheet(canvas, window_, width, colours.ground);
      canvas.style.height = `${paper.height}px`;
      if (i !== 2 && ui.picture) { paper.c.globalAlpha = 0.45; paintPicture(paper, state, ui.picture, colours); paper.c.globalAlpha = 1; }
      painted(paper);
    });
  }

  function drawCharts() {
    if (state.chosen === null) { charts.replaceChildren(); return; }
    const found = state.rules.map(rule => curves.curve(state, rule, ui.axis));
    const highest = Math.max(1, ...found.flat().map(([, n]) => n ?? 0));
    charts.replaceChildren(...state.rules.map((rule, i) => chart(rule, i, found[i], highest)));
  }

  function paintTable() {
    const key = JSON.stringify([state.objects, state.rules, state.chosen, state.rules.map(rule => answer?.rules[rule]?.per_object)]);
    if (key === ui.table) return;
    ui.table = key;
    const cell = n => make("td", n === 0 ? {class: "lkx-warn"} : {}, n === undefined ? "" : String(n));
    const rows = state.objects.map(([x1, y1, x2, y2], i) => make("tr", i === state.chosen ? {"aria-current": "true"} : {},
      make("th", {scope: "row"}, make("button", {type: "button", onclick: () => choose(i)}, `object ${i}`)),
      make("td", {}, `${px(x2 - x1)} × ${px(y2 - y1)}`), ...state.rules.map(rule => cell(count(rule, i)))));
    const sum = rule => answer?.rules[rule]?.per_object.reduce((a, b) => a + b, 0);
    table.replaceChildren(
      make("thead", {}, make("tr", {}, make("th", {scope: "col"}, "object"), make("th", {scope: "col"}, "px"), ...state.rules.map(rule => make("th", {scope: "col"}, rule)))),
      make("tbody", {}, ...rows),
      make("tfoot", {}, make("tr", {}, make("th", {scope: "row"}, "all"), make("td"), ...state.rules.map(rule => make("td", {}, String(sum(rule) ?? ""))))));
  }

  function theme() {
    for (const name of ["ground", "ink", "faint", "disc", "blue", "red", "orange", "grey"]) {
      probe.style.color = `var(--lkx-${name})`;
      colours[name] = getComputedStyle(probe).color;
    }
    later();
  }

  /* --- life --- */
  element.replaceChildren(root);
  element.labelkit = {
    state: () => whole(state),
    answer: () => answer,
    painted: 0,
    settled: () => line.idle() && !frame ? Promise.resolve() : new Promise(resolve => { painted.push(resolve); later(); }),
    swept: () => state.rules.every(rule => curves.curve(state, rule, ui.axis).every(([, n]) => n !== undefined)),
  };
  const resized = new ResizeObserver(later), dark = matchMedia("(prefers-color-scheme: dark)"), themed = new MutationObserver(theme);
  resized.observe(root);
  dark.addEventListener("change", theme);
  for (const node of [document.documentElement, document.body]) themed.observe(node, {attributes: true, attributeFilter: ["data-theme", "data-mode", "data-jp-theme-light"]});
  const restore = () => guarded(() => {
    const found = readState(location.hash);
    if (!Object.keys(found).length || writeState(state) === location.hash.slice(1)) return;
    if (found.size && String(found.size) !== String(state.size)) ui.picture = null;
    state = whole({...state, ...found});
    fits = false;
    changed({rebuild: true});
  });
  if (offered.url) globalThis.addEventListener("hashchange", restore);
  theme();
  if (image) guarded(async () => {
    const picture = await decoded(image, "the picture");
    if (String(state.size) === String(scene.size)) ui.picture = picture;  // a scene of another size may have come meanwhile
    later();
  });
  changed({rebuild: true});
  if (offered.url) restore();
  return () => {
    resized.disconnect();
    themed.disconnect();
    dark.removeEventListener("change", theme);
    globalThis.removeEventListener("hashchange", restore);
    clearTimeout(quiet);
    cancelAnimationFrame(frame);
    [frame, quietly] = [-1, false];  // an answer that is still to come paints nothing, and no curve is asked for
    element.replaceChildren();
  };
}
