/** Move a marker over the latent plane of the autoencoder, and show the decoder's output there. */

import { Refused, ask, newest } from "./api.js";
import { withNotice, showPicture, prefersReducedMotion } from "./elements.js";

/** The plane is shown from -REACH to REACH, three standard deviations of the prior. */
const REACH = 3;

/** Number of images per side of the map in the background of the plane. */
const TILES = 13;

const SIDE = 28;

const DIRECTIONS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };

/** Distance per key press; five times as much with Shift. */
const STRIDE = 0.1;

export function start(panel) {
  const plane = panel.querySelector(".plane");
  const ranges = ["x", "y"].map((name) => panel.querySelector(`[name=${name}]`));
  const drawing = panel.querySelector(".drawing canvas");
  const look = newest((place, signal) =>
    withNotice(panel, async () => showPicture(drawing, (await ask("decode", { latent: place }, signal)).pixels.flat())),
  );
  let place = [0, 0];

  function go(to) {
    place = to.map((value) => Math.min(Math.max(Math.round(value * 100) / 100, -REACH), REACH));
    plane.style.setProperty("--x", (place[0] + REACH) / (2 * REACH));
    plane.style.setProperty("--y", (REACH - place[1]) / (2 * REACH));
    ranges.forEach((range, axis) => (range.value = place[axis]));
    panel.querySelector(".numbers").textContent = `(${place.map((value) => value.toFixed(2)).join(", ")})`;
    look(place);
  }
  const wandering = wander(panel.querySelector(".wander"), () => place, go);
  const walk = (to) => (wandering.stop(), go(to));
  pointer(plane, walk);
  plane.addEventListener("keydown", (event) => {
    const direction = DIRECTIONS[event.key];
    if (!direction || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    walk(place.map((value, axis) => value + STRIDE * (event.shiftKey ? 5 : 1) * direction[axis]));
  });
  for (const range of ranges) range.addEventListener("input", () => walk(ranges.map((other) => Number(other.value))));
  go(place);
  drawMap(plane.querySelector("canvas"));
}

/** Move the marker with a mouse, finger or pen. */
function pointer(plane, walk) {
  const move = (event) => {
    const box = plane.getBoundingClientRect();
    const share = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    walk([REACH * (2 * share[0] - 1), REACH * (1 - 2 * share[1])]);
  };
  plane.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    plane.setPointerCapture(event.pointerId);
    move(event);
  });
  plane.addEventListener("pointermove", (event) => {
    if (plane.hasPointerCapture(event.pointerId)) move(event);
  });
}

/** Make a button move the marker along a non-periodic curve; in large, slow steps if reduced motion is preferred. */
function wander(button, where, go) {
  let timer = 0;
  const stop = () => {
    clearInterval(timer);
    button.setAttribute("aria-pressed", "false");
    timer = 0;
  };
  button.addEventListener("click", () => {
    if (timer) return stop();
    const still = prefersReducedMotion();
    let angle = 0;
    const [startX, startY] = where();
    const step = () => {
      if (button.closest("[hidden]")) return stop(); // another tab was opened
      angle += still ? 0.2 : 0.01;
      const [x, y] = [2 * Math.sin(angle), 2 * Math.sin(angle * Math.SQRT2 + 0.8) - 2 * Math.sin(0.8)];
      const near = Math.exp(-angle); // start at the marker's position
      go([x + startX * near, y + startY * near]);
    };
    timer = setInterval(step, still ? 1500 : 33);
    button.setAttribute("aria-pressed", "true");
    step();
  });
  return { stop };
}

/** Fill the map in the background from the middle outwards, one image at a time, until an error occurs. */
async function drawMap(canvas) {
  canvas.width = canvas.height = TILES * SIDE;
  const context = canvas.getContext("2d");
  const middle = (TILES - 1) / 2;
  const tiles = Array.from({ length: TILES * TILES }, (_, index) => [index % TILES, Math.floor(index / TILES)]);
  const far = ([column, row]) => Math.hypot(column - middle, row - middle);
  const tile = new OffscreenCanvas(SIDE, SIDE);
  try {
    for (const [column, row] of tiles.sort((one, other) => far(one) - far(other))) {
      const latent = [column - middle, middle - row].map((steps) => (steps * 2 * REACH) / TILES);
      showPicture(tile, (await ask("decode", { latent })).pixels.flat());
      context.drawImage(tile, column * SIDE, row * SIDE);
    }
  } catch (error) {
    if (!(error instanceof Refused)) throw error; // the requests for the marker show the error
  }
}
