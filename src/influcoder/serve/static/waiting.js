// Whoever waits for more than two seconds is told for how long, and how long it took before.
const FIRST = 2000;
const before = (key) => Number(sessionStorage.getItem(`took ${key}`)) || 0;

export function waiting() {
  const busy = document.getElementById("busy");
  const running = new Map();
  let ticking = null;

  function tell() {
    const longest = [...running.values()].sort((one, other) => one.began - other.began)[0];
    const waited = longest ? performance.now() - longest.began : 0;
    busy.hidden = waited < FIRST;
    if (busy.hidden) return;
    const known = before(longest.key);
    busy.textContent = `${Math.round(waited / 1000)} s${known > waited ? ` of about ${Math.ceil(known / 1000)} s` : " so far"}`;
  }

  document.addEventListener("htmx:beforeRequest", (event) => {
    const url = new URL(event.detail.pathInfo.requestPath, location.href);
    running.set(event.detail.xhr, { began: performance.now(), key: `${url.pathname} ${url.searchParams.get("view") ?? ""}` });
    ticking ??= setInterval(tell, 500);
  });
  document.addEventListener("htmx:afterRequest", (event) => {
    const done = running.get(event.detail.xhr);
    if (done) sessionStorage.setItem(`took ${done.key}`, String(Math.round(performance.now() - done.began)));
    running.delete(event.detail.xhr);
    if (running.size) return;
    clearInterval(ticking);
    ticking = null;
    busy.hidden = true;
  });
  document.addEventListener("htmx:sendError", () => {
    busy.textContent = "The service does not answer. Is it still running?";
    busy.hidden = false;
  });
  again();
  document.addEventListener("htmx:afterSettle", again);
}

// What is still being computed is looked at again.
let looking = null;
function again() {
  clearTimeout(looking);
  if (document.querySelector("[data-again]"))
    looking = setTimeout(() => window.htmx.ajax("GET", location.href, { target: "#page", select: "#page", swap: "outerHTML show:none" }), 2000);
}
