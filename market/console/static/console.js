// Keeps a running clock and refreshes the live parts of a page. Every page reads without it.
"use strict";

function clockText(seconds) {
  const parts = [[Math.floor(seconds / 3600), "h"], [Math.floor(seconds / 60) % 60, "min"], [seconds % 60, "s"]];
  const first = parts.findIndex(([number]) => number > 0);
  return first < 0 ? "0\u00a0s" : parts.slice(first).map(([number, unit]) => `${number}\u00a0${unit}`).join("\u00a0");
}

for (const clock of document.querySelectorAll("[data-clock]")) {
  const base = Number(clock.dataset.clock);
  const most = Number(clock.dataset.clockMost);
  const from = Date.now();
  setInterval(() => {
    clock.textContent = clockText(Math.min(most, base + Math.floor((Date.now() - from) / 1000)));
  }, 1000);
}

async function refresh(part) {
  const answer = await fetch(location.href);
  if (!answer.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const fresh = page.getElementById(part.id);
  // Nothing is replaced under the reader's hands.
  if (!fresh || part.contains(document.activeElement)) return;
  if (part.innerHTML !== fresh.innerHTML) part.innerHTML = fresh.innerHTML;
  // What will not change any more says so by asking no longer.
  if (!fresh.dataset.refreshS) delete part.dataset.refreshS;
}

for (const part of document.querySelectorAll("[data-refresh-s]")) {
  const every = Math.max(2, Number(part.dataset.refreshS)) * 1000;
  const timer = setInterval(() => {
    if (!part.dataset.refreshS) clearInterval(timer);
    else if (!document.hidden) refresh(part).catch(() => {});
  }, every);
}

// While work runs, the page itself keeps the session's heart beating.
for (const work of document.querySelectorAll("form[data-heartbeat]")) {
  let active = true;
  for (const sign of ["keydown", "pointermove", "pointerdown", "scroll"]) {
    addEventListener(sign, () => { active = true; }, { passive: true });
  }
  const beat = () => {
    const data = new URLSearchParams(new FormData(work));
    data.set("is_active", active ? "true" : "false");
    active = false;
    fetch(work.action, { method: "POST", body: data, redirect: "manual" }).catch(() => {});
  };
  beat();
  setInterval(beat, 30000);
}
