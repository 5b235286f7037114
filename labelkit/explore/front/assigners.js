// labelkit's rules for the page that has no labelkit behind it: a global `labelkitAssigners`; needs boxes.js, scene.js.
// Here every prior is held against every object; the library looks only where it must and finds the same.
"use strict";
globalThis.labelkitAssigners = (() => {
  const { SIMILARITIES, share } = globalThis.labelkitBoxes;
  const { pair, pairsOf, firstK, bestPerPrior, mostSimilarWins, chooseK, plausible } = globalThis.labelkitScene;
  const f = Math.fround;

  // Every rule gives {won: prior -> pair, ignored: priors} and, of an object, {candidates, chosen: pairs, bar: number}:
  // what labelkit's `explain` says, with the least value chosen for a bar where that is lower.

  // All priors whose value is the highest of a row, if that is above 0.
  function allBest(row) {
    let best = 0;
    for (let i = 0; i < row.length; i++) if (row[i] > best) best = row[i];
    return best > 0 ? from(row, best) : [];
  }

  // All priors of a value from `least` up.
  function from(row, least) {
    const found = [];
    for (let i = 0; i < row.length; i++) if (row[i] >= least) found.push(i);
    return found;
  }

  const leastOf = (pairs, bar = Infinity) => pairs.reduce((least, one) => Math.min(least, one.value), bar);

  function squared(x, y, box) {
    const dx = f(x - box.cx), dy = f(y - box.cy);
    return f(f(dx * dx) + f(dy * dy));
  }

  function maxIoU(scene, given) {
    const { fg_thresh, bg_thresh, allow_low_quality_matches: low, low_quality_ties: ties, similarity } = given;
    if (!(bg_thresh <= fg_thresh)) {
      throw new Error(`bg_thresh must not exceed fg_thresh, got ${bg_thresh} and ${fg_thresh}`);
    }
    const { count, cx, cy } = scene.priors, { near } = SIMILARITIES[similarity.name], rows = scene.rows(similarity);
    const [fg, bg, least] = [fg_thresh, bg_thresh, given.min_fg].map(f), own = bestPerPrior(rows, count);
    const claims = rows.map((row, gt) => {
      const box = scene.objects[gt], distance = (i) => squared(cx[i], cy[i], box);
      let tied = scene.keep("best", [similarity, box], () => allBest(row));
      if (!low || !tied.length || !(row[tied[0]] >= least)) return [];
      if (ties === "nearest") tied = [...tied].sort((a, b) => distance(a) - distance(b) || a - b);
      return pairsOf(ties === "all" ? tied : tied.slice(0, 1), gt, row);
    });
    const won = new Map(), ignored = [];
    for (let i = 0; i < count; i++) {
      if (own.owner[i] < 0) continue;
      if (own.value[i] >= fg) won.set(i, pair(i, own.owner[i], own.value[i]));
      if (own.value[i] >= bg) ignored.push(i);
    }
    for (const one of claims.flat()) {
      const i = one.prior;
      won.set(i, given.low_quality_owner === "gt" ? one : pair(i, own.owner[i], own.value[i]));
    }
    const of = (gt) => {
      const chosen = [...pairsOf(from(rows[gt], fg), gt, rows[gt]), ...claims[gt].filter((one) => one.value < fg)];
      const candidates = plausible(scene, rows[gt], gt, near, bg_thresh, low ? 1 : 0);
      return { candidates, chosen, bar: leastOf(chosen, fg_thresh) };
    };
    return { won, ignored, of };
  }

  function fcos(scene, { regress_ranges: ranges, center_radius: radius, closed_ranges: closed }) {
    const { count, cx, cy, level, levels } = scene.priors;
    const strides = levels.map((one) => one.stride);
    ranges ??= strides.map((stride, i) => [i ? 8 * strides[i - 1] : 0, i < strides.length - 1 ? 8 * stride : Infinity]);
    if (ranges.length !== strides.length) {
      throw new Error(`regress_ranges must have an entry for each of ${strides.length} levels, got ${ranges.length}`);
    }
    const low = ranges.map((range) => f(range[0])), high = ranges.map((range) => f(range[1]));
    const within = strides.map((stride) => (radius === null ? Infinity : f(radius * stride)));
    const chosen = scene.objects.map(() => []), inside = scene.objects.map(() => []), won = new Map();
    scene.objects.forEach((box, gt) => {
      for (let i = 0; i < count; i++) {
        if (cx[i] <= box.x1 || cx[i] >= box.x2 || cy[i] <= box.y1 || cy[i] >= box.y2) continue;
        const l = f(cx[i] - box.x1), t = f(cy[i] - box.y1), r = f(box.x2 - cx[i]), b = f(box.y2 - cy[i]);
        const across = f(Math.min(l, r) / Math.max(l, r)), down = f(Math.min(t, b) / Math.max(t, b));
        const one = pair(i, gt, f(Math.sqrt(f(across * down)))), at = level[i], farthest = Math.max(l, t, r, b);
        inside[gt].push(one);
        const fits = closed ? low[at] <= farthest && farthest <= high[at] : low[at] < farthest && farthest < high[at];
        const offset = Math.max(Math.abs(f(cx[i] - box.cx)), Math.abs(f(cy[i] - box.cy)));
        if (!fits || (radius !== null && !(offset < within[at]))) continue;
        chosen[gt].push(one);
        const holder = won.get(i); // the smallest wins, then the lower index
        if (!holder || box.area < scene.objects[holder.gt].area) won.set(i, one);
      }
    });
    return { won, ignored: [], of: (gt) => ({ candidates: inside[gt], chosen: chosen[gt], bar: 0 }) };
  }

  function atss(scene, { k, ddof }) {
    const { cx, cy, x1, y1, x2, y2, area, levels, count } = scene.priors;
    const ends = [...levels.slice(1).map((one) => one.first), count];
    const candidates = scene.objects.map((box) => scene.keep("nearest", [box, k], () => levels.flatMap((one, at) => {
      const distance = new Float32Array(ends[at] - one.first);
      for (let i = 0; i < distance.length; i++) distance[i] = squared(cx[one.first + i], cy[one.first + i], box);
      return firstK(distance.length, k, (i) => -distance[i], () => true).map((i) => one.first + i);
    })).map((i) => {
      const width = Math.max(f(Math.min(x2[i], box.x2) - Math.max(x1[i], box.x1)), 0);
      const height = Math.max(f(Math.min(y2[i], box.y2) - Math.max(y1[i], box.y1)), 0);
      const shared = f(width * height);
      return { prior: i, value: share(shared, f(f(area[i] + box.area) - shared)) };
    }));
    const bars = [], chosen = scene.objects.map(() => []);
    candidates.forEach((near, gt) => {
      const box = scene.objects[gt], n = near.length;
      const mean = near.reduce((sum, one) => sum + one.value, 0) / Math.max(n, 1);
      const squares = near.reduce((sum, one) => sum + (one.value - mean) ** 2, 0);
      bars.push(mean + Math.sqrt(squares / Math.max(n - ddof, 1)) - 1e-12);
      for (const one of near) {
        one.gt = gt;
        const x = cx[one.prior], y = cy[one.prior];
        const least = Math.min(f(x - box.x1), f(y - box.y1), f(box.x2 - x), f(box.y2 - y));
        if (one.value >= bars[gt] && least > f(0.01)) chosen[gt].push(one);
      }
    });
    const of = (gt) => ({ candidates: candidates[gt], chosen: chosen[gt], bar: bars[gt] });
    return { won: mostSimilarWins(chosen.flat()), ignored: [], of };
  }

  function topk(scene, { k, similarity }) {
    const { cx, cy } = scene.priors, { near } = SIMILARITIES[similarity.name], rows = scene.rows(similarity);
    const nearest = (gt) => (i) => squared(cx[i], cy[i], scene.objects[gt]);
    const chosen = chooseK(scene, similarity, rows, k, nearest);
    const of = (gt) => {
      const candidates = plausible(scene, rows[gt], gt, near, Infinity, k);
      return { candidates, chosen: chosen[gt], bar: leastOf(chosen[gt]) };
    };
    return { won: mostSimilarWins(chosen.flat()), ignored: [], of };
  }

  function rka(scene, { k, similarity, bg_thresh }) {
    const { near } = SIMILARITIES[similarity.name], rows = scene.rows(similarity), bg = f(bg_thresh);
    const chosen = chooseK(scene, similarity, rows, k);
    const above = (row, gt) => scene.keep("above", [similarity, scene.objects[gt], bg], () => from(row, bg));
    const ignored = new Set(rows.flatMap(above));
    const of = (gt) => {
      const candidates = plausible(scene, rows[gt], gt, near, bg_thresh, k);
      return { candidates, chosen: chosen[gt], bar: leastOf(chosen[gt]) };
    };
    return { won: mostSimilarWins(chosen.flat()), ignored: [...ignored], of };
  }

  function s3fd(scene, { fg_thresh, min_iou, n }) {
    if (!(0 <= min_iou && min_iou <= fg_thresh)) {
      throw new Error(`min_iou must lie in [0, fg_thresh], got ${min_iou} and ${fg_thresh}`);
    }
    const { count } = scene.priors, iou = { name: "iou" }, rows = scene.rows(iou), own = bestPerPrior(rows, count);
    const won = new Map(), held = rows.map(() => 0), free = [];
    // Stage one: the best prior of every object, a later one overwriting; then the threshold.
    for (const one of chooseK(scene, iou, rows, 1).flat()) won.set(one.prior, one);
    for (let i = 0; i < count; i++) {
      const enough = own.value[i] > 0 && own.value[i] >= f(fg_thresh);
      if (enough && !won.has(i)) won.set(i, pair(i, own.owner[i], own.value[i]));
    }
    for (const one of won.values()) held[one.gt]++;
    // Stage two: who has too few takes more of the priors that are left, the highest IoU first.
    const room = n === "mean" ? Math.floor(held.reduce((a, b) => a + b, 0) / Math.max(rows.length, 1)) : n;
    for (let i = 0; i < count; i++) {
      if (own.value[i] > f(min_iou) && !won.has(i)) free.push(pair(i, own.owner[i], own.value[i]));
    }
    free.sort((a, b) => b.value - a.value || a.gt - b.gt || a.prior - b.prior);
    for (const one of free) {
      if (held[one.gt] >= room) continue;
      held[one.gt]++;
      won.set(one.prior, one);
    }
    const of = (gt) => {
      const chosen = [...won.values()].filter((one) => one.gt === gt);
      const candidates = plausible(scene, rows[gt], gt, true, Math.max(min_iou, 2 ** -126), 1);
      return { candidates, chosen, bar: leastOf(chosen, fg_thresh) };
    };
    return { won, ignored: [], of };
  }

  // name -> [function, its arguments as labelkit has them by default]
  const RULES = {
    max_iou: [maxIoU, {
      fg_thresh: 0.5, bg_thresh: 0.4, allow_low_quality_matches: true, low_quality_owner: "argmax",
      low_quality_ties: "all", min_fg: 0, similarity: "iou",
    }],
    fcos: [fcos, { regress_ranges: null, center_radius: null, closed_ranges: true }],
    topk: [topk, { k: 9, similarity: "iou" }],
    atss: [atss, { k: 9, ddof: 1 }],
    s3fd: [s3fd, { fg_thresh: 0.35, min_iou: 0.1, n: 6 }],
    rka: [rka, { k: 3, similarity: "nwd", bg_thresh: 1 }],
  };

  return { RULES };
})();
