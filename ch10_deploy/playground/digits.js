/** Drawing pad for a digit, which is classified while it is drawn. */

import { ask, newest } from "./api.js";
import { element, withNotice, showPicture, prefersReducedMotion } from "./elements.js";
import { predictionView } from "./guess.js";
import { SIDE, asMnist, rows } from "./mnist.js";
import { strokesOf } from "./samples.js";

/** Distance that a key press moves the pen, as a fraction of the pad. */
const STRIDE = 1 / 32;

const DIRECTIONS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** Points added per animation frame when an example digit is drawn. */
const POINTS_PER_FRAME = 2;

export function start(panel) {
  const [undo, clear] = [panel.querySelector(".undo"), panel.querySelector(".clear")];
  const preview = panel.querySelector(".preview canvas");
  const pad = panel.querySelector(".pad");
  const show = predictionView(panel, [..."0123456789"], "Nothing drawn yet.");
  const guess = newest((picture, signal) =>
    withNotice(panel, async () => show(await ask("predict", { pixels: rows(picture) }, signal))),
  );
  let strokes = [];
  let due = 0;

  /** Redraw and request a prediction, at most once per animation frame. */
  function changed() {
    undo.disabled = clear.disabled = strokes.length === 0;
    due ||= requestAnimationFrame(() => {
      due = 0;
      redraw(pad, strokes);
      const picture = strokes.length ? asMnist(strokes) : new Uint8ClampedArray(SIDE * SIDE);
      showPicture(preview, picture);
      if (strokes.length) return guess(picture);
      guess.cancel();
      show(null);
    });
  }
  const drawing = {
    begin(point) {
      const stroke = [point];
      strokes.push(stroke);
      changed();
      return (next) => (stroke.push(next), changed()); // extends this stroke, even after an undo
    },
    undo: () => (strokes.pop(), changed()),
    clear: () => ((strokes = []), changed()),
  };
  const playing = samples(panel, drawing);
  pointer(pad, drawing, playing);
  keyboard(pad, drawing, playing);
  undo.addEventListener("click", () => (playing.stop(), drawing.undo()));
  clear.addEventListener("click", () => (playing.stop(), drawing.clear(), pad.focus()));
}

/** Draw with a mouse, finger or pen. */
function pointer(pad, drawing, playing) {
  const place = (event) => {
    const box = pad.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  };
  let active = null;
  let extend = null;
  pad.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || active !== null) return;
    active = event.pointerId;
    pad.setPointerCapture(active);
    playing.stop();
    extend = drawing.begin(place(event));
  });
  pad.addEventListener("pointermove", (event) => {
    if (event.pointerId !== active) return;
    for (const part of event.getCoalescedEvents?.() ?? [event]) extend(place(part));
  });
  for (const end of ["pointerup", "pointercancel"]) {
    pad.addEventListener(end, (event) => {
      if (event.pointerId === active) active = null;
    });
  }
}

/** Draw with the keyboard: the arrow keys move the pen, the space bar lowers or lifts it. */
function keyboard(pad, drawing, playing) {
  const pen = pad.querySelector(".pen");
  const held = new Set();
  let [place, extend] = [[0.5, 0.5], null];
  const set = (going) => {
    extend = going;
    pen.classList.toggle("down", extend !== null);
  };
  const show = () => (pen.setAttribute("cx", place[0]), pen.setAttribute("cy", place[1]));
  const press = {
    " ": () => {
      playing.stop();
      set(extend ? null : drawing.begin([...place]));
    },
    Backspace: () => (playing.stop(), set(null), drawing.undo()),
    Delete: () => (playing.stop(), set(null), drawing.clear()),
    Escape: () => set(null),
  };
  pad.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key in DIRECTIONS) {
      held.add(event.key);
      for (const key of held) {
        place = place.map((value, axis) => Math.min(Math.max(value + STRIDE * DIRECTIONS[key][axis], 0), 1));
      }
      extend?.([...place]);
      show();
    } else if (event.key in press) {
      if (!event.repeat) press[event.key]();
    } else return;
    event.preventDefault();
  });
  pad.addEventListener("keyup", (event) => held.delete(event.key));
  pad.addEventListener("blur", () => (held.clear(), set(null)));
  pad.addEventListener("pointerdown", () => set(null));
  show();
}

/** Add ten buttons that each draw an example digit, point by point. */
function samples(panel, drawing) {
  let frame = 0;
  const stop = () => cancelAnimationFrame(frame);
  function play(digit) {
    stop();
    drawing.clear();
    const points = strokesOf(digit).flatMap((stroke) => stroke.map((point, index) => [point, index === 0]));
    let extend = null;
    const step = () => {
      for (const [point, first] of points.splice(0, prefersReducedMotion() ? points.length : POINTS_PER_FRAME)) {
        if (first) extend = drawing.begin(point);
        else extend(point);
      }
      if (points.length) frame = requestAnimationFrame(step);
    };
    step();
  }
  for (let digit = 0; digit < 10; digit++) {
    const button = element("button", { type: "button", "aria-label": `Digit ${digit}` }, String(digit));
    button.addEventListener("click", () => play(digit));
    panel.querySelector(".samples").append(button);
  }
  return { stop };
}

/** Update the SVG lines of the strokes. */
function redraw(pad, strokes) {
  const group = pad.querySelector(".strokes");
  while (group.children.length > strokes.length) group.lastChild.remove();
  strokes.forEach((stroke, index) => {
    const line = group.children[index] ?? group.appendChild(document.createElementNS(group.namespaceURI, "polyline"));
    const points = stroke.length === 1 ? [stroke[0], stroke[0]] : stroke; // a dot is a line without length
    line.setAttribute("points", points.map((point) => point.join()).join(" "));
  });
}
