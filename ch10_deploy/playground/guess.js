/** Show a prediction: the most probable class, and a bar for the probability of each class. */

import { element, percent, speaker } from "./elements.js";

/** Return a function that shows a prediction, or the text `missing` for null. */
export function predictionView(panel, classes, missing) {
  const [guess, list] = [panel.querySelector(".guess"), panel.querySelector(".bars")];
  const say = speaker(panel.querySelector(".spoken"));
  const bars = classes.map((name) => {
    const bar = { track: element("span", { class: "track" }), share: element("span", {}, "") };
    bar.row = element("li", {}, element("span", {}, name), bar.track, bar.share);
    list.append(bar.row);
    return bar;
  });
  return (answer) => {
    const best = answer ? Math.max(...answer.probabilities) : 0;
    bars.forEach((bar, index) => {
      const share = answer?.probabilities[index] ?? 0;
      bar.track.style.setProperty("--share", share);
      bar.share.textContent = answer ? percent(share) : "";
      bar.row.classList.toggle("first", answer !== null && share === best);
    });
    guess.firstElementChild.textContent = answer?.label ?? "";
    guess.lastElementChild.textContent = answer ? verdict(best) : missing;
    say(answer ? `${answer.label}, ${percent(best)}` : "");
  };
}

function verdict(best) {
  if (best > 0.95) return "Very likely.";
  if (best > 0.6) return "Likely.";
  return "Uncertain.";
}
