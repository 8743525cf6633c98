"use strict";

const every = (selector, within = document) => [...within.querySelectorAll(selector)];

for (const element of every(".scripted")) element.hidden = false;

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

// Classes: one is pressed, and its maps are shown, or those of it minus another one.
const classes = every(".class");
const minus = document.getElementById("minus");

function show(chosen) {
  const own = chosen.dataset.class;
  for (const button of classes) button.setAttribute("aria-pressed", button === chosen);
  if (minus) {
    if (minus.value === own) minus.value = "";
    for (const option of minus.options) option.disabled = option.value === own;
  }
  const view = minus && minus.value ? `${own}-${minus.value}` : own;
  for (const part of every("[data-view]")) part.hidden = part.dataset.view !== view;
}

classes.forEach((button) => button.addEventListener("click", () => show(button)));
arrows(classes, show);
if (minus) minus.addEventListener("change", () => show(document.querySelector('.class[aria-pressed="true"]')));

// Opacity of the maps; the photo below turns grey with it, so that colour is always evidence.
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

// What is long and not for everyone is folded on a phone.
for (const part of every(".wide-open")) part.open = !matchMedia("(max-width: 46rem)").matches;

// One pixel of a convolution: each number of the input times its weight, summed, plus the bias, clamped.
const TYPES = { uint8: Uint8Array, float32: Float32Array };  // little-endian, as every browser's processor

function text(value, digits) {
  const written = value.toFixed(digits);
  return (Number(written) ? written : written.replace("-", "")).replace("-", "−");
}

// With two decimals, or one where that would make it too long for its cell.
function shortened(value) {
  return text(value, Math.abs(value) < 9.995 ? 2 : 1);
}

function add(parent, name, content = "") {
  const made = parent.appendChild(document.createElement("span"));
  made.className = name;
  made.textContent = content;
  return made;
}

class Probe {
  constructor(element) {
    const { x, type, colours, ...rest } = element.dataset;
    for (const name in rest) this[name] = JSON.parse(rest[name]);
    const bytes = Uint8Array.from(atob(x), (letter) => letter.charCodeAt(0));
    this.x = new TYPES[type](bytes.buffer);
    this.whole = type === "uint8" && this.shape[2] === 1;
    [this.input, this.output] = every(".mark", element);
    this.sum = element.querySelector(".sum");
    this.cells = JSON.parse(colours).map((colour) => this.grid(element.querySelector(".products"), colour));
    this.listen(element.querySelector(".picker"));
    this.move(...this.at);
  }

  // K x K cells of three lines each: the number, the weight, their product.
  grid(parent, colour) {
    const whole = add(parent, "colour");
    if (colour) add(whole, "name", colour);
    const grid = add(whole, `grid k${this.kernel}`);
    return Array.from({ length: this.kernel ** 2 }, () => {
      const cell = add(grid, "cell");
      return [cell, ...["value", "weight", "product"].map((name) => add(cell, name))];
    });
  }

  listen(picker) {
    const point = (event) => {
      const box = picker.getBoundingClientRect();
      this.move(Math.floor((event.clientY - box.top) / box.height * this.size[0]),
                Math.floor((event.clientX - box.left) / box.width * this.size[1]));
    };
    picker.addEventListener("pointermove", point);
    picker.addEventListener("pointerdown", point);
    const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    picker.addEventListener("keydown", (event) => {
      const step = steps[event.key];
      if (!step || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      this.move(this.at[0] + step[0], this.at[1] + step[1]);
    });
  }

  move(row, column) {
    const within = (value, size) => Math.min(Math.max(value, 0), size - 1);
    this.at = [within(row, this.size[0]), within(column, this.size[1])];
    const corner = this.at.map((place, axis) => place * this.stride - this.padding[axis]);
    this.mark(this.output, this.at, 1, this.size);
    this.mark(this.input, corner, this.kernel, this.shape);
    let total = 0;
    this.cells.forEach((cells, c) => cells.forEach((cell, i) => {
      total += this.fill(cell, corner[0] + Math.floor(i / this.kernel), corner[1] + i % this.kernel, c, i);
    }));
    this.sum.textContent = this.says(total);
  }

  // A square of this side, and lines from it to the borders, as it may be tiny.
  mark(svg, [y, x], side, [height, width]) {
    const [cross, square] = svg.children, middle = side / 2;
    for (const [name, value] of Object.entries({ x, y, width: side, height: side })) square.setAttribute(name, value);
    cross.setAttribute("d", `M${x + middle} 0V${y}M${x + middle} ${y + side}V${height}` +
                            `M0 ${y + middle}H${x}M${x + side} ${y + middle}H${width}`);
  }

  // Returns the product that the cell shows; outside of the input, the number is zero.
  fill([cell, value, weight, product], row, column, channel, i) {
    const [height, width, channels] = this.shape;
    const outside = row < 0 || column < 0 || row >= height || column >= width;
    const number = outside ? 0 : this.x[(row * width + column) * channels + channel] * this.factor[channel] +
      this.offset[channel];
    const own = this.weight[i * channels + channel];
    const written = this.whole ? String : shortened;
    value.textContent = written(number);
    weight.textContent = written(own).replace("-", "−");
    product.textContent = written(number * own).replace("-", "−");
    cell.classList.toggle("padding", outside);
    return number * own;
  }

  says(total) {
    const before = total * this.scale + this.bias, [row, column] = this.at;
    const scaled = this.scale === 1 ? text(total, 3) : `${text(total, 0)} × ${this.scale.toPrecision(3)}`;
    const sum = `Row ${row + 1}, column ${column + 1}: sum ${scaled}, plus the bias ${text(this.bias, 3)}, is ` +
      text(before, 3);
    if (!this.step) return `${sum}; ReLU6 clamps it to 0 … 6: ${text(Math.min(Math.max(before, 0), 6), 3)}`;
    const steps = Math.round(Math.min(Math.max(before, 0), 255));
    return `${sum}; rounded and clamped to 0 … 255: ${steps}, which stands for ${steps} × 6/255 = ` +
      text(steps * this.step, 3);
  }
}

for (const element of every(".probe")) new Probe(element);
