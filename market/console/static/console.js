// Keeps a running clock and refreshes the live parts of a page. Every page reads without it.
"use strict";

function clockText(seconds) {
  const two = (n) => String(n).padStart(2, "0");
  return `${Math.floor(seconds / 3600)}:${two(Math.floor(seconds / 60) % 60)}:${two(seconds % 60)}`;
}

for (const clock of document.querySelectorAll("[data-clock-from]")) {
  const base = Number(clock.dataset.clockBase || 0);
  const from = Date.now();
  setInterval(() => {
    clock.textContent = clockText(base + Math.floor((Date.now() - from) / 1000));
  }, 1000);
}

async function refresh(part) {
  const answer = await fetch(location.href, { headers: { "X-Part": part.id } });
  if (!answer.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const fresh = page.getElementById(part.id);
  // Nothing is replaced under the reader's hands.
  if (fresh && !part.contains(document.activeElement)) part.innerHTML = fresh.innerHTML;
}

for (const part of document.querySelectorAll("[data-refresh-s]")) {
  const every = Math.max(2, Number(part.dataset.refreshS)) * 1000;
  setInterval(() => { if (!document.hidden) refresh(part).catch(() => {}); }, every);
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
