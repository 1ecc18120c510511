/** Show pictures on a canvas, with something drawn over them, and a legend of the colours. */

import { element } from "./elements.js";

/** Draw a picture in the resolution of the screen, since lines and text are drawn over it. */
export function drawPicture(canvas, picture) {
  canvas.style.aspectRatio = `${picture.width} / ${picture.height}`;
  canvas.style.maxWidth = `calc(70vh * ${picture.width / picture.height})`; // so high pictures are not scrolled
  const width = Math.max(picture.width, Math.round(canvas.clientWidth * devicePixelRatio));
  canvas.width = width;
  canvas.height = Math.round((width * picture.height) / picture.width);
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false;
  context.drawImage(picture, 0, 0, canvas.width, canvas.height);
}

/** Create a row of a legend: a colour, a name and a number. */
export function legendRow(colour, name, number) {
  const swatch = element("span", { class: "swatch" });
  swatch.style.setProperty("--colour", colour);
  return element("li", {}, swatch, element("span", {}, name), element("span", {}, number));
}
