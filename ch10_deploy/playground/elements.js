/** Small things that every section of the page needs. */

import { Refused } from "./api.js";

/** Make an element with attributes and children; text is only ever text. */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** Show 28 x 28 levels of ink on a canvas of that size; the page's colours decide what ink looks like. */
export function showPicture(canvas, pixels) {
  const context = canvas.getContext("2d");
  const image = context.createImageData(canvas.width, canvas.height);
  pixels.forEach((value, index) => (image.data[4 * index + 3] = value)); // black, as opaque as there is ink
  context.putImageData(image, 0, 0);
}

/** Whether the person has asked the system for less motion. */
export function stillness() {
  return matchMedia("(prefers-reduced-motion: reduce)").matches;
}

/** Say something about a section, in words; an empty text takes it back. */
export function tell(panel, text) {
  const notice = panel.querySelector(".notice");
  notice.textContent = text;
  notice.hidden = !text;
}

/** Run something that asks the server, and say kindly where it does not answer as hoped. */
export async function kindly(panel, work) {
  try {
    const answer = await work();
    tell(panel, "");
    return answer;
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    tell(panel, error.message);
    return null;
  }
}

/** Speak to screen readers once nothing new has come for a moment. */
export function speaker(place, patience = 700) {
  let timer = 0;
  return (text) => {
    clearTimeout(timer);
    timer = setTimeout(() => (place.textContent = text), patience);
  };
}

/** A share as people write it: 98.2 %, 0.4 %, and neither 0 nor 100 where it is not quite. */
export function percent(share) {
  if (share > 0.9995) return "> 99.9 %";
  if (share < 0.0005) return "< 0.1 %";
  return `${(100 * share).toFixed(1)} %`;
}
