/** Animate the planner's path through a maze that is not in its training set. */

import { ask, newest } from "./api.js";
import { withNotice, prefersReducedMotion } from "./elements.js";

const SEEDS = 1_000_000;

export function start(panel) {
  const [walk, another] = [panel.querySelector(".walk"), panel.querySelector(".another")];
  const [seed, speed] = [panel.querySelector("[name=seed]"), panel.querySelector("[name=speed]")];
  const picture = panel.querySelector(".maze");
  const result = panel.querySelector(".result");
  let animation = null;

  const enter = newest((number, signal) =>
    withNotice(panel, async () => {
      const maze = await ask("maze", { seed: number }, signal);
      animation?.pause();
      drawMaze(picture, maze);
      result.textContent = `A maze of ${maze.tiles[0].length} by ${maze.tiles.length} tiles.`;
      animation = animate(picture, maze.path, () => Number(speed.value), (going, atEnd) => {
        walk.textContent = going ? "Pause" : atEnd ? "Walk again" : "Walk";
        if (atEnd) result.textContent = verdict(maze);
      });
      if (prefersReducedMotion()) animation.finish();
      else animation.go();
    }),
  );
  walk.addEventListener("click", () => animation?.toggle());
  another.addEventListener("click", () => {
    seed.value = Math.floor(Math.random() * SEEDS);
    enter(Number(seed.value));
  });
  seed.addEventListener("change", () => seed.reportValidity() && seed.value && enter(Number(seed.value)));
  speed.addEventListener("input", () => speed.setAttribute("aria-valuetext", `${speed.value} steps per second`));
  enter(Number(seed.value));
}

/** Draw corridors as lines between the centres of neighbouring floor tiles. */
function drawMaze(picture, { tiles, start, goal }) {
  const free = (row, column) => tiles[row]?.[column] === 0;
  const lines = tiles.flatMap((line, row) =>
    line.flatMap((_, column) => {
      if (!free(row, column)) return [];
      const here = `M${middle([row, column])}`;
      const right = free(row, column + 1) ? "h1" : "";
      const down = free(row + 1, column) ? `${here}v1` : "";
      return [`${here}${right || "h0"}${down}`];
    }),
  );
  picture.setAttribute("viewBox", `0 0 ${tiles[0].length} ${tiles.length}`);
  picture.querySelector(".floor").setAttribute("d", lines.join(""));
  place(picture.querySelector(".goal"), goal);
  place(picture.querySelector(".agent"), start);
}

/** Animate a path; returns `go`, `pause`, `toggle` and `finish`. `changed(running, atEnd)` is called on changes. */
function animate(picture, path, stepsPerSecond, changed) {
  const [dot, trail] = [picture.querySelector(".agent"), picture.querySelector(".trail")];
  const last = path.length - 1;
  let [steps, before, frame] = [0, null, 0];

  function show() {
    const whole = Math.floor(steps);
    const [here, next] = [path[whole], path[Math.min(whole + 1, last)]];
    const between = here.map((value, axis) => value + (next[axis] - value) * (steps - whole));
    place(dot, between);
    trail.setAttribute("d", `M${[...path.slice(0, whole + 1), between].map(middle).join("L")}`);
  }
  function tick(now) {
    const seconds = Math.min(now - (before ?? now), 100) / 1000; // no jump after the page was hidden
    steps = Math.min(steps + stepsPerSecond() * seconds, last);
    before = now;
    show();
    if (steps < last) frame = requestAnimationFrame(tick);
    else pause();
  }
  function pause() {
    cancelAnimationFrame(frame);
    frame = 0;
    changed(false, steps >= last);
  }
  function go() {
    if (steps >= last) steps = 0;
    before = null;
    frame = requestAnimationFrame(tick);
    changed(true, false);
  }
  function finish() {
    steps = last;
    show();
    pause();
  }
  show();
  return { go, pause, finish, toggle: () => (frame ? pause() : go()) };
}

function verdict({ path, solved, shortest_steps: shortest }) {
  const steps = path.length - 1;
  if (!solved) return `Stuck after ${steps} steps; the shortest path takes ${shortest}.`;
  if (steps === shortest) return `Solved in ${steps} steps: a shortest path.`;
  return `Solved in ${steps} steps; the shortest path takes ${shortest}.`;
}

/** Format the centre of a tile as x and y. */
function middle([row, column]) {
  return `${column + 0.5} ${row + 0.5}`;
}

function place(circle, [row, column]) {
  circle.setAttribute("cx", column + 0.5);
  circle.setAttribute("cy", row + 0.5);
}
