/** Ask a question about a story; show the answer, and what each hop of the network reads. */

import { ask, newest } from "./api.js";
import { element, percent, speaker, withNotice } from "./elements.js";

/** Stories and questions to begin with: words of the generated stories and of the bAbI tasks. */
const EXAMPLES = [
  { story: ["Mary took the milk.", "John went to the office.", "Mary went to the garden."], question: "Where is the milk?" },
  { story: ["John went to the kitchen.", "Mary went to the office.", "John went to the garden."], question: "Where is John?" },
  { story: ["Sandra went to the hallway.", "Daniel took the apple.", "Sandra went to the bedroom."], question: "Is Sandra in the hallway?" },
  { story: ["Daniel took the football.", "Daniel took the milk.", "Daniel dropped the football."], question: "What is Daniel carrying?" },
];

export function start(panel) {
  const form = panel.querySelector("form");
  const [story, question] = ["story", "question"].map((name) => form.querySelector(`[name=${name}]`));
  const show = shower(panel);
  const answer = newest((asked, signal) =>
    withNotice(panel, () => ask("ask", asked, signal)).then((found) => show(found)),
  );
  const submit = () => answer({ story: story.value, question: question.value });
  let shown = -1;

  function example() {
    shown = (shown + 1) % EXAMPLES.length;
    story.value = EXAMPLES[shown].story.join("\n");
    question.value = EXAMPLES[shown].question;
    submit();
  }
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    submit();
  });
  panel.querySelector(".another").addEventListener("click", example);
  example();
}

/** Make a function that shows an answer with its attention weights, or nothing for null. */
function shower(panel) {
  const [guess, table] = [panel.querySelector(".guess"), panel.querySelector(".reading")];
  const say = speaker(panel.querySelector(".spoken"));
  return (found) => {
    guess.firstElementChild.textContent = found?.answer ?? "";
    guess.lastElementChild.textContent = found ? `Probability ${percent(found.probability)}.` : "";
    table.hidden = !found;
    say(found ? `${found.answer}, ${percent(found.probability)}` : "");
    if (!found) return;
    const hops = found.attention[0].map((_, hop) => element("th", { scope: "col" }, `Hop ${hop + 1}`));
    const head = table.querySelector("thead tr");
    head.replaceChildren(head.firstElementChild, ...hops);
    table.querySelector("tbody").replaceChildren(...found.statements.map((text, place) => row(text, found.attention[place])));
  };
}

/** A statement with the weight of each hop, the larger the darker. */
function row(text, weights) {
  const cells = weights.map((weight) => {
    const cell = element("td", {}, `${Math.round(100 * weight)} %`);
    cell.style.setProperty("--share", weight);
    return cell;
  });
  return element("tr", {}, element("th", { scope: "row" }, text), ...cells);
}
