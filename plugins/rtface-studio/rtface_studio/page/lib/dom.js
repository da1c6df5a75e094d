// Builds and replaces elements. Texts are always text nodes, so that file names cannot become markup.

/**
 * Creates an element. Properties that start with "on" are event listeners. `class` is a name or a list, `style` an object
 * of CSS properties; `ref` is called with the element. The names in `AS_PROPERTY` are set as properties, all others as
 * attributes: true sets an empty attribute, false and null set none.
 */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties ?? {})) setProperty(element, name, value);
  append(element, children);
  properties?.ref?.(element);
  return element;
}

const AS_PROPERTY = new Set(["value", "checked", "disabled", "srcObject", "indeterminate"]);

function setProperty(element, name, value) {
  if (name === "ref") return;
  if (name.startsWith("on")) element.addEventListener(name.slice(2).toLowerCase(), value);
  else if (name === "class") element.className = [value].flat().filter(Boolean).join(" ");
  else if (name === "dataset") Object.assign(element.dataset, value);
  else if (name === "style") for (const [key, item] of Object.entries(value)) element.style.setProperty(key, item);
  else if (AS_PROPERTY.has(name)) element[name] = value;
  else if (value === true) element.setAttribute(name, "");
  else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
}

function append(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : String(child));
  }
}

/** Replaces all children of an element. */
export function replace(element, ...children) {
  element.replaceChildren();
  append(element, children);
  return element;
}

let ids = 0;
/** Returns an unused element id. */
export const newId = (prefix) => `${prefix}-${++ids}`;
