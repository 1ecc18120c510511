/** Enter a prompt, choose a network, and show the text while the network generates it. */

import { connected, request } from "./api.js";
import { source, withNotice } from "./elements.js";

/** The server's name of the model of each network. */
const MODELS = { recurrent: "text", transformer: "transformer" };

export function start(panel, card, cards) {
  const form = panel.querySelector("form");
  const button = form.querySelector("[type=submit]");
  const [begun, added] = [panel.querySelector(".begun"), panel.querySelector(".added")];
  const said = panel.querySelector(".spoken");
  let running = null;

  field(form, "prompt").value = beginning(card);
  offerNetworks(field(form, "network"), cards, (chosen) => (panel.querySelector(".source").textContent = source(chosen)));
  for (const name of ["length", "temperature"]) {
    const range = field(form, name);
    range.addEventListener("input", () => (range.parentElement.querySelector(".value").textContent = range.value));
  }
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (running) return running.abort();
    running = new AbortController();
    button.textContent = "Stop";
    said.textContent = "Writing …";
    begun.textContent = field(form, "prompt").value;
    added.textContent = "";
    const ended = await withNotice(panel, () => stream(form, added, running.signal)).catch(stopped);
    said.textContent = ended ? `${ended} after ${[...added.textContent].length} characters.` : "";
    button.textContent = "Write on";
    running = null;
  });
}

/** Disable the networks that the server does not have, choose the first that it has, and call `show` for each choice. */
function offerNetworks(select, cards, show) {
  for (const option of select.options) {
    option.disabled = !cards[MODELS[option.value]];
    if (option.disabled) option.textContent += ": not on this server";
  }
  select.value = [...select.options].find((option) => !option.disabled).value;
  select.addEventListener("change", () => show(cards[MODELS[select.value]]));
}

function stopped(error) {
  if (error.name !== "AbortError") throw error;
  return "Stopped";
}

/** Request text and append it piece by piece as it arrives. */
async function stream(form, place, signal) {
  const body = {
    prompt: field(form, "prompt").value,
    network: field(form, "network").value,
    length: Number(field(form, "length").value),
    temperature: Number(field(form, "temperature").value),
    seed: Math.floor(Math.random() * 2 ** 31),
  };
  const response = await request("generate", body, signal);
  place.closest(".written").hidden = false;
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { done, value } = await connected(reader.read());
    if (done) return "Done";
    place.append(value);
  }
}

/** Find a field by name; `form.length` would be the number of fields. */
function field(form, name) {
  return form.querySelector(`[name=${name}]`);
}

/** Return an initial prompt in the style of the training text. */
function beginning(card) {
  return card.data.name.includes("shakespeare") ? "What is the matter, " : "The value of ";
}
