/** Segment a picture, and lay the mask of its classes over it. */

import { ask } from "./api.js";
import { percent, speaker } from "./elements.js";
import { drawPicture, legendRow } from "./picture_canvas.js";
import { pictureInput } from "./picture_input.js";

export function start(panel) {
  const canvas = panel.querySelector("canvas");
  const range = panel.querySelector("[name=opacity]");
  const list = panel.querySelector(".found");
  const say = speaker(panel.querySelector(".spoken"));
  let [picture, mask] = [null, null];

  function show() {
    range.parentElement.querySelector(".value").textContent = `${range.value} %`;
    if (!picture) return;
    drawPicture(canvas, picture);
    if (!mask) return;
    const context = canvas.getContext("2d");
    context.globalAlpha = Number(range.value) / 100;
    context.imageSmoothingEnabled = false;
    context.drawImage(mask, 0, 0, canvas.width, canvas.height);
  }
  range.addEventListener("input", show);
  new ResizeObserver(show).observe(canvas);
  pictureInput(panel, "segmentation", async (chosen, form, signal) => {
    [picture, mask] = [chosen, null];
    list.replaceChildren();
    show();
    const answer = await ask("segment", form, signal);
    mask = await createImageBitmap(fromBase64(answer.mask));
    const present = answer.classes
      .map((name, number) => ({ name, colour: colourOf(answer, number), share: answer.shares[number] }))
      .filter(({ share }) => share > 0)
      .sort((one, other) => other.share - one.share);
    list.replaceChildren(...present.map(({ name, colour, share }) => legendRow(colour, name, percent(share))));
    say(present.map(({ name, share }) => `${name} ${percent(share)}`).join(", "));
    show();
  });
}

/** Colour of a class in the mask, in which class 0, the background, is transparent. */
function colourOf({ colours }, number) {
  return number ? colours[number] : "transparent";
}

/** Decode a PNG file in base64. */
function fromBase64(text) {
  return new Blob([Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0))], { type: "image/png" });
}
