/** Detect the objects of a picture, and draw their boxes on it. */

import { ask } from "./api.js";
import { element, percent, speaker } from "./elements.js";
import { drawPicture, legendRow } from "./picture_canvas.js";
import { pictureInput } from "./picture_input.js";

/** Colours of the classes, all light enough for dark text. */
const COLOURS = ["#ff6b60", "#4cd964", "#5ab0ff", "#ffd60a", "#d689ff", "#ff9f0a", "#64d2ff", "#f2f2f2"];

/** Colour of the text on them, and of the edges of the lines. */
const INK = "#101418";

/** Threshold of the requests: detections with lower scores are not sent. The slider selects among the others. */
const LOWEST = 0.05;

/** Width of the lines and height of the text in CSS pixels. */
const [LINE, TEXT] = [2, 13];

export function start(panel) {
  const canvas = panel.querySelector("canvas");
  const range = panel.querySelector("[name=threshold]");
  const list = panel.querySelector(".found");
  const [result, say] = [panel.querySelector(".count"), speaker(panel.querySelector(".spoken"))];
  let [picture, answer] = [null, null];

  function show() {
    range.parentElement.querySelector(".value").textContent = Number(range.value).toFixed(2);
    if (!picture) return;
    const found = answer?.detections.filter(({ score }) => score >= Number(range.value)) ?? [];
    const colours = found.map(({ label }) => COLOURS[answer.classes.indexOf(label) % COLOURS.length]);
    drawPicture(canvas, picture);
    for (let place = found.length - 1; place >= 0; place--) drawBox(canvas, picture, found[place], colours[place]);
    list.replaceChildren(...found.map((each, place) => legendRow(colours[place], each.label, percent(each.score))));
    result.textContent = answer ? summary(found) : "";
    say(result.textContent);
  }
  range.addEventListener("input", show);
  new ResizeObserver(show).observe(canvas);
  pictureInput(panel, "detection", async (chosen, form, signal) => {
    [picture, answer] = [chosen, null];
    show();
    answer = await ask(`detect?threshold=${LOWEST}`, form, signal);
    show();
  });
}

/** Draw a box with the class and the score in its upper left corner. */
function drawBox(canvas, picture, { label, score, box }, colour) {
  const context = canvas.getContext("2d");
  const unit = canvas.width / (canvas.clientWidth || canvas.width); // canvas pixels per CSS pixel
  const [left, top, right, bottom] = box.map((edge) => Math.round((edge * canvas.width) / picture.width));
  for (const [style, width] of [[INK, 2 * LINE], [colour, LINE]]) { // a dark edge, for light grounds
    context.strokeStyle = style;
    context.lineWidth = width * unit;
    context.strokeRect(left, top, right - left, bottom - top);
  }
  const text = `${label} ${score.toFixed(2)}`;
  context.font = `${TEXT * unit}px system-ui, sans-serif`;
  context.textBaseline = "middle";
  const [width, height] = [context.measureText(text).width + 8 * unit, (TEXT + 5) * unit];
  const x = Math.max(0, Math.min(left, canvas.width - width));
  const y = Math.max(0, Math.min(top, canvas.height) - height);
  context.fillStyle = colour;
  context.fillRect(x, y, width, height);
  context.fillStyle = INK;
  context.fillText(text, x + 4 * unit, y + height / 2);
}

function summary(found) {
  return found.length === 1 ? "1 object" : `${found.length || "No"} objects`;
}
