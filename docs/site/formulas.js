// Typeset formulas with KaTeX: a line of JSON in, {"tex": ..., "display": ...}, a line of JSON out.
"use strict";
const katex = require("./node_modules/katex");
const lines = require("node:readline").createInterface({ input: process.stdin });

lines.on("line", (line) => {
  const { tex, display } = JSON.parse(line);
  let answer;
  try {
    answer = { html: katex.renderToString(tex, { displayMode: display, strict: "error" }) };
  } catch (error) {
    answer = { error: error.message };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
});
