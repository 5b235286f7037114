/* The curve of positives against the shift, one small chart a rule: none can hide another. */

const LOOKS = [["blue", ""], ["red", "6 3"], ["green", "7 2 2 2"], ["purple", "2 2"], ["orange", ""], ["sky", "6 3"]];
const WIDE = 220, HIGH = 96, LEFT = 22, RIGHT = 6, TOP = 6, BOTTOM = 16;  // px of a chart and of its margins

const across = offset => LEFT + (offset + REACH) / (2 * REACH) * (WIDE - LEFT - RIGHT);

/* look: the rule's number. points: [offset, positives], undefined where they are not known yet. */
function chart(rule, look, points, highest) {
  const [colour, dash] = LOOKS[look % LOOKS.length], stroke = `var(--lkx-${colour})`;
  const y = n => HIGH - BOTTOM - n / highest * (HIGH - BOTTOM - TOP), {steps, none, joined} = paths(points, y);
  const svg = draw("svg", {viewBox: `0 0 ${WIDE} ${HIGH}`, role: "img"}, ...grid(y, highest),
    draw("path", {d: none, class: "lkx-none"}),
    draw("path", {d: joined, class: "lkx-curve", stroke, "stroke-dasharray": dash}),
    draw("path", {d: steps, class: "lkx-steps", stroke}));
  const said = inWords(points);
  put(svg, {"aria-label": `${rule}: ${said}, shifted by ${-REACH} to ${REACH} pixels`});
  return make("figure", {}, make("figcaption", {}, make("b", {}, rule), ` ${said}`), svg);
}

function grid(y, highest) {
  const counts = [0, highest].flatMap(n => [
    draw("line", {x1: LEFT, x2: WIDE - RIGHT, y1: y(n), y2: y(n), class: "lkx-grid"}),
    draw("text", {x: LEFT - 4, y: y(n) + 4, "text-anchor": "end"}, String(n))]);
  const ends = [[-REACH, "start", String(-REACH)], [0, "middle", "0"], [REACH, "end", `+${REACH} px`]];
  const offsets = ends.map(([offset, anchor, text]) => (
    draw("text", {x: across(offset), y: HIGH - 3, "text-anchor": anchor}, text)));
  const here = draw("line", {x1: across(0), x2: across(0), y1: TOP, y2: HIGH - BOTTOM, class: "lkx-here"});
  return [...counts, ...offsets, here];
}

/* A step for every count that is known, a box where it is 0, and the line from count to count. */
function paths(points, y) {
  const half = (across(1) - across(0)) / 2;
  let steps = "", none = "", joined = "";
  points.forEach(([offset, count], i) => {
    if (count === undefined) return;
    const x = across(offset);
    steps += `M${px(x - half)} ${px(y(count))}H${px(x + half)}`;
    if (count === 0) none += `M${px(x - half)} ${px(y(0))}h${px(2 * half)}v-9h${px(-2 * half)}z`;
    joined += `${i && points[i - 1][1] !== undefined ? "L" : "M"}${px(x)} ${px(y(count))}`;
  });
  return {steps, none, joined};
}

function inWords(points) {
  const counts = points.map(([, count]) => count).filter(count => count !== undefined);
  if (!counts.length) return "not known yet";
  const least = Math.min(...counts), most = Math.max(...counts), without = counts.filter(count => count === 0).length;
  const span = least === most ? many(least, "positive") : `${least} to ${most} positives`;
  return span + (without ? `, none at ${without} of ${counts.length} places` : "");
}
