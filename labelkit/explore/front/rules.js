// The answer to a question of the page, without labelkit: a global `labelkitRules`; needs the three others.
// `answer(question)` gives what labelkit.explore.question.answer gives. A rule is offered here only while
// tests/explore/test_rules_js.py finds no label that differs.
"use strict";
globalThis.labelkitRules = (() => {
  const { PRESETS, SIMILARITIES } = globalThis.labelkitBoxes;
  const { Scene } = globalThis.labelkitScene;
  const { RULES } = globalThis.labelkitAssigners;
  const EXACT = Object.keys(SIMILARITIES).filter((name) => SIMILARITIES[name].exact);

  // "rka k=3 similarity=nwd similarity.constant=12.8" -> [function, arguments]
  function ruleOf(words) {
    const [name, ...parts] = words.trim().split(/\s+/);
    if (!(name in RULES)) {
      throw new Error(`${name} is not on this page, which has ${Object.keys(RULES).join(", ")}: ask labelkit explore`);
    }
    const [rule, defaults] = RULES[name], given = {}, constants = {};
    for (const part of parts) {
      const [key, text] = part.split(/=(.*)/s), [first, constant] = key.split(".");
      if (text === undefined || !(first in defaults)) {
        throw new Error(`${name} on this page takes ${Object.keys(defaults).join(", ")}, got '${part}'`);
      }
      if (constant !== undefined) constants[constant] = valueOf(text);
      else given[key] = valueOf(text);
    }
    const values = { ...defaults, ...given };
    for (const key of ["k", "n"]) {
      if (key in values && values[key] !== "mean" && !(Number.isInteger(values[key]) && values[key] > 0)) {
        throw new Error(`${key} must be a positive whole number, got ${values[key]}`);
      }
    }
    if ("similarity" in values) {
      if (!EXACT.includes(values.similarity)) {
        throw new Error(`similarity on this page must be one of ${EXACT.join(", ")}, got '${values.similarity}'`);
      }
      values.similarity = similarityOf(values.similarity, constants);
    }
    return [rule, values];
  }

  function valueOf(text) {
    try {
      return JSON.parse(text);
    } catch {
      return { true: true, false: false, none: null }[text.toLowerCase()] ?? text;
    }
  }

  function similarityOf(name, constants = {}) {
    if (!(name in SIMILARITIES)) {
      throw new Error(`similarity must be one of ${Object.keys(SIMILARITIES).join(", ")}, got '${name}'`);
    }
    return { name, ...SIMILARITIES[name].constants, ...constants };
  }

  // -------------------------------------------------------------------------------------------------- the answer

  const inOrder = (numbers) => numbers.sort((a, b) => a - b);

  function labelsOf({ won, ignored }, objects) {
    const perObject = Array(objects).fill(0), positive = inOrder([...won.keys()]).map((i) => [i, won.get(i).gt]);
    for (const [, gt] of positive) perObject[gt]++;
    return { positive, ignored: inOrder(ignored.filter((i) => !won.has(i))), per_object: perObject };
  }

  // The four questions of one object: who may match, how well, who is chosen, who wins.
  function panelsOf(found, labels, gt) {
    const { candidates, chosen, bar } = found.of(gt), ignored = new Set(labels.ignored);
    const holder = (i) => (found.won.has(i) ? found.won.get(i).gt : ignored.has(i) ? -2 : -1);
    const listed = (pairs) => pairs.map((one) => [one.prior, one.value]).sort((a, b) => a[0] - b[0]);
    const lost = listed(chosen).filter(([i]) => holder(i) !== gt);
    const panels = {
      candidates: listed(candidates),
      bar: Number.isFinite(bar) ? bar : null,
      chosen: listed(chosen),
      winners: labels.positive.filter((one) => one[1] === gt).map(([i]) => i),
      losers: lost.map(([i]) => [i, holder(i)]),
    };
    return { ...panels, story: storyOf(gt, panels, bar, lost) };
  }

  function storyOf(gt, { candidates, chosen, winners, losers }, bar, lost) {
    if (!candidates.length) return `Ground truth ${gt}: no prior was a candidate.`;
    const best = candidates.reduce((most, [, value]) => Math.max(most, value), -Infinity);
    const considered = `${candidates.length} candidate${candidates.length === 1 ? "" : "s"}`;
    return [
      `Ground truth ${gt}: ${considered}, the best value ${short(best)}, bar ${short(bar)}.`,
      `${chosen.length} chosen, ${winners.length} of them won.`,
      ...losers.map(([i, rival], at) => `Prior ${i} (${short(lost[at][1])}) went to ground truth ${rival}.`),
    ].join("\n");
  }

  // Three digits, as Python's format(x, ".3g") writes them: halves to the even digit.
  function short(x) {
    if (!Number.isFinite(x)) return "inf";
    let [digits, exponent] = x.toExponential(2).split("e").map(Number);
    const [longer, power] = x.toExponential(3).split("e");
    if (Number(`${longer}e${power}`) === x && /[02468]5$/.test(longer)) {
      [digits, exponent] = [longer.slice(0, -1), power].map(Number);
    }
    if (x === 0 || (exponent >= -4 && exponent < 3)) return String(Number(`${digits}e${exponent}`));
    return `${digits}e${exponent < 0 ? "-" : "+"}${String(Math.abs(exponent)).padStart(2, "0")}`;
  }

  function moved(objects, { object, axis }, offset) {
    const sides = axis === "x" ? [0, 2] : [1, 3], by = Math.fround(offset);
    return objects.map((box, gt) => (
      gt === object ? box.map((x, side) => (sides.includes(side) ? Math.fround(x) + by : x)) : box
    ));
  }

  function answer(question) {
    const { size, objects } = question, scene = new Scene(size, question.priors, objects);
    const { count, levels } = scene.priors, rules = {}, found = {};
    for (const name of question.rules) {
      const [rule, values] = ruleOf(name);
      found[name] = rule(scene, values);
      rules[name] = labelsOf(found[name], objects.length);
    }
    const chosen = question.chosen ?? null, panelRule = question.panel_rule ?? null;
    const panels = chosen === null || panelRule === null ? null : panelsOf(found[panelRule], rules[panelRule], chosen);
    const heat = chosen === null || !question.heat ? null : [...scene.row(similarityOf(question.heat), chosen)];
    let shift = null;
    if (question.shift) {
      shift = Object.fromEntries(question.rules.map((name) => [name, []]));
      for (const offset of question.shift.offsets) {
        const there = new Scene(size, question.priors, moved(objects, question.shift, offset));
        for (const name of question.rules) {
          const [rule, values] = ruleOf(name);
          let positives = 0;
          for (const one of rule(there, values).won.values()) positives += one.gt === question.shift.object;
          shift[name].push(positives);
        }
      }
    }
    const shown = levels.map(({ stride, spacing, first, rows, columns, sizes, offset }) => (
      { stride, spacing, first, rows, columns, sizes, offset }
    ));
    return { id: question.id, priors: { count, levels: shown }, rules, panels, heat, shift };
  }

  return { answer, rules: Object.keys(RULES), priors: PRESETS, similarities: Object.keys(SIMILARITIES) };
})();
