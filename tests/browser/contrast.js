// What is too faint, too thin or too small to be read: WCAG's contrast of 4.5, a weight of 400, 11 px.
() => {
  const wrong = [], seen = new Set(), words = document.createTreeWalker(document.querySelector("main") ?? document.body, NodeFilter.SHOW_TEXT);
  const parts = (colour) => {
    const [r, g, b, alpha = 1] = colour.match(/[\d.]+/g).map(Number);
    return colour.startsWith("color(") ? [255 * r, 255 * g, 255 * b, alpha] : [r, g, b, alpha];
  };
  const over = ([r, g, b, alpha], ground) => [r, g, b].map((part, i) => part * alpha + ground[i] * (1 - alpha));
  const ground = (node) => node ? over(parts(getComputedStyle(node).backgroundColor), ground(node.parentElement)) : [255, 255, 255];
  const light = (rgb) => {
    const [r, g, b] = rgb.map((part) => part / 255).map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05;
  };
  while (words.nextNode()) {
    const node = words.currentNode.parentElement, said = words.currentNode.data.trim();
    if (!said || node.closest("script, style, noscript, svg, math, sup, sub") || !node.checkVisibility({ visibilityProperty: true })) continue;
    const { color, fontWeight, fontSize } = getComputedStyle(node), below = ground(node), key = `${color} ${below} ${fontWeight} ${fontSize}`;
    if (seen.has(key)) continue;
    seen.add(key);
    const [dark, bright] = [light(below), light(over(parts(color), below))].sort((a, b) => a - b), what = `${node.className}: ${said.slice(0, 30)}`;
    if (bright / dark < 4.5) wrong.push(`${color} on ${below.map(Math.round)} has a contrast of ${(bright / dark).toFixed(1)}: ${what}`);
    if (fontWeight < 400) wrong.push(`weight ${fontWeight}: ${what}`);
    if (parseFloat(fontSize) < 11) wrong.push(`${fontSize}: ${what}`);
  }
  return wrong;
}
