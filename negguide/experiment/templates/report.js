"use strict";
const viewer = document.getElementById("viewer");
let grid = null, seeds = [], place = 0, chosen = "";

function show() {
  viewer.querySelector("h2").textContent = `seed ${seeds[place]}`;
  viewer.classList.toggle("tiny", grid.classList.contains("tiny"));
  const figures = [...grid.querySelectorAll("button[data-seed]")].filter((b) => b.dataset.seed === seeds[place]).map((b) => {
    const figure = document.createElement("figure");
    figure.className = b.className + (b.dataset.label === chosen ? " chosen" : "");
    const image = b.querySelector("img").cloneNode();
    image.loading = "eager";
    if (b.dataset.whole) {  // the picture itself, where the page lies beside it; else the thumbnail stays
      const whole = new Image();
      whole.onload = () => { image.src = whole.src; };
      whole.src = b.dataset.whole;
    }
    const caption = document.createElement("figcaption");
    const label = document.createElement("code");
    label.textContent = b.dataset.label;
    caption.append(label, ` ${b.querySelector(".note")?.textContent ?? ""}`);
    figure.append(image, caption);
    if (b.dataset.again) {
      const again = document.createElement("pre");
      again.textContent = b.dataset.again;
      figure.append(again);
    }
    return figure;
  });
  viewer.querySelector(".row").replaceChildren(...figures);
}

document.querySelectorAll(".grid").forEach((table) => table.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-seed]");
  if (!button) return;
  grid = table;
  seeds = [...new Set([...table.querySelectorAll("button[data-seed]")].map((b) => b.dataset.seed))];
  place = seeds.indexOf(button.dataset.seed);
  chosen = button.dataset.label;
  show();
  viewer.showModal();
}));

viewer.addEventListener("keydown", (event) => {
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!by) return;
  place = (place + by + seeds.length) % seeds.length;
  show();
});
viewer.addEventListener("click", (event) => { if (event.target === viewer) viewer.close(); });

document.querySelectorAll(".copy").forEach((button) => button.addEventListener("click", async () => {
  const text = button.parentElement.querySelector("code").textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "copied";
  } catch {
    getSelection().selectAllChildren(button.parentElement.querySelector("code"));
    button.textContent = "selected";
  }
  setTimeout(() => { button.textContent = "copy"; }, 1500);
}));
