// The navigation drawer and the colour switch of the theme are labels of hidden checkboxes; make them work by keyboard.
"use strict";
for (const label of document.querySelectorAll("label.nav-overlay-icon, label.toc-overlay-icon")) {
  label.tabIndex = 0;
  label.setAttribute("role", "button");
  label.setAttribute("aria-label", label.htmlFor === "__navigation" ? "Navigation" : "On this page");
  label.addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      label.click();
    }
  });
}
