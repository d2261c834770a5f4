const search = document.getElementById("search");
const boxes = [...document.querySelectorAll(".filter input[type=checkbox]")];
const marked = document.getElementById("marked");

function filter() {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  const labels = new Set(boxes.filter((box) => box.checked && box !== marked).map((box) => box.value));
  let shown = 0;
  document.querySelectorAll(".prompt").forEach((section) => {
    const text = section.dataset.text.toLowerCase();
    section.querySelectorAll("tbody tr").forEach((row) => { row.hidden = !labels.has(row.dataset.label); });
    const found = words.every((word) => text.includes(word)) &&
      (!marked?.checked || section.querySelector("tbody tr:not([hidden]) .shows"));
    section.hidden = !found;
    shown += found ? 1 : 0;
  });
  document.getElementById("shown").textContent = `${shown} prompts`;
}
search.addEventListener("input", filter);
boxes.forEach((box) => box.addEventListener("change", filter));
filter();
