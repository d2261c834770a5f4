// Pictures of gradio's own components have no words for those who cannot see them; the board's have. Give them the same.
(() => {
  const named = { "ng-slider": "slider", "ng-plain": "plain", "ng-guided": "guided", "ng-avoided": "to avoid" };
  const describe = () => {
    const cards = [...document.querySelectorAll(".ng-card")];
    const words = (label, place) => {
      const card = cards.find((one) => one.querySelector("code")?.textContent.trim() === label);
      return card?.querySelectorAll(".ng-pictures img")[place]?.alt || `${label}, picture ${place + 1}`;
    };
    for (const [id, name] of Object.entries(named)) {
      const box = document.getElementById(id);
      if (!box) continue;
      const label = box.querySelector("label, [data-testid='block-label']")?.textContent.trim() || name;
      const sides = label.split(" | ");
      box.querySelectorAll("img").forEach((image, place) => {
        const text = id === "ng-slider" ? `the picture of ${sides[place] || label}, large` : words(label, place);
        if (image.alt !== text) image.alt = text;
      });
    }
  };
  let waiting = 0;
  new MutationObserver(() => { clearTimeout(waiting); waiting = setTimeout(describe, 200); })
    .observe(document, { childList: true, subtree: true, attributes: true, attributeFilter: ["src"] });
})();
