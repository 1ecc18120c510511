/**
 * A text field with suggestions: the editable combobox with list autocomplete of the WAI-ARIA authoring practices.
 *
 * Down and Up open the list and move through it. Enter chooses the marked entry, or else the first. Escape closes the
 * list; pressed again, it empties the field. Down or a click in the empty field lists the results of `find` for "".
 */

import { newest } from "./api.js";
import { element } from "./elements.js";

/** Add suggestions to an input: `find(text, signal)` returns titles, `take(title)` receives the chosen one. */
export function combobox(input, find, take) {
  const list = document.getElementById(input.getAttribute("aria-controls"));
  let marked = -1;
  const suggest = newest(async (text, signal) => fill(await find(text, signal)));

  function fill(titles) {
    list.replaceChildren(...titles.map(option));
    const open = titles.length > 0 && document.activeElement === input;
    list.hidden = !open;
    input.setAttribute("aria-expanded", open);
    mark(-1);
  }
  function option(title, index) {
    const made = element("li", { role: "option", id: `${list.id}-${index}`, "aria-selected": "false" }, title);
    made.addEventListener("pointerdown", (event) => event.preventDefault()); // the field keeps the focus
    made.addEventListener("click", () => choose(title));
    return made;
  }
  function mark(index) {
    marked = index;
    [...list.children].forEach((child, place) => child.setAttribute("aria-selected", place === marked));
    list.children[marked]?.scrollIntoView({ block: "nearest" });
    if (marked < 0) input.removeAttribute("aria-activedescendant");
    else input.setAttribute("aria-activedescendant", list.children[marked].id);
  }
  function close() {
    suggest.cancel();
    fill([]);
  }
  function choose(title) {
    input.value = "";
    close();
    take(title);
  }
  function step(by) {
    if (list.hidden) return suggest(input.value.trim());
    const count = list.children.length + 1; // plus one for the field itself, when no entry is marked
    mark(((marked + 1 + by + count) % count) - 1);
  }
  const press = {
    ArrowDown: () => step(1),
    ArrowUp: () => step(-1),
    Enter: () => {
      const chosen = list.children[Math.max(marked, 0)];
      if (!list.hidden && chosen) choose(chosen.textContent);
    },
    Escape: () => {
      if (list.hidden) input.value = "";
      close();
    },
  };
  input.addEventListener("keydown", (event) => {
    if (!(event.key in press) || event.isComposing) return;
    event.preventDefault();
    press[event.key]();
  });
  input.addEventListener("input", () => (input.value.trim() ? suggest(input.value.trim()) : close()));
  input.addEventListener("click", () => list.hidden && suggest(input.value.trim()));
  input.addEventListener("blur", close);
}
