// What the page does beyond links and forms. Each module is one concept; all are told when something new is shown.
import { asking } from "./asking.js";
import { copying } from "./copying.js";
import { keyboard } from "./keyboard.js";
import { highlighting } from "./highlighting.js";
import { drawMap } from "./map.js";
import { watchJob } from "./job.js";
import { waiting } from "./waiting.js";

function shown(root) {
  for (const one of root.querySelectorAll(".needs-script")) one.hidden = false;
  const canvas = root.querySelector("#map");
  if (canvas) drawMap(canvas);
  for (const job of root.querySelectorAll("[data-job]")) watchJob(job);
}

asking();
copying();
keyboard();
highlighting();
waiting();
shown(document);
document.addEventListener("htmx:afterSettle", () => shown(document));
