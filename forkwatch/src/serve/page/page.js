// Which view is shown, and what all of them know: the findings, kept fresh by the stream of events.

import { ask, h, lasted, trouble } from "./parts.js";
import { overview } from "./overview.js";
import { finding, findings } from "./findings.js";
import { processes } from "./processes.js";
import { servers } from "./servers.js";
import { hazards } from "./hazards.js";

const MOST = 10000;
const main = document.getElementById("main");
const pulse = document.getElementById("pulse");

/** What was asked so far. */
const known = { all: new Map(), health: undefined, hazards: undefined, loaded: false };
/** The findings, the latest first. */
known.list = () => [...known.all.values()].sort((one, other) => (one.id < other.id ? 1 : -1));

const VIEWS = { "": overview, findings, servers, processes, hazards };
let shown;

/** Path and filters of the address. */
function place() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  const [page, id] = path.split("/").map(decodeURIComponent);
  return { page, id, query: new URLSearchParams(query ?? "") };
}

function show(moved) {
  const at = place();
  const make = at.page === "findings" && at.id ? finding : (VIEWS[at.page] ?? overview);
  for (const anchor of document.querySelectorAll("nav a")) {
    const own = anchor.dataset.page === (at.page || "overview");
    own ? anchor.setAttribute("aria-current", "page") : anchor.removeAttribute("aria-current");
  }
  try {
    shown = make(known, at);
  } catch (error) {
    shown = { title: "Error", element: trouble(error) };
  }
  document.title = `${shown.title} · forkwatch`;
  main.replaceChildren(shown.element);
  shown.placed?.();
  if (moved) {
    main.focus({ preventScroll: true });
    scrollTo(0, 0);
  }
}

/** Whatever is shown takes on what is known now. */
function fresh() {
  shown?.fresh ? shown.fresh() : show(false);
}

async function load(query, whole) {
  let before;
  let count = 0;
  do {
    const page = await ask(`findings?limit=1000${query}${before ? `&before=${before}` : ""}`);
    for (const one of page.findings) known.all.set(one.id, one);
    known.store = page.store;
    before = page.next;
    count += page.findings.length;
    if (whole && before) fresh();
  } while (before && count < MOST);
}

async function health() {
  known.health = await ask("health");
  document.getElementById("host").textContent = known.health.host ?? "";
}

let due;
/** Soon, once, whatever comes meanwhile. */
function soon() {
  due ??= setTimeout(async () => {
    due = undefined;
    try {
      await load("&since=10m", false);
      await health();
      fresh();
    } catch (error) {
      say(`no answer: ${error.message}`);
    }
  }, 400);
}

function say(text) {
  if (pulse.textContent !== text) pulse.textContent = text;
}

function listen() {
  const stream = new EventSource("/api/v1/events?type=finding");
  stream.onopen = () => say("live");
  stream.onmessage = soon;
  stream.addEventListener("dropped", soon);
  stream.onerror = () => say("not live: the connection is lost, and is tried again");
}

async function begin() {
  main.replaceChildren(h("p", { class: "empty" }, "Asking forkwatch…"));
  try {
    [known.hazards] = await Promise.all([ask("hazards").then((answer) => answer.hazards), health(), load("", true)]);
    known.loaded = true;
    show(false);
    listen();
    setInterval(() => health().then(fresh, (error) => say(`no answer: ${error.message}`)), 30000);
  } catch (error) {
    main.replaceChildren(trouble(error));
  }
}

addEventListener("hashchange", () => show(true));
addEventListener("resize", () => shown?.resized?.());
known.uptime = () => lasted(Date.parse(known.health.now) - Date.parse(known.health.began));
begin();
