/* Which question is asked next: the newest, and curves of positives while there is none. */

/* One question under way at a time. A newer one takes the place of a waiting one; `spare()` gives those of no haste. */
function questioner(ask, spare) {
  let busy = false, waiting = null, number = 0, hasty = false;
  async function go() {
    if (busy) return;
    busy = true;
    for (let next; (next = waiting ?? spare());) {
      hasty = next === waiting;
      if (hasty) waiting = null;
      try {
        const start = performance.now(), promise = ask({...next.question, id: ++number});
        const blocked = performance.now() - start;
        next.heard(await promise, number, blocked);
      } catch (error) {
        next.refused(error);
      }
      if (!hasty) await new Promise(resolve => setTimeout(resolve, 0));  // hands and pictures first
      hasty = false;
    }
    busy = false;
  }
  return {put(next) { waiting = next; go(); }, wake: go, idle: () => !waiting && !hasty, newest: () => !waiting};
}

/* Positives of an object against its place along an axis, kept from drag to drag: moving along the axis shifts them. */
function sweeps() {
  const known = new Map();
  let pieces = 4;
  function places(state, rule, axis) {
    const {objects, chosen, size, priors} = state, from = axis === "x" ? 0 : 1, box = [...objects[chosen]];
    box[from + 2] -= box[from];
    box[from] = 0;
    const key = JSON.stringify([size, priors, rule, axis, chosen, objects.with(chosen, box)]);
    if (!known.has(key)) {
      if (known.size > 100) known.delete(known.keys().next().value);
      known.set(key, new Map());
    }
    return known.get(key);
  }
  return {
    curve(state, rule, axis) {
      const found = places(state, rule, axis), at = state.objects[state.chosen][axis === "x" ? 0 : 1];
      return Array.from({length: 2 * REACH + 1}, (_, i) => [i - REACH, found.get(at + i - REACH)]);
    },
    /* The next piece that is missing, as a question; null where all is known. */
    next(state, axis, heard, refused) {
      if (state.chosen === null) return null;
      for (const rule of state.rules) {
        const unknown = this.curve(state, rule, axis).filter(([, count]) => count === undefined);
        const missing = unknown.map(([offset]) => offset);
        if (!missing.length) continue;
        missing.sort((a, b) => Math.abs(a) - Math.abs(b));
        const offsets = missing.slice(0, pieces);
        const found = places(state, rule, axis), at = state.objects[state.chosen][axis === "x" ? 0 : 1];
        const shift = {object: state.chosen, axis, offsets};
        const question = {...state, rules: [rule], chosen: null, panel_rule: null, heat: null, shift};
        return {question, refused, heard(answer, _, blocked) {
          offsets.forEach((offset, i) => found.set(at + offset, answer.shift[rule][i]));
          pieces = blocked < 8 ? Math.min(2 * pieces, 2 * REACH + 1) : blocked > 20 ? Math.max(1, pieces >> 1) : pieces;
          heard();
        }};
      }
      return null;
    },
  };
}
