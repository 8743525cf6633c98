"use strict";

const every = (selector) => [...document.querySelectorAll(selector)];

// Arrow keys cycle through a list of buttons; `then` is called with the one that gets the focus.
function arrows(buttons, then) {
  const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
  buttons.forEach((button, i) => button.addEventListener("keydown", (event) => {
    const step = steps[event.key];
    if (!step || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    const next = buttons[(i + step + buttons.length) % buttons.length];
    next.focus();
    then(next);
  }));
}

// Classes: one is pressed, and its map and description are shown.
const classes = every(".class");

function show(chosen) {
  for (const button of classes) {
    const pressed = button === chosen;
    button.setAttribute("aria-pressed", pressed);
    document.getElementById(button.dataset.heat).hidden = !pressed;
  }
  document.getElementById("says").textContent = chosen.dataset.says;
}

classes.forEach((button) => button.addEventListener("click", () => show(button)));
arrows(classes, show);

// Opacity of the map; the photo below turns grey with it, so that colour is always evidence.
const strength = document.getElementById("strength");

function fade() {
  const share = strength.value / 100;
  for (const heat of every(".heat")) heat.style.opacity = share;
  for (const photo of every(".photo")) photo.style.filter = `grayscale(${share})`;
}

strength.addEventListener("input", fade);
fade();

// Blocks: one panel is open at a time, or none.
const blocks = every(".block");

function toggle(chosen) {
  const open = chosen && chosen.getAttribute("aria-expanded") === "false";
  for (const button of blocks) {
    const own = open && button === chosen;
    button.setAttribute("aria-expanded", own);
    document.getElementById(button.getAttribute("aria-controls")).hidden = !own;
  }
}

blocks.forEach((button) => button.addEventListener("click", () => toggle(button)));
arrows(blocks, () => {});
document.addEventListener("keydown", (event) => {
  const open = blocks.find((button) => button.getAttribute("aria-expanded") === "true");
  if (event.key !== "Escape" || !open) return;
  toggle(null);
  open.focus();
});
