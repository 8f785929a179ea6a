// The list of findings, of which only what can be seen is in the page, and the card of one.

import { ask, badge, facts, h, link, severity, state, trouble, when } from "./parts.js";

const OPEN = ["suspected", "confirmed", "unknown"];
const KEYS = ["q", "severity", "hazard", "state", "unit", "since"];
const SPANS = { "1h": 3600e3, "24h": 86400e3, "7d": 7 * 86400e3 };
/** Rows beyond what can be seen, above and below. */
const SPARE = 6;

function matches(finding, filter) {
  const state = filter.get("state");
  if (state && !(state === "open" ? OPEN.includes(finding.state) : finding.state === state)) return false;
  if (filter.get("severity") && finding.severity !== filter.get("severity")) return false;
  if (filter.get("hazard") && finding.hazard !== filter.get("hazard")) return false;
  if (filter.get("unit") && (finding.unit ?? finding.container ?? finding.program) !== filter.get("unit")) return false;
  const span = SPANS[filter.get("since")];
  if (span && Date.parse(finding.last_seen) < Date.now() - span) return false;
  const words = (filter.get("q") ?? "").toLowerCase().split(/\s+/).filter(Boolean);
  const text = [finding.summary, finding.program, finding.unit, finding.container, finding.hazard, finding.name, finding.pid, ...(finding.also_pids ?? [])].join("\n").toLowerCase();
  return words.every((word) => text.includes(word));
}

export function findings(known, { query }) {
  const filter = query;
  const count = h("p", { role: "status" });
  const rows = h("ol", { "aria-label": "Findings" });
  const list = h("div", { class: "list" }, rows);
  let shown = [];
  let drawn = [-1, -1];

  const height = () => (matchMedia("(max-width: 640px)").matches ? 104 : 74);
  const draw = (again) => {
    const each = height();
    const first = Math.max(0, Math.floor(list.scrollTop / each) - SPARE);
    const last = Math.min(shown.length, Math.ceil((list.scrollTop + list.clientHeight) / each) + SPARE);
    if (!again && first === drawn[0] && last === drawn[1]) return;
    drawn = [first, last];
    const focused = document.activeElement?.dataset?.row;
    rows.style.height = `${shown.length * each}px`;
    rows.replaceChildren(...shown.slice(first, last).map((finding, at) => row(finding, first + at, each)));
    if (focused !== undefined) rows.querySelector(`[data-row="${focused}"]`)?.focus({ preventScroll: true });
  };
  const row = (finding, at, each) => {
    const item = h("li", { "aria-setsize": shown.length, "aria-posinset": at + 1 },
      h("a", { class: "row", href: `#/findings/${finding.id}`, "data-row": at },
        when(finding.first_seen),
        h("span", { class: "what" }, `${finding.hazard} in ${finding.unit ?? finding.container ?? finding.program}`),
        h("span", { class: "badges" }, severity(finding), state(finding)),
        h("span", { class: "text" }, finding.summary)));
    item.style.transform = `translateY(${at * each}px)`;
    return item;
  };
  const fresh = () => {
    const all = known.list();
    shown = all.filter((finding) => matches(finding, filter));
    count.textContent = shown.length === all.length ? `${all.length.toLocaleString("en")} findings` : `${shown.length.toLocaleString("en")} of ${all.length.toLocaleString("en")} findings`;
    if (!known.loaded) count.textContent += " so far";
    draw(true);
    if (shown.length === 0) rows.replaceChildren(h("p", { class: "empty" }, all.length === 0 ? "Nothing was found yet." : "No finding matches."));
  };
  list.addEventListener("scroll", () => draw(false), { passive: true });
  list.addEventListener("keydown", (event) => move(event, list, shown.length, height(), () => draw(false)));

  const set = (key, value) => {
    value ? filter.set(key, value) : filter.delete(key);
    const text = filter.toString();
    history.replaceState(null, "", `#/findings${text ? `?${text}` : ""}`);
    list.scrollTop = 0;
    fresh();
  };
  const element = h("div", {}, h("h1", {}, "Findings"), filters(known, filter, set), count, list);
  return { title: "Findings", element, fresh, placed: fresh, resized: () => draw(true) };
}

/** Arrows go from row to row, also to those that are not in the page yet. */
function move(event, list, count, each, draw) {
  const at = Number(event.target.dataset?.row);
  const page = Math.max(1, Math.floor(list.clientHeight / each) - 1);
  const to = { ArrowDown: at + 1, ArrowUp: at - 1, PageDown: at + page, PageUp: at - page, Home: 0, End: count - 1 }[event.key];
  if (Number.isNaN(at) || to === undefined) return;
  event.preventDefault();
  const goal = Math.min(Math.max(to, 0), count - 1);
  if (goal * each < list.scrollTop) list.scrollTop = goal * each;
  if ((goal + 1) * each > list.scrollTop + list.clientHeight) list.scrollTop = (goal + 1) * each - list.clientHeight;
  draw();
  list.querySelector(`[data-row="${goal}"]`)?.focus({ preventScroll: true });
}

function filters(known, filter, set) {
  const all = known.list();
  const values = (of) => [...new Set(all.map(of))].sort();
  const choice = (key, title, options) => {
    const now = filter.get(key) ?? "";
    if (now && !options.some(([value]) => value === now)) options.push([now, now]);
    return h("label", {}, title, h("select", { name: key, onchange: (event) => set(key, event.target.value) },
      h("option", { value: "" }, "all"), options.map(([value, text]) => h("option", { value, selected: value === now }, text))));
  };
  const pairs = (list) => list.map((value) => [value, value]);
  const search = h("input", { type: "search", name: "q", value: filter.get("q") ?? "", placeholder: "words, a pid, a name", oninput: (event) => set("q", event.target.value.trim()) });
  return h("form", { class: "filters", role: "search", onsubmit: (event) => event.preventDefault() },
    h("label", { class: "wide" }, "Search", search),
    choice("severity", "Severity", pairs(["critical", "warning", "info"])),
    choice("state", "State", pairs(["open", "suspected", "confirmed", "unknown", "resolved", "unwatched"])),
    choice("hazard", "Hazard", pairs(values((finding) => finding.hazard))),
    choice("unit", "Where", pairs(values((finding) => finding.unit ?? finding.container ?? finding.program))),
    choice("since", "Time", [["1h", "last hour"], ["24h", "last 24 hours"], ["7d", "last 7 days"]]));
}

/** The card of one finding. */
export function finding(known, { id }) {
  const element = h("div", {}, h("p", { class: "empty" }, "Asking forkwatch…"));
  const fresh = () => ask(`findings/${encodeURIComponent(id)}`).then(
    (answer) => element.replaceChildren(...card(known, answer.finding)),
    (error) => element.replaceChildren(trouble(error)));
  fresh();
  return { title: `Finding ${id}`, element, fresh: () => {} };
}

function card(known, found) {
  const report = found.report ?? {};
  const own = report.forkwatch?.finding ?? {};
  const hazard = known.hazards?.find((one) => one.id === found.hazard);
  const forker = report.process?.parent;
  const end = found.end?.forkwatch?.finding?.summary;
  return [
    h("p", {}, h("a", { href: "#/findings" }, "All findings")),
    h("article", { class: "card" },
      h("h1", {}, hazard?.title ?? found.hazard),
      h("div", { class: "badges" }, severity(found), badge(found.certainty, "plain"), state(found), found.repeats > 0 && badge(found.repeats === 1 ? "once more" : `${found.repeats} times more`, "plain")),
      h("p", { class: "summary" }, found.summary),
      end && h("p", {}, end),
      own.remedy && h("div", { class: "fix" }, h("p", {}, h("b", {}, "What to change: "), own.remedy.text), h("p", {}, link(own.remedy.link))),
      facts([
        ["hazard", h("a", { href: `#/hazards/${encodeURIComponent(found.hazard)}` }, found.hazard)],
        ["first seen", when(found.first_seen)],
        ["last seen", found.last_seen === found.first_seen ? undefined : when(found.last_seen)],
        ["program", found.program],
        ["unit", found.unit],
        ["container", found.container],
        ["child", h("span", { class: "mono" }, `${found.name} (pid ${found.pid})`)],
        ["also", also(found) && h("span", { class: "mono" }, also(found))],
        ["forked by", forker && h("span", { class: "mono" }, `${forker.name ?? ""} (pid ${forker.pid})`)],
        ["command line", forker?.args?.length > 0 ? h("span", { class: "mono" }, forker.args.join(" ")) : undefined],
        ["user", found.uid === undefined ? undefined : `uid ${found.uid}`],
      ]),
      evidence(own.evidence ?? {}),
      actions(found)),
  ];
}

/** Further children to which the same has happened. */
function also(found) {
  const pids = found.also_pids ?? [];
  const more = found.unnamed ?? 0;
  if (pids.length === 0) return undefined;
  return `pid ${pids.join(", ")}${more > 0 ? ` and ${more} more` : ""}`;
}

function frames(title, list) {
  if (!list?.length) return undefined;
  const where = (frame) => [frame.module, frame.line ?? (frame.offset === undefined ? undefined : `+0x${frame.offset.toString(16)}`)].filter((part) => part !== undefined).join(":");
  return [h("h3", {}, title), h("ol", { class: "frames" }, list.map((frame) => h("li", {}, frame.function ?? "?", " ", h("span", {}, where(frame)))))];
}

function evidence(known) {
  const lock = known.lock ?? {};
  const threads = known.threads ?? [];
  return [
    frames("Where the script waits", lock.script?.frames),
    frames("Where the thread waits", lock.stack?.frames),
    threads.length > 0 && [h("h3", {}, "Threads of the parent at the fork"), h("div", { class: "scroll" }, h("table", {},
      h("thead", {}, h("tr", {}, ["Thread", "Name", "What it did"].map((title) => h("th", { scope: "col" }, title)))),
      h("tbody", {}, threads.map((thread) => h("tr", {}, h("td", {}, String(thread.id)), h("td", {}, thread.own_name ?? thread.name ?? ""), h("td", {}, typeof thread.at === "string" ? thread.at : thread.at ? JSON.stringify(thread.at) : ""))))))],
    known.notes?.length > 0 && [h("h3", {}, "Notes"), h("ul", { class: "plain" }, known.notes.map((note) => h("li", {}, note)))],
    h("details", {}, h("summary", {}, "All evidence"), h("pre", { class: "evidence", tabindex: "0" }, JSON.stringify(known, null, 2))),
  ];
}

function actions(found) {
  const said = h("span", { role: "status" });
  const copy = async (text, what) => {
    try {
      await put(text);
      said.textContent = `${what} copied`;
    } catch (error) {
      said.textContent = `cannot copy: ${error.message}`;
    }
  };
  const path = `/api/v1/findings/${encodeURIComponent(found.id)}`;
  const markdown = async () => {
    const answer = await fetch(`${path}/markdown`);
    copy(await answer.text(), "Markdown");
  };
  return h("div", { class: "actions" },
    h("button", { type: "button", onclick: markdown }, "Copy as Markdown"),
    h("button", { type: "button", onclick: () => copy(location.href, "Link") }, "Copy link"),
    h("a", { href: path }, "JSON"), said);
}

/** The clipboard is there for safe origins only; loopback is one, another address without TLS is not. */
async function put(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = h("textarea", { class: "hidden" });
  area.value = text;
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  if (!done) throw new Error("the browser refuses");
}
