/** Colours of the classes in pictures: light enough for dark text. */

const COLOURS = ["#ff6b60", "#4cd964", "#5ab0ff", "#ffd60a", "#d689ff", "#ff9f0a", "#64d2ff", "#f2f2f2"];

/** Colour of text on them. */
export const INK = "#101418";

/** Return the colour of a class by its number. */
export function colourOf(number) {
  return COLOURS[number % COLOURS.length];
}
