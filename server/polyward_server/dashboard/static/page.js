// Keeps a page's panels current, tells the time in words, and sends what people decide.
"use strict";

// --- panels

const stream = document.body.dataset.live;
const state = document.querySelector(".live");
const shown = new Map(); // panel -> HTML as it came, so that nothing is touched that has not changed

let lost = 0; // when the hub was last heard, while it is not; 0 while it is

function say(word, text) {
  if (!state || state.dataset.state === word) return;
  state.dataset.state = word;
  state.querySelector("span").textContent = text;
  lost = word === "away" ? Date.now() : 0;
  document.body.toggleAttribute("data-lost", lost > 0); // what is shown may be true no more
}

function refresh(name, html) {
  const place = document.querySelector(`[data-panel="${CSS.escape(name)}"]`);
  if (!place || shown.get(name) === html) return;
  shown.set(name, html);
  const next = document.createElement("div");
  next.innerHTML = html;
  const open = [...place.querySelectorAll("details[open][id]")].map((each) => each.id);
  const focused = place.contains(document.activeElement) && counterpart(document.activeElement, place, next);
  const scrolled = [...place.querySelectorAll(".scroll")].map((each) => each.scrollLeft);
  for (const each of place.querySelectorAll("input[id], textarea[id]")) { // what somebody is writing stays
    const again = next.querySelector(`#${CSS.escape(each.id)}`);
    if (again && each.value !== each.defaultValue) again.value = each.value;
  }
  for (const each of place.querySelectorAll("select[id]")) { // and what somebody is choosing
    const again = next.querySelector(`#${CSS.escape(each.id)}`);
    const touched = [...each.options].some((option) => option.selected !== option.defaultSelected);
    if (again && touched && [...again.options].some((option) => option.value === each.value)) again.value = each.value;
  }
  keepCharts(place, next);
  place.replaceChildren(...next.childNodes);
  for (const id of open) place.querySelector(`#${CSS.escape(id)}`)?.setAttribute("open", "");
  place.querySelectorAll(".scroll").forEach((each, i) => (each.scrollLeft = scrolled[i] || 0));
  if (focused) focused.focus({ preventScroll: true });
  drawCharts(place);
  tellTimes(place);
}

// What stands in the new panel for what had the focus in the old one: nobody loses their place by news.
function counterpart(active, before, after) {
  if (active.id) return after.querySelector(`#${CSS.escape(active.id)}`);
  const named = (each) => each.getAttribute("aria-label") || each.textContent;
  const alike = (each) => each.getAttribute("href") === active.getAttribute("href") && named(each) === named(active);
  const all = (where) => [...where.querySelectorAll(active.localName)].filter(alike);
  return all(after)[all(before).indexOf(active)];
}

function listen() {
  const events = new EventSource(stream);
  events.addEventListener("panel", (event) => {
    const { panel, html } = JSON.parse(event.data);
    say("live", "live");
    refresh(panel, html);
  });
  events.addEventListener("signed-out", toSignIn);
  events.onerror = () => {
    say("away", `reconnecting; as of ${new Date().toLocaleTimeString()}`);
    if (events.readyState === EventSource.CLOSED) setTimeout(listenAgain, 2000);
  };
  addEventListener("pagehide", () => events.close());
}

async function listenAgain() {
  const answer = await fetch("/account", { headers: { accept: "application/json" } }).catch(() => null);
  if (answer?.status === 401) toSignIn();
  else listen();
}

function toSignIn() {
  location.assign(`/sign-in?next=${encodeURIComponent(location.pathname + location.search)}`);
}

// --- times

const UNITS = [[86400, "days"], [3600, "h"], [60, "min"], [1, "s"]];

function inWords(seconds) {
  const [size, unit] = UNITS.find(([size]) => seconds >= 2 * size) || [1, "s"];
  return `${Math.round(seconds / size)} ${unit}`;
}

function tellTimes(where) {
  for (const each of where.querySelectorAll("time[data-ago], time[data-until]")) {
    const at = Date.parse(each.dateTime);
    each.title ||= new Date(at).toLocaleString();
    const seconds = ((lost || Date.now()) - at) / 1000; // nothing comes nearer while nobody knows
    const until = "until" in each.dataset;
    each.textContent = until
      ? seconds < 0 ? `in ${inWords(-seconds)}` : `${inWords(seconds)} over`
      : `${inWords(Math.max(0, seconds))} ago`;
  }
}

// --- what people decide

async function send(button) {
  const { post, then, ask, body } = button.dataset;
  if (button.form && button.type === "submit" && !button.form.reportValidity()) return;
  if (ask && !confirm(ask)) return;
  const form = button.closest("form");
  const fields = form ? Object.fromEntries(new FormData(form)) : {};
  button.disabled = true;
  const notice = document.querySelector("main > .notice");
  notice.hidden = true;
  try {
    const answer = await fetch(post, {
      method: "POST",
      headers: { "content-type": "application/json", "x-token": document.querySelector("meta[name=token]")?.content || "" },
      body: JSON.stringify({ ...fields, ...(body ? JSON.parse(body) : {}) }),
    });
    const told = answer.headers.get("content-type")?.includes("json") ? await answer.json() : {};
    if (!answer.ok) throw new Error(typeof told.detail === "string" ? told.detail : `the hub answered ${answer.status}`);
    const heard = !button.dispatchEvent(new CustomEvent("told", { bubbles: true, cancelable: true, detail: told }));
    if (heard) return; // a page's own script shows it
    if (then) location.assign(then);
    else if (told.go) location.assign(told.go);
    else {
      notice.textContent = told.said || "done";
      notice.className = "notice good";
      notice.hidden = false;
      if (form) form.reset();
    }
  } catch (error) {
    notice.textContent = error.message;
    notice.className = "notice bad";
    notice.hidden = false;
  } finally {
    button.disabled = false;
  }
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-post]");
  if (button) {
    event.preventDefault();
    send(button);
  }
  if (event.target.closest("[data-theme-toggle]")) {
    const dark = matchMedia("(prefers-color-scheme: dark)").matches;
    const now = document.documentElement.dataset.theme || (dark ? "dark" : "light");
    document.documentElement.dataset.theme = now === "dark" ? "light" : "dark";
    localStorage.setItem("theme", document.documentElement.dataset.theme);
    drawCharts(document, true);
  }
});

const menu = document.querySelector(".menu");

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || !menu?.open) return;
  menu.open = false;
  menu.querySelector("summary").focus();
});

document.addEventListener("click", (event) => {
  if (menu?.open && !menu.contains(event.target)) menu.open = false;
});

drawCharts(document);
tellTimes(document);
setInterval(() => tellTimes(document), 1000);
if (stream) listen();
