// Follows a re-check, or the masking of tokens, by the service's events, and shows the page again when it has ended.
export function watchJob(part) {
  if (part.dataset.watched) return;
  part.dataset.watched = "yes";
  const events = new EventSource(`/api/v1/jobs/${encodeURIComponent(part.dataset.job)}/events`);
  const bar = part.querySelector("progress");
  const told = part.querySelector("[data-told]");
  events.addEventListener("progress", (event) => {
    if (!part.isConnected) return events.close();
    const job = JSON.parse(event.data);
    if (!job.total) return;
    bar.max = job.total;
    bar.value = job.done;
    const left = job.seconds_left === null ? "" : `, about ${Math.max(1, Math.round(job.seconds_left))} s left`;
    told.textContent = `${job.done} of ${job.total} rows${left}`;
  });
  for (const end of ["done", "failed", "cancelled"])
    events.addEventListener(end, () => {
      events.close();
      if (part.isConnected)
        window.htmx.ajax("GET", location.href, { target: "#page", select: "#page", swap: "outerHTML show:none" });
    });
  events.addEventListener("error", () => { told.textContent = "The connection broke; trying again."; });
}
