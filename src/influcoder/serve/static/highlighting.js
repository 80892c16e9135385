// A chip shows its word in every row.
export function highlighting() {
  document.addEventListener("click", (event) => {
    const chip = event.target.closest("[data-highlight]");
    if (!chip) return;
    const word = chip.dataset.highlight;
    const on = chip.getAttribute("aria-pressed") !== "true";
    for (const one of document.querySelectorAll("[data-highlight]"))
      if (one.dataset.highlight === word) one.setAttribute("aria-pressed", String(on));
    for (const mark of document.querySelectorAll("mark"))
      if (mark.textContent.toLowerCase().includes(word)) mark.classList.toggle("found", on);
  });
}
