/** The page: seven tabs, each started when it is first shown and the server has its model. */

import { Refused, ask } from "./api.js";
import * as decoder from "./decoder.js";
import * as digits from "./digits.js";
import * as films from "./films.js";
import * as maze from "./maze.js";
import * as pictures from "./pictures.js";
import * as stories from "./stories.js";
import * as text from "./text.js";

/** Modules of the sections by the server's name of the model, which is also the id of the panel. */
const SECTIONS = { digits, pictures, decoder, text, stories, films, maze };

const tabs = [...document.querySelectorAll('[role="tab"]')];
const panels = Object.fromEntries(Object.keys(SECTIONS).map((name) => [name, document.getElementById(name)]));
const trouble = document.querySelector(".server");
const started = new Set();
let cards = null;

/** Show one panel. */
function show(name) {
  for (const tab of tabs) {
    const chosen = tab.getAttribute("aria-controls") === name;
    tab.setAttribute("aria-selected", chosen);
    tab.tabIndex = chosen ? 0 : -1;
  }
  for (const [other, panel] of Object.entries(panels)) panel.hidden = other !== name;
  start(name);
}

/** Show the panel of a tab, and store it in the address. */
function choose(tab) {
  const name = tab.getAttribute("aria-controls");
  history.replaceState(null, "", `#${name}`);
  show(name);
}

function start(name) {
  const card = cards?.[name];
  if (!card || started.has(name)) return;
  started.add(name);
  SECTIONS[name].start(panels[name], card);
}

/** Load the model cards, and show the source of each model. */
async function loadModels() {
  try {
    cards = Object.fromEntries((await ask("models")).map((card) => [card.name, card]));
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    trouble.firstElementChild.textContent = error.message;
    trouble.hidden = false;
    return;
  }
  trouble.hidden = true;
  for (const [name, panel] of Object.entries(panels)) {
    panel.querySelector(".work").hidden = !cards[name];
    panel.querySelector(".absent").hidden = Boolean(cards[name]);
    panel.querySelector(".source").textContent = cards[name] ? source(cards[name]) : "";
  }
  start(shown());
}

/** Describe the source of a model: program, data set and first test metric. */
function source({ chapter, program, data, metrics }) {
  const [name, value] = Object.entries(metrics).find(([measure]) => measure.startsWith("test_")) ?? ["", NaN];
  const measured = name && `: ${name.replaceAll("_", " ")} ${Number(value.toPrecision(4))}`;
  return `${chapter}.${program}, trained on ${data.name}${data.embedded ? " (embedded)" : ""}${measured}.`;
}

function shown() {
  const asked = location.hash.slice(1);
  return asked in panels ? asked : "digits";
}

const STEPS = { ArrowLeft: -1, ArrowRight: 1 };

function onKey(event) {
  const place = tabs.indexOf(event.target);
  let next = null;
  if (event.key in STEPS) next = (place + STEPS[event.key] + tabs.length) % tabs.length;
  else if (event.key === "Home") next = 0;
  else if (event.key === "End") next = tabs.length - 1;
  if (next === null) return;
  event.preventDefault();
  tabs[next].focus();
  choose(tabs[next]);
}

for (const tab of tabs) {
  tab.addEventListener("click", () => choose(tab));
  tab.addEventListener("keydown", onKey);
}
addEventListener("hashchange", () => show(shown()));
trouble.querySelector("button").addEventListener("click", loadModels);
show(shown());
loadModels();
