/** Draw a digit, and see what the network takes it for while you draw. */

import { ask, newest } from "./api.js";
import { element, kindly, showPicture, stillness } from "./elements.js";
import { shower } from "./guess.js";
import { SIDE, asMnist, rows } from "./mnist.js";
import { strokesOf } from "./samples.js";

/** How far a key press moves the pen, in parts of the pad. */
const STRIDE = 1 / 32;

const DIRECTIONS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** Points that a digit being drawn by itself gains in each picture of the screen. */
const POINTS_A_FRAME = 2;

export function start(panel) {
  const [undo, clear] = [panel.querySelector(".undo"), panel.querySelector(".clear")];
  const preview = panel.querySelector(".preview canvas");
  const pad = panel.querySelector(".pad");
  const show = shower(panel, [..."0123456789"], "Nothing drawn yet.");
  const guess = newest((picture, signal) =>
    kindly(panel, async () => show(await ask("predict", { pixels: rows(picture) }, signal))),
  );
  let strokes = [];
  let due = 0;

  /** Draw what has changed, and ask about it at most once a picture of the screen. */
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
      return (next) => (stroke.push(next), changed()); // goes on with this stroke, even where it was taken back
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

/** Let the mouse, a finger or a pen draw. */
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

/** Let the keyboard draw: arrow keys carry a pen, the space bar sets it down. */
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

/** Ten buttons, each of which draws its digit, point after point. */
function samples(panel, drawing) {
  let frame = 0;
  const stop = () => cancelAnimationFrame(frame);
  function play(digit) {
    stop();
    drawing.clear();
    const points = strokesOf(digit).flatMap((stroke) => stroke.map((point, index) => [point, index === 0]));
    let extend = null;
    const step = () => {
      for (const [point, first] of points.splice(0, stillness() ? points.length : POINTS_A_FRAME)) {
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

/** Draw the strokes that are new or longer than they were. */
function redraw(pad, strokes) {
  const group = pad.querySelector(".strokes");
  while (group.children.length > strokes.length) group.lastChild.remove();
  strokes.forEach((stroke, index) => {
    const line = group.children[index] ?? group.appendChild(document.createElementNS(group.namespaceURI, "polyline"));
    const points = stroke.length === 1 ? [stroke[0], stroke[0]] : stroke; // a dot is a line without length
    line.setAttribute("points", points.map((point) => point.join()).join(" "));
  });
}
