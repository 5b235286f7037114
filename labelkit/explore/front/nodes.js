/* Making the page's elements. */

const SVG = "http://www.w3.org/2000/svg";

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if ((value ?? false) !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children);
  return node;
}

function draw(tag, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  put(node, attributes);
  node.append(...children);
  return node;
}

function put(node, attributes) {
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
}

function choice(options, value, label, changed) {
  const select = make("select", {"aria-label": label, onchange: () => changed(select.value)});
  for (const [key, text] of options) select.append(make("option", {value: key, selected: key === value}, text));
  return select;
}

function field(name, control) {
  return make("label", {class: "lkx-field"}, make("span", {}, name), control);
}
