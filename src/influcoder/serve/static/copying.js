// Copies an id, a command or the address of what is shown.
export function copying() {
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy], [data-copy-address]");
    if (!button) return;
    const text = button.dataset.copy ?? location.href;
    try {
      await navigator.clipboard.writeText(text);
      told(button, "Copied");
    } catch {
      told(button, "Cannot copy");
    }
  });
}

function told(button, words) {
  const before = button.dataset.words ?? button.textContent;
  button.dataset.words = before;
  button.textContent = words;
  setTimeout(() => { button.textContent = before; }, 1500);
}
