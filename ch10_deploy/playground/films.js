/** Choose films that you like or dislike; show the recommendations and their reasons. */

import { ask, newest } from "./api.js";
import { combobox } from "./combobox.js";
import { element, withNotice, speaker } from "./elements.js";

export function start(panel) {
  const chosen = { likes: [], dislikes: [] };
  const show = recommendationView(panel);
  const suggest = newest((asked, signal) =>
    withNotice(panel, async () => show((await ask("recommend", { ...asked, top: 10 }, signal)).films)),
  );
  const find = (text, signal) =>
    withNotice(panel, async () => {
      const { films } = await ask(`films?${new URLSearchParams({ query: text, limit: 8 })}`, undefined, signal);
      return films.filter((title) => !chosen.likes.includes(title) && !chosen.dislikes.includes(title));
    });

  function changed() {
    if (chosen.likes.length || chosen.dislikes.length) return suggest(structuredClone(chosen));
    suggest.cancel();
    show([]);
  }
  for (const [kind, titles] of Object.entries(chosen)) {
    const place = panel.querySelector(`[data-kind=${kind}]`);
    const [input, chips] = [place.querySelector("input"), place.querySelector(".chips")];
    const remove = (title, chip) => {
      titles.splice(titles.indexOf(title), 1);
      const neighbour = chip.nextElementSibling ?? chip.previousElementSibling;
      chip.remove();
      (neighbour?.firstElementChild ?? input).focus(); // keeps the keyboard focus in the list
      changed();
    };
    combobox(input, async (...asked) => (await find(...asked)) ?? [], (title) => {
      const button = element("button", { type: "button", "aria-label": `Remove ${title}` }, title);
      const chip = element("li", {}, button);
      button.addEventListener("click", () => remove(title, chip));
      chips.append(chip);
      titles.push(title);
      changed();
    });
  }
}

/** Return a function that shows recommendations with their reasons. */
function recommendationView(panel) {
  const [list, empty] = [panel.querySelector(".suggestions"), panel.querySelector(".empty")];
  const say = speaker(panel.querySelector(".spoken"));
  return (films) => {
    empty.hidden = films.length > 0;
    list.replaceChildren(...films.map(suggestion));
    say(films.length ? `${films.length} recommendations, first ${films[0].title}` : "");
  };
}

function suggestion({ title, rating, because }) {
  const stars = element("span", { class: "rating", "aria-label": `${rating.toFixed(1)} of 5 stars` }, `${rating.toFixed(1)} ★`);
  const row = element("li", {}, element("span", {}, title), stars);
  if (because.length) row.append(element("span", { class: "because soft" }, `because of ${because.join(" and ")}`));
  return row;
}
