
"use strict";
// Words for what is under the pointer: the nearest loss, else the time and the latency of the place. Without this
// script the losses have titles, which a browser shows by itself.
const NEAR = 14;

function seconds(value) {
  if (value < 0.00995) return (value * 1e3).toFixed(1) + " ms";
  if (value < 0.4995) return (value * 1e3).toFixed(0) + " ms";
  return value.toFixed(value < 9.995 ? 2 : 1) + " s";
}

function prepare(plot) {
  const svg = plot.querySelector(":scope > svg");
  const { span, low, high } = svg.dataset;
  const marks = [...svg.querySelectorAll(".losses > use")].map((use) => {
    const title = use.querySelector("title");
    const words = title ? title.textContent : "";
    title?.remove();
    return { use, words, x: parseFloat(use.getAttribute("x")) / 100, y: parseFloat(use.getAttribute("y")) };
  });
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.hidden = true;
  plot.append(tip);
  return { plot, svg, marks, tip, lit: null, span: +span, low: Math.log(low), high: Math.log(high) };
}

function nearest(state, x, y, width) {
  let best = null;
  let least = NEAR * NEAR;
  for (const mark of state.marks) {
    const across = mark.x * width - x;
    const distance = across * across + (mark.y - y) ** 2;
    if (distance < least && mark.use.checkVisibility?.() !== false) {
      least = distance;
      best = mark;
    }
  }
  return best;
}

function show(state, event) {
  const box = state.svg.getBoundingClientRect();
  const frame = state.plot.getBoundingClientRect();
  const x = event.clientX - box.left;
  const y = event.clientY - box.top;
  const height = +state.svg.getAttribute("height");
  if (x < 0 || x > box.width || y < 0 || y > height) return hide(state);
  const mark = nearest(state, x, y, box.width);
  state.lit?.use.classList.remove("lit");
  mark?.use.classList.add("lit");
  state.lit = mark;
  const latency = Math.exp(state.low + (1 - y / height) * (state.high - state.low));
  state.tip.textContent = mark?.words || seconds((x / box.width) * state.span) + ", latency " + seconds(latency);
  state.tip.hidden = false;
  const left = Math.min(event.clientX - frame.left + 14, frame.width - state.tip.offsetWidth - 4);
  const above = event.clientY - frame.top - state.tip.offsetHeight - 12;
  state.tip.style.transform = `translate(${Math.max(4, left)}px, ${Math.max(0, above)}px)`;
}

function hide(state) {
  state.tip.hidden = true;
  state.lit?.use.classList.remove("lit");
  state.lit = null;
}

for (const plot of document.querySelectorAll(".plot")) {
  let state = null;
  plot.addEventListener("pointermove", (event) => show((state ??= prepare(plot)), event));
  plot.addEventListener("pointerleave", () => state && hide(state));
}
