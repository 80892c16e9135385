// A question that is too long for an address is sent in a body, and kept by the service under a short one.
const LONGEST = 4000;

export function asking() {
  document.addEventListener("submit", async (event) => {
    const form = event.target.closest("form.ask");
    if (!form) return;
    const length = encodeURIComponent(form.prompt.value + form.completion.value).length;
    if (length <= LONGEST) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    const values = { prompt: form.prompt.value, completion: form.completion.value };
    const answer = await fetch("/ask", { method: "POST", body: new URLSearchParams(values) });
    location.assign(answer.redirected ? answer.url : "/");
  }, { capture: true });
}
