// The priors of the presets and the similarities of boxes, as labelkit computes them: float32, operand for operand.
// A global `labelkitBoxes`; needs nothing. `f` rounds to float32 after every operation, as torch does.
"use strict";
globalThis.labelkitBoxes = (() => {
  const f = Math.fround;
  const LEAST = 2 ** -126; // the least normal float32
  const MOST = 400000; // priors
  const THIRDS = [1, 2 ** (1 / 3), 2 ** (2 / 3)];

  // ------------------------------------------------------------------------------------------------ priors

  // Of every preset, by stride: the boxes [x1, y1, x2, y2] of the first cell.
  const square = (side, middle) => [middle - side / 2, middle - side / 2, middle + side / 2, middle + side / 2];
  const PRESETS = {
    "retinanet": { strides: [8, 16, 32, 64, 128], offset: 0, cell: (stride) => torchvisionAnchors(4 * stride) },
    "fcos": { strides: [8, 16, 32, 64, 128], offset: 0, cell: (stride) => [square(stride, 0)] },
    "course-anchors": { strides: [4, 8, 16], offset: 0.5, cell: (stride) => [square(4 * stride, stride / 2)] },
    "course-points": { strides: [4, 8, 16], offset: 0.5, cell: (stride) => [square(stride, stride / 2)] },
  };

  // torchvision's AnchorGenerator: three sizes in whole pixels, three ratios, corners rounded half to even.
  function torchvisionAnchors(side) {
    const cell = [];
    for (const ratio of [0.5, 1, 2]) {
      const down = f(Math.sqrt(ratio)), across = f(1 / down);
      for (const third of THIRDS) {
        const size = Math.floor(side * third);
        const x = halfToEven(f(f(across * size) / 2)), y = halfToEven(f(f(down * size) / 2));
        cell.push([-x, -y, x, y]);
      }
    }
    return cell;
  }

  function halfToEven(x) {
    const low = Math.floor(x), rest = x - low;
    return rest < 0.5 || (rest === 0.5 && low % 2 === 0) ? low : low + 1;
  }

  function ownCell(own, stride) {
    if (own.scale === null) return [square(0, stride / 2)];
    return own.ratios.map((ratio) => {
      const root = Math.sqrt(ratio), width = (own.scale * stride) / root, height = own.scale * stride * root;
      const middle = 0.5 * stride;
      return [middle - width / 2, middle - height / 2, middle + width / 2, middle + height / 2];
    });
  }

  function positive(values, name) {
    values.forEach((value, index) => {
      if (!(value > 0 && value < Infinity)) {
        throw new Error(`${name}[${index}] must be positive and finite, got ${value}`);
      }
    });
  }

  // size: [height, width]. preset: a name, or {strides, scale, ratios} of one's own.
  function priorsOf(preset, size) {
    positive(size, "size");
    const own = typeof preset === "string" ? null : preset;
    if (own === null && !(preset in PRESETS)) {
      throw new Error(`priors must be one of ${Object.keys(PRESETS).join(", ")} or own strides, got '${preset}'`);
    }
    if (own !== null) {
      positive(own.strides, "strides");
      if (own.scale !== null) positive([own.scale, ...own.ratios], "scale and ratios");
    }
    const { strides, offset } = own === null ? PRESETS[preset] : { strides: own.strides, offset: 0.5 };
    // torchvision pads below and to the right, and a level's spacing is whole pixels.
    const [height, width] = own === null ? size.map((side) => 32 * Math.ceil(side / 32)) : size;
    const levels = [], grid = [];
    let count = 0;
    strides.forEach((stride, level) => {
      const rows = Math.ceil(height / stride), columns = Math.ceil(width / stride);
      const spacing = own === null ? [Math.floor(width / columns), Math.floor(height / rows)] : [stride, stride];
      const cell = own === null ? PRESETS[preset].cell(stride) : ownCell(own, stride);
      const first = count;
      cell.forEach(([x1, y1, x2, y2], shape) => {
        grid.push({
          first: first + shape, step: cell.length, rows, columns, spacing, x: f((x1 + x2) / 2), y: f((y1 + y2) / 2),
        });
      });
      count += rows * columns * cell.length;
      if (count > MOST) throw new Error(`priors must be at most ${MOST}, these strides give more: take wider ones`);
      const sizes = cell.map(([x1, y1, x2, y2]) => [f(x2 - x1), f(y2 - y1)]);
      levels.push({ stride, spacing, first, rows, columns, sizes, offset, cell, level });
    });
    return filled({ count, levels, grid, sized: own === null || own.scale !== null });
  }

  function filled(priors) {
    for (const name of ["x1", "y1", "x2", "y2", "cx", "cy", "area"]) priors[name] = new Float32Array(priors.count);
    priors.level = new Uint8Array(priors.count);
    const { x1, y1, x2, y2, cx, cy, area, level } = priors;
    let at = 0;
    for (const one of priors.levels) {
      for (let row = 0; row < one.rows; row++) {
        for (let column = 0; column < one.columns; column++) {
          const x = column * one.spacing[0], y = row * one.spacing[1];
          for (const base of one.cell) {
            x1[at] = x + base[0]; y1[at] = y + base[1]; x2[at] = x + base[2]; y2[at] = y + base[3];
            cx[at] = f(f(x1[at] + x2[at]) / 2); cy[at] = f(f(y1[at] + y2[at]) / 2);
            area[at] = f(f(x2[at] - x1[at]) * f(y2[at] - y1[at]));
            level[at++] = one.level;
          }
        }
      }
    }
    return priors;
  }

  // ------------------------------------------------------------------------------------------------ objects

  const TOO_LONG = 1e18;

  function boxOf(object, index) {
    const [x1, y1, x2, y2] = object.map(f), width = f(x2 - x1), height = f(y2 - y1);
    if (!(width > 0 && height > 0 && width < TOO_LONG && height < TOO_LONG)) {
      throw new Error(`objects[${index}] must have x1 < x2 and y1 < y2, got [${object.join(", ")}]`);
    }
    return { x1, y1, x2, y2, width, height, cx: f(f(x1 + x2) / 2), cy: f(f(y1 + y2) / 2), area: f(width * height) };
  }

  // ------------------------------------------------------------------------------------------- similarities

  function share(part, whole) {
    return f(part / Math.max(whole, LEAST));
  }

  // All priors with one object: a row of P values.
  function overlaps(priors, box, finish) {
    const { x1, y1, x2, y2, area, count } = priors, row = new Float32Array(count);
    for (let i = 0; i < count; i++) {
      const width = Math.max(f(Math.min(x2[i], box.x2) - Math.max(x1[i], box.x1)), 0);
      const height = Math.max(f(Math.min(y2[i], box.y2) - Math.max(y1[i], box.y1)), 0);
      const shared = f(width * height), union = f(f(area[i] + box.area) - shared);
      row[i] = finish === null ? share(shared, union) : finish(share(shared, union), union, i);
    }
    return row;
  }

  const iou = (priors, box) => overlaps(priors, box, null);

  function hull(priors, box, i) {
    return [
      f(Math.max(priors.x2[i], box.x2) - Math.min(priors.x1[i], box.x1)),
      f(Math.max(priors.y2[i], box.y2) - Math.min(priors.y1[i], box.y1)),
    ];
  }

  const giou = (priors, box) => overlaps(priors, box, (value, union, i) => {
    const [width, height] = hull(priors, box, i), whole = f(width * height);
    return f(value - share(f(whole - union), whole));
  });

  const diou = (priors, box) => overlaps(priors, box, (value, _, i) => f(value - apart(priors, box, i)));

  function apart(priors, box, i) {
    const [width, height] = hull(priors, box, i), dx = f(priors.cx[i] - box.cx), dy = f(priors.cy[i] - box.cy);
    return share(f(f(dx * dx) + f(dy * dy)), f(f(width * width) + f(height * height)));
  }

  function decaying(priors, box, constant, withSizes) {
    const { x1, y1, x2, y2, cx, cy, count } = priors, row = new Float32Array(count), unit = f(constant);
    positive([constant], "constant");
    for (let i = 0; i < count; i++) {
      const dx = f(cx[i] - box.cx), dy = f(cy[i] - box.cy);
      let square = f(f(dx * dx) + f(dy * dy));
      if (withSizes) {
        const dw = f(f(x2[i] - x1[i]) - box.width), dh = f(f(y2[i] - y1[i]) - box.height);
        square = f(square + f(f(f(dw * dw) + f(dh * dh)) / 4));
      }
      row[i] = Math.exp(-f(f(Math.sqrt(square)) / unit));
    }
    return row;
  }

  const nwd = (priors, box, { constant }) => decaying(priors, box, constant, true);
  const dotd = (priors, box, { constant }) => decaying(priors, box, constant, false);

  // For the heat map alone: log and atan are not the same to the last bit everywhere, so no rule asks for these.
  function shown(formula) {
    return (priors, box, constants) => Float32Array.from({ length: priors.count }, (_, i) => {
      const width = f(priors.x2[i] - priors.x1[i]), height = f(priors.y2[i] - priors.y1[i]);
      const dx = f(priors.cx[i] - box.cx), dy = f(priors.cy[i] - box.cy);
      return formula({ width, height, dx, dy, box, dw: f(width - box.width), dh: f(height - box.height) }, constants);
    });
  }

  const TINY = 1e-12, some = (x) => Math.max(x, TINY);

  function ciou(priors, box) {
    const plain = iou(priors, box), better = diou(priors, box);
    return better.map((value, i) => {
      const of = (width, height) => Math.atan(width / some(height));
      const angle = of(box.width, box.height) - of(priors.x2[i] - priors.x1[i], priors.y2[i] - priors.y1[i]);
      const v = (4 / Math.PI ** 2) * angle * angle;
      return value - (v / some(1 - plain[i] + v)) * v;
    });
  }

  const rfd = shown(({ width, height, dx, dy, box }) => {
    const across = (width / box.width) ** 2, down = (height / box.height) ** 2;
    const shift = 4 * (dx / box.width) ** 2 + 4 * (dy / box.height) ** 2;
    return 1 / (1 + (shift + Math.max(across - Math.log(across) + down - Math.log(down) - 2, 0)) / 2);
  });

  const simd = shown(({ width, height, dx, dy, dw, dh, box }, { m, n }) => {
    const across = m / some(width + box.width), down = n / some(height + box.height);
    return Math.exp(-(Math.hypot(dx * across, dy * down) + Math.hypot(dw * across, dh * down)));
  });

  const gcd = shown(({ width, height, dx, dy, dw, dh, box }) => {
    const part = (d, ds, a, b) => (d / a) ** 2 + (d / b) ** 2 + ((ds / a) ** 2 + (ds / b) ** 2) / 4;
    const across = part(dx, dw, some(width), some(box.width)), down = part(dy, dh, some(height), some(box.height));
    return Math.exp(-Math.sqrt((across + down) / 2));
  });

  const gjsd = shown(({ width, height, dx, dy, box }) => {
    const part = (offset, a, b) => {
      const squares = a * a + b * b;
      return (offset * offset) / squares + Math.log(Math.max(squares / (2 * a * b), 1)) / 2;
    };
    return 1 / (1 + part(dx, some(width), box.width) + part(dy, some(height), box.height));
  });

  // exact: to the bit, so that rules may rank by it. sized: says nothing about points. near: labelkit finds its best
  // pairs near the object first, which shows in who counts as a candidate. constants: where a question gives none.
  const SIMILARITIES = {
    iou: { row: iou, exact: true, sized: true, near: true, constants: {} },
    giou: { row: giou, exact: true, sized: true, near: false, constants: {} },
    diou: { row: diou, exact: true, sized: true, near: false, constants: {} },
    ciou: { row: ciou, exact: false, sized: true, near: false, constants: {} },
    nwd: { row: nwd, exact: true, sized: false, near: true, constants: { constant: 12.8 } },
    dotd: { row: dotd, exact: true, sized: false, near: true, constants: { constant: 12.8 } },
    rfd: { row: rfd, exact: false, sized: true, near: true, constants: {} },
    simd: { row: simd, exact: false, sized: false, near: true, constants: { m: 6.13, n: 4.59 } },
    gcd: { row: gcd, exact: false, sized: true, near: true, constants: {} },
    gjsd: { row: gjsd, exact: false, sized: true, near: true, constants: {} },
  };

  return { PRESETS: Object.keys(PRESETS), SIMILARITIES, priorsOf, boxOf, share, halfToEven };
})();
