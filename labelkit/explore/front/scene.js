// A scene as the page's rules see it, who is a candidate and who is chosen: a global `labelkitScene`; needs boxes.js.
"use strict";
globalThis.labelkitScene = (() => {
  const { SIMILARITIES, priorsOf, boxOf, halfToEven } = globalThis.labelkitBoxes;
  const f = Math.fround;

  // --------------------------------------------------------------------------------- a scene, and what is known of it

  const KEPT = 256; // rows of one value a prior, and what was chosen of them; a drag changes those of one object

  class Latest {
    constructor(most) {
      this.most = most;
      this.known = new Map();
    }

    get(key, make) {
      const value = this.known.has(key) ? this.known.get(key) : make();
      this.known.delete(key); // to the end: the first is the one that nobody asked for longest
      this.known.set(key, value);
      if (this.known.size > this.most) this.known.delete(this.known.keys().next().value);
      return value;
    }
  }

  const knownPriors = new Latest(2);

  // The priors and objects of a question, with the similarity of every pair and the priors nearest to each object.
  class Scene {
    constructor(size, preset, objects) {
      const key = JSON.stringify([size, preset]);
      this.priors = knownPriors.get(key, () => {
        const priors = priorsOf(preset, size);
        priors.kept = new Latest(KEPT);
        return priors;
      });
      this.objects = objects.map(boxOf);
    }

    // The similarity of all priors with an object. similarity: {name, and its constants}.
    row(similarity, gt) {
      const box = this.objects[gt], { row } = SIMILARITIES[similarity.name];
      return this.keep("row", [similarity, box], () => row(this.priors, box, similarity));
    }

    // With every object, for a rule, which needs priors that the similarity says something about.
    rows(similarity) {
      if (SIMILARITIES[similarity.name].sized && !this.priors.sized) {
        throw new Error(
          `priors must have a positive size somewhere for ${similarity.name}, which says nothing about points: ` +
          "take boxes for priors, or a similarity that knows points (dotd, nwd, simd)",
        );
      }
      return this.objects.map((_, gt) => this.row(similarity, gt));
    }

    keep(what, parts, make) {
      return this.priors.kept.get(what + JSON.stringify(parts), make);
    }
  }

  // ------------------------------------------------------------------------------------------------- choosing

  // The first k by (value from high to low, `tie` from low to high, index): of priors that `allowed` lets in.
  function firstK(count, k, value, allowed, tie = () => 0) {
    const best = [];
    const before = (i, j) => value(i) > value(j) || (value(i) === value(j) && tie(i) < tie(j));
    for (let i = 0; i < count; i++) {
      if (!allowed(i) || (best.length === k && !before(i, best[k - 1]))) continue;
      let place = best.length === k ? k - 1 : best.length;
      for (; place > 0 && before(i, best[place - 1]); place--) best[place] = best[place - 1];
      best[place] = i;
    }
    return best;
  }

  // Of every prior its most similar object and how similar that is: the lower index on ties.
  function bestPerPrior(rows, count) {
    const value = new Float32Array(count).fill(-Infinity), owner = new Int32Array(count).fill(-1);
    rows.forEach((row, gt) => {
      for (let i = 0; i < count; i++) {
        if (row[i] > value[i]) {
          value[i] = row[i];
          owner[i] = gt;
        }
      }
    });
    return { value, owner };
  }

  // A prior that several objects chose goes to the most similar one, then to the lower index.
  function mostSimilarWins(chosen) {
    const won = new Map();
    for (const pair of chosen) {
      const holder = won.get(pair.prior);
      if (!holder || pair.value > holder.value || (pair.value === holder.value && pair.gt < holder.gt)) {
        won.set(pair.prior, pair);
      }
    }
    return won;
  }

  const pair = (prior, gt, value) => ({ prior, gt, value });
  const pairsOf = (list, gt, row) => list.map((prior) => pair(prior, gt, row[prior]));

  // The k most similar of every object, above 0; among equals by `tie` of the object, then the lower prior.
  function chooseK(scene, similarity, rows, k, tie = () => undefined) {
    const { count } = scene.priors;
    return rows.map((row, gt) => pairsOf(scene.keep("first" + tie.name, [similarity, scene.objects[gt], k], () => (
      firstK(count, k, (i) => row[i], (i) => row[i] > 0, tie(gt))
    )), gt, row));
  }

  // ------------------------------------------------------------------------------------------------ candidates

  // What `plausible` returns of one object: all pairs from `floor` up, and all that may be among its k best.
  function plausible(scene, row, gt, near, floor, k) {
    const { count, grid } = scene.priors, few = count * scene.objects.length <= 65536;
    k = floor > 0 ? Math.min(k, count + 1) : 0;
    let bound = f(floor);
    if (k > 0) {
      const nearby = near && !few && k * grid.length <= count;
      const kth = nearby ? kthBestNearby(scene.priors, scene.objects[gt], row, k) : kthBest(row, k);
      bound = Math.min(bound, kth);
    }
    const found = [];
    for (let i = 0; i < count; i++) {
      if (row[i] >= bound && (floor <= 0 || row[i] > 0)) found.push(pair(i, gt, row[i]));
    }
    return found;
  }

  function kthBest(values, k) {
    const best = firstK(values.length, k, (i) => values[i], () => true);
    return best.length === k ? values[best[k - 1]] : -Infinity;
  }

  // The k-th best of the cells nearest to the object, `side` x `side` of them for every shape of every level.
  function kthBestNearby(priors, box, row, k) {
    const side = Math.floor(Math.sqrt(k - 1)) + 1, values = [];
    const start = (center, origin, spacing, cells) => {
      const place = halfToEven(f(f(f(center - origin) / spacing) - f((side - 1) / 2)));
      return Math.min(Math.max(place, 0), cells - Math.min(cells, side));
    };
    for (const one of priors.grid) {
      const x = start(box.cx, one.x, one.spacing[0], one.columns), y = start(box.cy, one.y, one.spacing[1], one.rows);
      for (let down = y; down < Math.min(y + side, one.rows); down++) {
        for (let across = x; across < Math.min(x + side, one.columns); across++) {
          values.push(row[one.first + (down * one.columns + across) * one.step]);
        }
      }
    }
    return kthBest(values, k);
  }

  return { Scene, pair, pairsOf, firstK, bestPerPrior, mostSimilarWins, chooseK, plausible };
})();
