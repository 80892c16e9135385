// j and k walk through the rows, x, a and l decide, u takes back, o opens, / asks, ? tells.
let here = null;
let walking = false;  // rows are walked through by key: the focus stays on one when the page is shown again

export function keyboard() {
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input, textarea, select, [contenteditable], dialog");
    if (typing && event.key === "Enter" && (event.ctrlKey || event.metaKey)) typing.form?.requestSubmit();
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    const act = KEYS[event.key];
    walking = true;
    if (act && act() !== false) event.preventDefault();
  });
  document.addEventListener("pointerdown", () => { walking = false; });
  document.addEventListener("click", (event) => {
    if (event.target.closest("[data-help]")) help();
  });
  document.addEventListener("htmx:afterSettle", () => {
    const card = current();
    if (!card || !walking) return;
    stand(card);
    card.focus({ preventScroll: true });
  });
  document.addEventListener("focusin", (event) => {
    const card = event.target.closest(".card");
    if (card) stand(card);
  });
}

const KEYS = {
  j: () => step(1),
  k: () => step(-1),
  o: () => open(),
  x: () => press("drop"),
  a: () => press("keep"),
  l: () => press("later"),
  u: () => document.querySelector("[data-undo]")?.click(),
  "/": () => document.querySelector("#prompt")?.focus(),
  "?": () => help(),
};

function cards() {
  return [...document.querySelectorAll(".card")];
}

function current() {
  if (here && !here.isConnected) here = document.getElementById(here.id);
  return here;
}

function stand(card) {
  current()?.classList.remove("here");
  here = card;
  card.classList.add("here");
}

function step(by) {
  const all = cards();
  if (!all.length) return false;
  const place = all.indexOf(current());
  const next = all[place < 0 ? 0 : Math.min(all.length - 1, Math.max(0, place + by))];
  stand(next);
  next.focus({ preventScroll: true });
  next.scrollIntoView({ block: "nearest" });
}

function open() {
  const details = current()?.querySelectorAll("details");
  if (!details?.length) return false;
  const wanted = ![...details].every((one) => one.open);
  for (const one of details) one.open = wanted;
}

function press(mark) {
  const button = current()?.querySelector(`[data-decide="${mark}"]`);
  if (!button) return false;
  button.click();
}

function help() {
  document.getElementById("help").showModal();
}
