/** Balance a pole on a cart: in each step it is pushed by an agent of chapter 7, the user or at random. */

import { Refused, ask } from "./api.js";
import { MAX_STEPS, failure, firstState, forceOf, nextState } from "./cartpole.js";
import { element, percent, showNotice, source } from "./elements.js";

/** Force of a push by the user while another one acts, in N: three times that of an action, for one step. */
const PUSH = 30;

/** Milliseconds for which the arrow of a push is shown. */
const SHOWN = 300;

/** Milliseconds without an answer of the server after which the page says that it waits. */
const PATIENCE = 1000;

/** Number of times per second that the output of the network is shown: the mean since the last time. */
const UPDATES = 5;

const ACTIONS = ["left", "right"];

/** What the output of each network is. */
const OUTPUTS = { ppo: "Probability of each action", dqn: "Value of each action" };

const DIRECTIONS = { ArrowLeft: 0, ArrowRight: 1 };

export function start(panel, card, cards) {
  const [toggle, agent, speed] = [".toggle", "[name=agent]", "[name=speed]"].map((one) => panel.querySelector(one));
  const [scene, result, count] = [".cartpole", ".ending", ".steps"].map((one) => panel.querySelector(one));
  const [output, showBest] = [outputView(panel.querySelector(".output")), bestView(panel.querySelector(".best"))];
  let [state, steps, ended, running] = [firstState(), 0, false, null];
  let [wish, push, delay] = [1, 0, 0]; // the user's action, the user's push in N, mean time of an answer in ms

  offerAgents(agent, cards);

  /** Show a notice once; screen readers would repeat it in every step. */
  function notify(text) {
    if (panel.querySelector(".notice").textContent !== text) showNotice(panel, text);
  }
  function draw() {
    drawState(scene, state);
    count.textContent = `${steps} of ${MAX_STEPS} steps`;
  }
  function newEpisode() {
    [state, steps, ended, push] = [firstState(), 0, false, 0];
    result.textContent = "";
    draw();
  }
  function pause() {
    running?.abort();
    running = null;
    toggle.textContent = ended ? "Restart" : steps ? "Continue" : "Start";
  }

  /** Ask the server for the action of the current state; a notice says if this takes longer than a step. */
  async function decide(signal) {
    const asked = performance.now();
    const waiting = setTimeout(() => notify("Waiting for the server …"), PATIENCE);
    try {
      const answer = await ask("balance", { agent: agent.value, states: [state] }, signal);
      delay += 0.1 * (performance.now() - asked - delay);
      const slow = delay > 1.5 * pace();
      notify(slow ? `The server answers slowly: the simulation does not reach ${speed.value} steps per second.` : "");
      return answer;
    } finally {
      clearTimeout(waiting);
    }
  }
  /** Milliseconds per step. */
  const pace = () => 1000 / Number(speed.value);

  /** Take steps until the end of the episode or a pause. An answer that is late delays the step. */
  async function play() {
    if (ended) newEpisode();
    const { signal } = (running = new AbortController());
    toggle.textContent = "Pause";
    delay = 0;
    notify("");
    for (let due = performance.now(); ; ) {
      due = Math.max(due + pace(), performance.now());
      const asked = cards[agent.value] ? decide(signal) : null;
      const [answer] = await Promise.all([asked, until(due)]);
      if (signal.aborted) return;
      if (panel.hidden || document.hidden) return pause();
      if (answer) output.add(answer.decisions[0], Number(speed.value) / UPDATES);
      step(answer ? answer.decisions[0].action : agent.value === "user" ? wish : Number(Math.random() < 0.5));
      if (ended) return pause();
    }
  }
  function step(action) {
    state = nextState(state, forceOf(action) + push);
    [steps, push] = [steps + 1, 0];
    const reason = failure(state);
    ended = reason !== null || steps === MAX_STEPS;
    if (ended) result.textContent = verdict(reason, steps);
    showBest(agent.selectedOptions[0].text, steps);
    draw();
  }
  function go() {
    if (running) {
      notify("");
      return pause();
    }
    play().catch((error) => {
      if (error.name === "AbortError") return;
      pause();
      if (!(error instanceof Refused)) throw error;
      notify(error.message);
    });
  }
  function pushed(direction) {
    const own = agent.value === "user";
    if (own) wish = direction;
    else if (running) push = direction ? PUSH : -PUSH;
    else return;
    drawPush(scene, direction, !own);
  }
  function choose() {
    newEpisode();
    pause();
    notify("");
    output.reset(agent.value);
    drawPush(scene, agent.value === "user" ? wish : null);
    panel.querySelector(".hint").textContent = hint(agent.value);
    panel.querySelector(".source").textContent = cards[agent.value] ? source(cards[agent.value]) : "";
  }
  toggle.addEventListener("click", go);
  panel.querySelector(".left").addEventListener("click", () => pushed(0));
  panel.querySelector(".right").addEventListener("click", () => pushed(1));
  agent.addEventListener("change", choose);
  speed.addEventListener("input", () => {
    speed.parentElement.querySelector(".value").textContent = speed.value;
    speed.setAttribute("aria-valuetext", `${speed.value} steps per second`);
  });
  scene.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key in DIRECTIONS) pushed(DIRECTIONS[event.key]);
    else if (event.key === " ") go();
    else return;
    event.preventDefault();
  });
  choose();
}

/** Disable the agents that the server does not have, and choose the first that it has. */
function offerAgents(select, cards) {
  for (const option of select.options) {
    option.disabled = option.value in OUTPUTS && !cards[option.value];
    if (option.disabled) option.textContent += ": not on this server";
  }
  select.value = [...select.options].find((option) => !option.disabled).value;
}

function hint(agent) {
  if (agent === "user") return "In every step the cart is pushed in the direction that you chose last. Fewer steps per second are easier.";
  return "A push acts for one step, with three times the force of an action.";
}

function verdict(reason, steps) {
  if (reason === "pole") return `The pole fell after ${steps} steps.`;
  if (reason === "cart") return `The cart left the track after ${steps} steps.`;
  return `Balanced for ${steps} steps: the episode is complete.`;
}

function until(time) {
  return new Promise((resolve) => setTimeout(resolve, time - performance.now()));
}

/** Draw cart and pole; the units of the drawing are metres. */
function drawState(scene, [x, , theta]) {
  scene.querySelector(".cart").setAttribute("transform", `translate(${x})`);
  scene.querySelector(".pole").setAttribute("transform", `rotate(${(theta * 180) / Math.PI})`);
}

/** Show an arrow on the side from which the cart is pushed, for a moment or until it changes; null hides it. */
function drawPush(scene, direction, brief = false) {
  const arrow = scene.querySelector(".push");
  clearTimeout(arrow.timer);
  arrow.classList.toggle("shown", direction !== null);
  arrow.setAttribute("transform", `scale(${direction === 0 ? -1 : 1} 1)`);
  if (brief) arrow.timer = setTimeout(() => arrow.classList.remove("shown"), SHOWN);
}

/** Return functions that show the output of a network: `add` the decision of a step, `reset` for another agent. */
function outputView(place) {
  const bars = ACTIONS.map((name) => {
    const bar = { track: element("span", { class: "track" }), text: element("span") };
    bar.row = element("li", {}, element("span", {}, name), bar.track, bar.text);
    place.querySelector(".bars").append(bar.row);
    return bar;
  });
  let rows = [];

  function write(means, largest, format) {
    bars.forEach((bar, action) => {
      bar.track.style.setProperty("--share", Math.max(means[action] / largest, 0));
      bar.text.textContent = format(means[action]);
      bar.row.classList.toggle("first", means[action] > means[1 - action]);
    });
  }
  /** Add the decision of a step; after every `count` of them, show their mean. */
  function add({ probabilities, values }, count) {
    rows.push(probabilities ?? values);
    if (rows.length < count) return;
    const means = ACTIONS.map((_, action) => rows.reduce((sum, row) => sum + row[action], 0) / rows.length);
    rows = [];
    if (probabilities) write(means, 1, percent);
    else write(means, Math.max(...means.map(Math.abs)), (mean) => mean.toFixed(2));
  }
  function reset(agent) {
    rows = [];
    write([0, 0], 1, () => "");
    place.hidden = !(agent in OUTPUTS);
    place.querySelector("h3").textContent = OUTPUTS[agent] ?? "";
  }
  return { add, reset };
}

/** Return a function that keeps and shows the largest number of steps of each agent. */
function bestView(list) {
  const best = {};
  return (name, steps) => {
    best[name] ??= { steps: 0, number: element("span", { class: "soft" }) };
    if (steps <= best[name].steps) return;
    if (!best[name].steps) list.append(element("li", {}, element("span", {}, name), best[name].number));
    best[name].steps = steps;
    best[name].number.textContent = `${steps} steps`;
    list.closest("section, div").querySelector(".none").hidden = true;
  };
}
