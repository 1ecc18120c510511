/** Give a picture the style of a network, and compare both with a slider. */

import { connected, request } from "./api.js";
import { speaker } from "./elements.js";
import { drawPicture } from "./picture_canvas.js";
import { pictureInput } from "./picture_input.js";

export function start(panel) {
  const canvas = panel.querySelector("canvas");
  const range = panel.querySelector("[name=share]");
  const say = speaker(panel.querySelector(".spoken"));
  let [picture, stylised] = [null, null];

  function show() {
    range.parentElement.querySelector(".value").textContent = `${range.value} %`;
    if (!picture) return;
    drawPicture(canvas, picture);
    if (!stylised) return;
    const context = canvas.getContext("2d");
    const share = 1 - Number(range.value) / 100; // of the width that still shows the picture itself
    const left = Math.round(share * stylised.width);
    const place = Math.round((left * canvas.width) / stylised.width);
    const [width, height] = [stylised.width - left, stylised.height];
    if (width > 0) context.drawImage(stylised, left, 0, width, height, place, 0, canvas.width - place, canvas.height);
  }
  range.addEventListener("input", show);
  new ResizeObserver(show).observe(canvas);
  pictureInput(panel, "style", async (chosen, form, signal) => {
    [picture, stylised] = [chosen, null];
    show();
    say("Computing …");
    const response = await request("stylise", form, signal);
    stylised = await createImageBitmap(await connected(response.blob()));
    say("The picture in the style of the network is shown.");
    show();
  });
}
