/** Helpers that all sections of the page use. */

import { Refused } from "./api.js";

/** Create an element with attributes and children; strings become text nodes, never HTML. */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** Show 28 x 28 grey levels on a canvas of that size; the style sheet sets the colour. */
export function showPicture(canvas, pixels) {
  const context = canvas.getContext("2d");
  const image = context.createImageData(canvas.width, canvas.height);
  pixels.forEach((value, index) => (image.data[4 * index + 3] = value)); // black, with the grey level as opacity
  context.putImageData(image, 0, 0);
}

/** Return whether the system is set to reduced motion. */
export function prefersReducedMotion() {
  return matchMedia("(prefers-reduced-motion: reduce)").matches;
}

/** Show a notice in a section; an empty text hides it. */
export function showNotice(panel, text) {
  const notice = panel.querySelector(".notice");
  notice.textContent = text;
  notice.hidden = !text;
}

/** Run a request to the server; if it fails, show the reason as a notice and return null. */
export async function withNotice(panel, work) {
  try {
    const answer = await work();
    showNotice(panel, "");
    return answer;
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    showNotice(panel, error.message);
    return null;
  }
}

/** Return a function that announces text to screen readers once it has not changed for `patience` milliseconds. */
export function speaker(place, patience = 700) {
  let timer = 0;
  return (text) => {
    clearTimeout(timer);
    timer = setTimeout(() => (place.textContent = text), patience);
  };
}

/** Describe the source of a model by its card: program, data set and first test metric. */
export function source({ chapter, program, data, metrics }) {
  const [name, value] = Object.entries(metrics).find(([measure]) => measure.startsWith("test_")) ?? ["", NaN];
  const measured = name && `: ${name.replaceAll("_", " ")} ${Number(value.toPrecision(4))}`;
  return `${chapter}.${program}, trained on ${data.name}${data.embedded ? " (embedded)" : ""}${measured}.`;
}

/** Format a probability: 98.2 %, 0.4 %, and > 99.9 % or < 0.1 % instead of 100 or 0. */
export function percent(share) {
  if (share > 0.9995) return "> 99.9 %";
  if (share < 0.0005) return "< 0.1 %";
  return `${(100 * share).toFixed(1)} %`;
}
