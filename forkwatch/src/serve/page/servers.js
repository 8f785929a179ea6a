// Servers and their workers as trees, and the life of each worker as a line of time.

import { ask, badge, h, lasted, s, swap, trouble, when } from "./parts.js";

const KINDS = { ready: "good", starting: "", "not-ready": "critical", stopping: "warning", unknown: "plain" };
/** What stands in a line of time, by the class of its colour. */
const STARTING = "s1";
const READY = "s2";
const OTHER = "s5";

export function servers(known) {
  const element = h("div", {}, h("h1", {}, "Servers"), h("p", { class: "empty" }, "Asking forkwatch…"));
  const fresh = () => ask("servers").then(
    (answer) => swap(element, h("h1", {}, "Servers"), shown(known, answer.servers)),
    (error) => element.replaceChildren(h("h1", {}, "Servers"), trouble(error)));
  fresh();
  return { title: "Servers", element, fresh };
}

function shown(known, all) {
  if (all.length === 0) {
    return [h("p", { class: "empty card" }, "No server has forked a worker yet. ", h("a", { href: "#/processes" }, "All forked processes"))];
  }
  const found = new Map();
  for (const finding of known.list()) if (!found.has(finding.pid)) found.set(finding.pid, finding);
  const now = Date.parse(known.health.now);
  return all.map((server) => {
    const title = [server.name, server.class].filter(Boolean).join(" ");
    const place = server.unit ? ` in ${server.unit}` : "";
    // The same time for all, so that lines can be compared.
    const first = Math.min(now - 60000, ...server.workers.map((worker) => Date.parse(worker.start)));
    return h("section", { class: "card", "aria-label": title },
      h("div", { class: "head" }, h("h2", {}, title, h("small", {}, `${place}, master `), h("span", { class: "mono" }, String(server.master_pid))),
        h("span", {}, `${server.workers.length} living, ${server.ended} ended`)),
      h("ul", { class: "tree" }, h("li", {}, h("ul", {}, server.workers.map((worker) => one(worker, found.get(worker.pid), first, now))))),
      server.ends.length > 0 && h("details", {}, h("summary", {}, server.ends.length === 1 ? "How the last one ended" : `How the last ${server.ends.length} ended`), ends(server.ends)));
  });
}

function one(worker, finding, first, now) {
  const start = Date.parse(worker.start);
  const ready = worker.ready_after_ns === undefined ? undefined : worker.ready_after_ns / 1e6;
  const words = [
    `forked ${lasted(now - start)} ago`,
    ready !== undefined && `ready ${worker.ready_exact ? "after" : "by"} ${ready < 1000 ? `${Math.round(ready)} ms` : lasted(ready)}`,
    worker.replaces && `replaces ${worker.replaces}`,
    worker.work,
  ].filter(Boolean).join(", ");
  return h("li", {},
    h("span", { class: "mono" }, String(worker.pid)), " ", worker.slot ?? worker.name, " ",
    badge(worker.state, KINDS[worker.state] ?? "plain"), " ", h("small", {}, words), " ",
    finding && h("a", { href: `#/findings/${finding.id}` }, finding.hazard),
    life(start, ready, worker, first, now));
}

/** From its fork until now: starting, and then what it was since. */
function life(start, ready, worker, first, now) {
  const width = 1000;
  const at = (time) => ((time - first) / Math.max(1, now - first)) * width;
  const bar = (from, to, kind, text) =>
    to > from && s("rect", { class: kind, x: at(from), y: 1, width: Math.max(2, at(to) - at(from)), height: 8, rx: 2 }, s("title", {}, text));
  const since = Date.parse(worker.since);
  const begun = ready === undefined ? (worker.state === "starting" ? now : since) : start + ready;
  const changed = worker.state === "ready" ? now : Math.max(begun, since);
  return s("svg", { class: "life", viewBox: `0 0 ${width} 10`, preserveAspectRatio: "none", "aria-hidden": "true" },
    bar(start, begun, STARTING, "starting"), bar(begun, changed, READY, "ready"), bar(changed, now, OTHER, worker.state));
}

function ends(list) {
  const rows = list.toReversed().map((end) => h("tr", {},
    h("td", {}, when(end.at)),
    h("td", { class: "mono" }, String(end.pid)),
    h("td", {}, end.words ?? end.how),
    h("td", {}, lasted(end.lifetime_ns / 1e6)),
    h("td", {}, end.stuck ?? (end.last_activity ? `${end.state}: ${end.last_activity}` : end.state)),
    h("td", { class: "mono" }, end.replaced_by === undefined ? "" : String(end.replaced_by))));
  return h("div", { class: "scroll" }, h("table", {},
    h("thead", {}, h("tr", {}, ["When", "Worker", "How", "Lived", "What it did", "Replaced by"].map((title) => h("th", { scope: "col" }, title)))),
    h("tbody", {}, rows)));
}
