/** The page: a tab for each network, or for several of one kind, each started when it is first shown and the server has a model for it. */

import { Refused, ask } from "./api.js";
import * as balance from "./balance.js";
import * as decoder from "./decoder.js";
import * as detection from "./detection.js";
import * as diffusion from "./diffusion.js";
import * as digits from "./digits.js";
import { source } from "./elements.js";
import * as films from "./films.js";
import * as maze from "./maze.js";
import * as pictures from "./pictures.js";
import * as segmentation from "./segmentation.js";
import * as stories from "./stories.js";
import * as style from "./style.js";
import * as text from "./text.js";

/** Modules of the sections by the id of the panel, which is also the server's name of the model. */
const SECTIONS = { digits, pictures, decoder, diffusion, text, stories, films, maze, balance, detection, segmentation, style };

/** Names of the models of the sections that have several. */
const CHOICES = { text: ["text", "transformer"], balance: ["ppo", "dqn"] };

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
  const [card] = served(name);
  if (!card || started.has(name)) return;
  started.add(name);
  SECTIONS[name].start(panels[name], card, cards);
}

/** Return the cards of the models of a section that the server has. */
function served(name) {
  return (CHOICES[name] ?? [name]).map((model) => cards?.[model]).filter(Boolean);
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
    const [card] = served(name);
    panel.querySelector(".work").hidden = !card;
    panel.querySelector(".absent").hidden = Boolean(card);
    panel.querySelector(".source").textContent = card ? source(card) : "";
  }
  start(shown());
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
