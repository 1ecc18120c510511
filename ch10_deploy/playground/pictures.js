/** Choose a picture, and show its classification. */

import { ask, newest } from "./api.js";
import { withNotice, showNotice } from "./elements.js";
import { predictionView } from "./guess.js";

/** Side of the network's input, in pixels. */
const SIDE = 32;

export function start(panel) {
  const input = panel.querySelector("[type=file]");
  const canvas = panel.querySelector("canvas");
  let show = null;
  const look = newest((pixels, signal) =>
    withNotice(panel, async () => {
      const answer = await ask("predict", { pixels }, signal);
      show ??= predictionView(panel, answer.classes, "No picture yet.");
      show(answer);
    }),
  );
  input.addEventListener("change", async () => {
    const [file] = input.files;
    if (!file) return;
    const picture = await createImageBitmap(file).catch(() => null);
    if (file !== input.files[0]) return; // another file was chosen meanwhile
    if (!picture) {
      look.cancel();
      show?.(null);
      return showNotice(panel, "This browser cannot read that file as a picture.");
    }
    look(shrink(picture, canvas));
  });
}

/** Scale the central square of a picture to SIDE x SIDE; return its pixels as rows of [red, green, blue]. */
function shrink(picture, canvas) {
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const edge = Math.min(picture.width, picture.height);
  const [left, top] = [(picture.width - edge) / 2, (picture.height - edge) / 2];
  context.fillStyle = "white"; // background of transparent pictures
  context.fillRect(0, 0, SIDE, SIDE);
  context.imageSmoothingQuality = "high";
  context.drawImage(picture, left, top, edge, edge, 0, 0, SIDE, SIDE);
  const { data } = context.getImageData(0, 0, SIDE, SIDE);
  const pixel = (row, column) => Array.from(data.subarray(4 * (row * SIDE + column), 4 * (row * SIDE + column) + 3));
  return Array.from({ length: SIDE }, (_, row) => Array.from({ length: SIDE }, (_, column) => pixel(row, column)));
}
