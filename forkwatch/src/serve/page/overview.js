// Is it watching, can its silence be trusted, and what was found.

import { badge, h, s, severity, state, swap, when } from "./parts.js";

const HOUR = 3600e3;
const RANGES = { "24 hours": [24 * HOUR, 24], "7 days": [7 * 24 * HOUR, 28] };
let range = "24 hours";

export function overview(known) {
  const element = h("div", {});
  const fresh = () => {
    const list = known.list();
    swap(element,
      h("h1", { class: "hidden" }, "Overview"),
      verdict(known),
      tiles(list),
      chart(list, fresh),
      latest(list),
    );
  };
  if (known.health) fresh();
  return { title: "Overview", element, fresh, resized: fresh };
}

function verdict(known) {
  const health = known.health;
  const kind = !health.watching ? "bad" : health.silence_is_safe ? "" : "limited";
  const title = health.watching ? `Watching every fork on ${health.host ?? "this host"}` : "Not watching everything";
  const trust = health.silence_is_safe
    ? "Silence means safe: every detector works fully, and nothing was lost."
    : `Silence means safe, but for what is limited here: ${health.doubts.length} ${health.doubts.length === 1 ? "reason" : "reasons"}.`;
  const doubts = health.doubts.length > 0 && h("details", {}, h("summary", {}, "What it cannot tell"),
    h("ul", { class: "plain" }, health.doubts.map((doubt) => h("li", {}, doubt.what))));
  const store = known.store?.trouble && h("p", {}, `Findings are not all kept: ${known.store.trouble}`);
  return h("section", { class: `card verdict ${kind}`, "aria-label": "Health" },
    h("div", {}, h("h2", {}, title), h("p", {}, `For ${known.uptime()}. ${trust}`), store, doubts));
}

const open = (finding) => ["suspected", "confirmed", "unknown"].includes(finding.state);

function tiles(list) {
  const day = Date.now() - 24 * HOUR;
  const recent = list.filter((finding) => Date.parse(finding.last_seen) >= day);
  const tile = (count, text, query) =>
    h("a", { class: "card tile", href: `#/findings${query}` }, h("b", {}, count.toLocaleString("en")), h("span", {}, text));
  const of = (level) => recent.filter((finding) => finding.severity === level).length;
  return h("section", { class: "grid", "aria-label": "Findings of the last 24 hours" },
    tile(list.filter(open).length, "open now", "?state=open"),
    tile(of("critical"), "critical, last 24 h", "?severity=critical&since=24h"),
    tile(of("warning"), "warnings, last 24 h", "?severity=warning&since=24h"),
    tile(of("info"), "for information, last 24 h", "?severity=info&since=24h"));
}

/** How many findings each program had in each part of the time: the five that had most, and all others. */
function counted(list, span, parts) {
  const end = Date.now();
  const totals = new Map();
  const seen = [];
  for (const finding of list) {
    const part = Math.floor((Date.parse(finding.first_seen) - (end - span)) / (span / parts));
    if (part < 0) continue;
    const count = finding.repeats || 1;
    totals.set(finding.program, (totals.get(finding.program) ?? 0) + count);
    seen.push([finding.program, Math.min(part, parts - 1), count]);
  }
  const names = [...totals].sort((one, other) => other[1] - one[1]).slice(0, 5).map(([name]) => name);
  if (totals.size > names.length) names.push("all others");
  const rows = names.map(() => new Array(parts).fill(0));
  for (const [name, part, count] of seen) {
    const place = names.indexOf(name);
    rows[place < 0 ? names.length - 1 : place][part] += count;
  }
  return { names, rows, end };
}

function chart(list, changed) {
  const [span, parts] = RANGES[range];
  const { names, rows, end } = counted(list, span, parts);
  const sums = new Array(parts).fill(0).map((_, part) => rows.reduce((sum, row) => sum + row[part], 0));
  const most = Math.max(4, ...sums);
  // As wide as it is shown, so that its text keeps its shape.
  const [width, height, left, foot] = [Math.max(280, Math.min(document.documentElement.clientWidth, 1120) - 80), 190, 36, 24];
  const step = (width - left) / parts;
  const up = (count) => (count / most) * (height - foot - 12);
  const time = (part) => new Date(end - span + (part * span) / parts);
  const name = (date) => span > 24 * HOUR
    ? date.toLocaleDateString("en-GB", { weekday: "short", day: "numeric" })
    : date.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
  const drawing = s("svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
  for (const count of [0, most / 2, most]) {
    const y = height - foot - up(count);
    drawing.append(s("line", { x1: left, x2: width, y1: y, y2: y }), s("text", { x: left - 8, y: y + 4, "text-anchor": "end" }, String(Math.round(count))));
  }
  for (let part = 0; part < parts; part += 1) {
    let y = height - foot;
    rows.forEach((row, place) => {
      if (row[part] === 0) return;
      y -= up(row[part]);
      const what = `${names[place]}: ${row[part]} from ${name(time(part))}`;
      drawing.append(s("rect", { class: `s${place}`, x: left + part * step + 2, y, width: step - 4, height: up(row[part]), rx: 2 }, s("title", {}, what)));
    });
    if (part % Math.ceil(parts / (width > 600 ? 6 : 3)) === 0) drawing.append(s("text", { x: left + part * step, y: height - 6 }, name(time(part))));
  }
  const choice = h("select", { "aria-label": "Time that is shown", onchange: (event) => { range = event.target.value; changed(); } },
    Object.keys(RANGES).map((one) => h("option", { value: one, selected: one === range }, `last ${one}`)));
  const total = (place) => rows[place].reduce((sum, count) => sum + count, 0);
  const table = h("table", { class: "hidden" }, h("caption", {}, "Unsafe forks by program"),
    h("tbody", {}, names.map((program, place) => h("tr", {}, h("th", { scope: "row" }, program), h("td", {}, String(total(place)))))));
  const legend = names.length > 0
    ? h("div", { class: "legend", "aria-hidden": "true" }, names.map((program, place) =>
      h("span", {}, h("span", { class: `key s${place}` }), `${program} · ${total(place)}`)))
    : h("p", { class: "empty" }, `Nothing unsafe was found in the last ${range}.`);
  return h("section", { class: "card", "aria-labelledby": "by-program" },
    h("div", { class: "head" }, h("h2", { id: "by-program" }, "Unsafe forks by program"), choice),
    names.length > 0 && drawing, legend, table);
}

function latest(list) {
  const rows = list.slice(0, 8).map((finding) => h("tr", {},
    h("td", {}, when(finding.first_seen)),
    h("td", {}, severity(finding), " ", state(finding)),
    h("td", {}, h("a", { href: `#/findings/${finding.id}` }, finding.hazard)),
    h("td", {}, finding.unit ?? finding.container ?? finding.program)));
  return h("section", { class: "card", "aria-labelledby": "latest" },
    h("div", { class: "head" }, h("h2", { id: "latest" }, "Latest findings"), h("a", { href: "#/findings" }, `All ${list.length.toLocaleString("en")}`)),
    rows.length === 0
      ? h("p", { class: "empty" }, "Nothing was found yet. ", badge("try: forkwatch demo", "plain"))
      : h("div", { class: "scroll" }, h("table", {},
        h("thead", {}, h("tr", {}, ["When", "How bad", "What", "Where"].map((title) => h("th", { scope: "col" }, title)))),
        h("tbody", {}, rows))));
}
