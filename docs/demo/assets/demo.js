// The clocks of the home page. They run by themselves; nginx is asked again (GET /session, which
// prolongs nothing) when the window is looked at, after a click, and when the time is up.
"use strict";

const byId = (id) => document.getElementById(id);
const clocks = { idle: null, absolute: null };  // {end: ms, whole: s}

function format(seconds, withHours) {
  const two = (n) => String(n).padStart(2, "0");
  const minutes = Math.floor(seconds / 60);
  return withHours
    ? `${Math.floor(minutes / 60)}:${two(minutes % 60)}:${two(seconds % 60)}`
    : `${minutes}:${two(seconds % 60)}`;
}

function left(clock) {
  return Math.max(0, Math.ceil((clock.end - Date.now()) / 1000));
}

function draw(name) {
  const seconds = left(clocks[name]);
  byId(name).textContent = format(seconds, name === "absolute");
  byId(`${name}-bar`).value = seconds / clocks[name].whole;
  byId(name).parentElement.classList.toggle("ending", seconds <= 60);
  return seconds;
}

const usualText = byId("warning").textContent;

// Said aloud by screen readers, so only now and then.
function warn(seconds) {
  const text = seconds > 120 ? usualText
    : seconds > 60 ? "Less than two minutes left."
    : seconds > 20 ? "Less than a minute left."
    : "The session is about to end.";
  if (byId("warning").textContent !== text) {
    byId("warning").textContent = text;
  }
}

let asking = false;

function tick() {
  if (clocks.idle === null) {
    return;
  }
  const seconds = Math.min(draw("idle"), draw("absolute"));
  warn(seconds);
  if (seconds === 0) {
    ask("GET");
  }
}

function start(name, seconds, whole) {
  const before = clocks[name];
  clocks[name] = { end: Date.now() + seconds * 1000, whole: Math.max(1, whole, before ? before.whole : 0) };
}

// GET looks at the clock, POST says "I am still here". Without a session the page is loaded again, and
// nginx leads to the login with the reason.
async function ask(method) {
  if (asking) {
    return;
  }
  asking = true;
  try {
    const answer = await fetch("/session", { method, cache: "no-store" });
    if (answer.status === 401) {
      location.reload();
      return;
    }
    if (answer.ok) {
      const session = await answer.json();
      start("idle", session.idle_left, session.idle_left);
      start("absolute", session.absolute_left, session.absolute_left + session.auth_age);
    }
  } catch {
    // No connection: the clocks go on, and the next look asks again.
  } finally {
    asking = false;
  }
  tick();
}

async function call(path) {
  const shown = byId("answer");
  try {
    const answer = await fetch(path, { cache: "no-store" });
    const type = answer.headers.get("content-type");
    shown.textContent = `${answer.status} ${type}\n\n${await answer.text()}`;
  } catch {
    shown.textContent = "nginx does not answer.";
  }
  await ask("GET");
}

function showRolesAsTags() {
  const place = byId("roles");
  const names = place.textContent.trim().split(" ");
  place.replaceChildren(...names.map((name) => {
    const tag = document.createElement("span");
    tag.className = "role";
    tag.textContent = name;
    return tag;
  }));
}

showRolesAsTags();
byId("stay").addEventListener("click", () => ask("POST"));
for (const button of document.querySelectorAll("[data-get]")) {
  button.addEventListener("click", () => call(button.dataset.get));
}
addEventListener("focus", () => ask("GET"));
document.addEventListener("visibilitychange", () => document.hidden || ask("GET"));
addEventListener("pageshow", (event) => event.persisted && location.reload());
setInterval(tick, 1000);
ask("GET");
