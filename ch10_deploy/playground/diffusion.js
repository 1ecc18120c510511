/** Show how a diffusion model turns noise into a digit, step by step. */

import { ask, newest } from "./api.js";
import { prefersReducedMotion, showPicture, speaker, withNotice } from "./elements.js";

const SEEDS = 1_000_000;

/** Milliseconds between two steps of the animation. */
const PACE = 90;

export function start(panel) {
  const [digit, guidance, steps, shown] = ["digit", "guidance", "steps", "shown"].map((name) =>
    panel.querySelector(`[name=${name}]`),
  );
  const [state, prediction] = [panel.querySelector(".state"), panel.querySelector(".prediction")];
  const say = speaker(panel.querySelector(".spoken"));
  let [film, timer, seed] = [null, 0, 0];

  /** Show the images after a number of steps. */
  function show(step) {
    shown.value = step;
    write(shown, `${step} of ${film.predicted.length}, t = ${film.times[step]}`);
    showPicture(state, film.images[step].flat());
    showPicture(prediction, film.predicted[Math.min(step, film.predicted.length - 1)].flat());
  }
  function stop() {
    clearInterval(timer);
    timer = 0;
  }
  function play() {
    stop();
    if (!film) return;
    if (prefersReducedMotion()) return show(film.predicted.length);
    let step = 0;
    show(step);
    timer = setInterval(() => {
      if (panel.hidden || step >= film.predicted.length) return stop();
      show(++step);
    }, PACE);
  }
  const generate = newest((wish, signal) =>
    withNotice(panel, async () => {
      const found = await ask("denoise", wish, signal);
      film = found;
      shown.max = film.predicted.length;
      say(`The digit ${wish.digit} in ${wish.steps} steps.`);
      play();
    }),
  );
  function wish() {
    write(guidance, Number(guidance.value).toFixed(1));
    write(steps, steps.value);
    generate({ digit: Number(digit.value), guidance: Number(guidance.value), steps: Number(steps.value), seed });
  }
  for (const input of [digit, guidance, steps]) input.addEventListener("input", wish);
  shown.addEventListener("input", () => (stop(), film && show(Number(shown.value))));
  panel.querySelector(".play").addEventListener("click", play);
  panel.querySelector(".another").addEventListener("click", () => {
    seed = Math.floor(Math.random() * SEEDS);
    wish();
  });
  wish();
}

/** Write the value of a slider next to its name. */
function write(range, text) {
  range.parentElement.querySelector(".value").textContent = text;
  range.setAttribute("aria-valuetext", text);
}
