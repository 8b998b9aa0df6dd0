"use strict";
const findings = [...document.querySelectorAll(".finding")].map(element => ({
  element,
  section: element.closest(".kind"),
  text: element.textContent.toLowerCase(),
}));
const buttons = [...document.querySelectorAll(".kinds button")];
const search = document.getElementById("search");
const state = document.getElementById("state");

// Shows the findings of the chosen kind that contain every word of the search.
function show() {
  const chosen = buttons.find(b => b.getAttribute("aria-pressed") === "true").dataset.kind;
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  const visible = new Set();
  let count = 0;
  for (const { element, section, text } of findings) {
    const matches = (!chosen || section.id === chosen) && words.every(w => text.includes(w));
    element.hidden = !matches;
    if (matches) { visible.add(section); count += 1; }
  }
  for (const section of document.querySelectorAll(".kind")) section.hidden = !visible.has(section);
  state.textContent = `${count} of ${findings.length} examples shown`;
}

for (const button of buttons) {
  button.addEventListener("click", () => {
    for (const b of buttons) b.setAttribute("aria-pressed", String(b === button));
    show();
  });
}
search.addEventListener("input", show);
document.querySelector(".tools").hidden = false;
show();
