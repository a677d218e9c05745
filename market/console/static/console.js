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

for (const clock of document.querySelectorAll("[data-countdown]")) {
  const end = Date.now() + 1000 * Number(clock.dataset.countdown);
  setInterval(() => {
    clock.textContent = clockText(Math.max(0, Math.ceil((end - Date.now()) / 1000)));
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

// What happens is told by the event stream; the parts that it concerns are read again.
const parts = [...document.querySelectorAll("[data-live]")];
const bell = document.getElementById("bell");
let source = null;
let soon = null;

function readAgain(some) {
  // Several things often happen at once: one reading serves them all.
  clearTimeout(soon);
  soon = setTimeout(() => {
    for (const part of some) refresh(part).catch(() => {});
    if (bell) refresh(bell).catch(() => {});
  }, 250);
}

function listen() {
  const types = [...new Set(parts.flatMap((part) => part.dataset.live.split(" ")))];
  source = new EventSource(`/console/stream?types=${types.join(",")}`);
  for (const type of types) {
    source.addEventListener(type, () => readAgain(parts.filter((part) => part.dataset.live.split(" ").includes(type))));
  }
}

if (parts.length) {
  listen();
  // A browser keeps few connections to one address: a page that nobody sees holds none.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden && source) { source.close(); source = null; }
    else if (!document.hidden && !source) { listen(); readAgain(parts); }
  });
  addEventListener("pagehide", () => { if (source) source.close(); });
}

// How much is still to be said, below a field that asks for a length.
for (const text of document.querySelectorAll("textarea[data-count]")) {
  const said = document.createElement("p");
  said.className = "count";
  text.after(said);
  const show = () => {
    const length = text.value.trim().length;
    said.textContent = `${length} characters`;
    said.classList.toggle("is-met", length >= Number(text.dataset.count));
  };
  text.addEventListener("input", show);
  show();
}

// What was typed outlives a reload of the same page in the same tab, and goes when it is sent.
for (const form of document.querySelectorAll("form[data-keep]")) {
  const place = `${form.dataset.keep} ${form.action}`;
  const fields = () => [...form.elements].filter((one) => one.tagName === "TEXTAREA");
  const kept = JSON.parse(sessionStorage.getItem(place) || "{}");
  for (const one of fields()) if (!one.value && kept[one.name]) one.value = kept[one.name];
  form.addEventListener("input", () => {
    sessionStorage.setItem(place, JSON.stringify(Object.fromEntries(fields().map((one) => [one.name, one.value]))));
  });
  form.addEventListener("submit", () => sessionStorage.removeItem(place));
}

// Two clicks are one: a form that was just sent is not sent again.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.getAttribute("method") !== "post" || event.defaultPrevented) return;
  if (form.dataset.sent) { event.preventDefault(); return; }
  form.dataset.sent = "yes";
  setTimeout(() => delete form.dataset.sent, 3000);
});

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
