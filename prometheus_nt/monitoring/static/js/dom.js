/** Elements, made without ever parsing text as HTML. */

/**
 * Make an element.
 * @param {string} tag  name, with classes after dots: `td.num.bad`
 * @param {object} [props]  attributes; `on` holds listeners, `data` data attributes
 * @param {...(Node|string|number|null|undefined|false|Array)} children
 */
export function h(tag, props, ...children) {
  const [name, ...classes] = tag.split(".");
  const node = document.createElement(name || "div");
  if (classes.length) node.className = classes.join(" ");
  if (props && (props instanceof Node || typeof props !== "object" || Array.isArray(props))) {
    children.unshift(props);
    props = null;
  }
  for (const [key, value] of Object.entries(props ?? {})) set(node, key, value);
  append(node, children);
  return node;
}

function set(node, key, value) {
  if (value === null || value === undefined || value === false) return;
  if (key === "on") {
    for (const [event, listener] of Object.entries(value)) node.addEventListener(event, listener);
  } else if (key === "data") Object.assign(node.dataset, value);
  else if (key === "style") Object.assign(node.style, value);
  else if (key === "class") node.classList.add(...value.split(" ").filter(Boolean));
  else if (key === "value") node.value = value;
  else node.setAttribute(key, value === true ? "" : value);
}

export function append(node, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    node.append(child instanceof Node ? child : String(child));
  }
  return node;
}

/** Replace what a node holds. */
export function fill(node, ...children) {
  node.replaceChildren();
  return append(node, children);
}

const SVG = "http://www.w3.org/2000/svg";

/** Make an SVG element. */
export function svg(tag, props = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(props)) {
    if (key === "on") for (const [e, f] of Object.entries(value)) node.addEventListener(e, f);
    else if (value !== null && value !== undefined) node.setAttribute(key, value);
  }
  return append(node, children);
}
