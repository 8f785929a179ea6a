// What there is to be found, explained.

import { badge, facts, h, link, severity } from "./parts.js";

export function hazards(known, { id }) {
  const one = known.hazards?.find((hazard) => hazard.id === id);
  return one ? explained(known, one) : listed(known);
}

function listed(known) {
  const counts = new Map();
  for (const finding of known.list()) counts.set(finding.hazard, (counts.get(finding.hazard) ?? 0) + 1);
  const states = new Map(known.health.detectors.map((detector) => [detector.name, detector]));
  const row = (hazard) => {
    const detector = states.get(hazard.id);
    const kind = { on: "good", limited: "warning" }[detector?.state] ?? "critical";
    return h("tr", {},
      h("td", {}, h("a", { href: `#/hazards/${encodeURIComponent(hazard.id)}` }, hazard.id)),
      h("td", {}, hazard.title),
      h("td", {}, severity(hazard)),
      h("td", {}, detector && badge(detector.state, kind)),
      h("td", { class: "number" }, h("a", { href: `#/findings?hazard=${encodeURIComponent(hazard.id)}` }, String(counts.get(hazard.id) ?? 0))));
  };
  const element = h("div", {}, h("h1", {}, "Hazards"),
    h("section", { class: "card scroll" }, h("table", {},
      h("thead", {}, h("tr", {}, ["Hazard", "What it is", "At most", "Detector here"].map((title) => h("th", { scope: "col" }, title)), h("th", { scope: "col", class: "number" }, "Found"))),
      h("tbody", {}, (known.hazards ?? []).map(row)))));
  return { title: "Hazards", element, fresh: () => {} };
}

function explained(known, hazard) {
  const detector = known.health.detectors.find((one) => one.name === hazard.id);
  const element = h("div", {},
    h("p", {}, h("a", { href: "#/hazards" }, "All hazards")),
    h("article", { class: "card" },
      h("h1", {}, hazard.title),
      h("div", { class: "badges" }, badge(hazard.id, "plain"), severity(hazard), badge(`${hazard.certainty} at most`, "plain")),
      h("p", {}, hazard.what),
      h("h3", {}, "How it is found"), h("p", {}, hazard.detection),
      h("h3", {}, "How sure that is"), h("p", {}, hazard.certainty_reason),
      detector && [h("h3", {}, "Here"), facts([[detector.state, detector.reason]])],
      hazard.look_alikes.length > 0 && [h("h3", {}, "What looks alike and stays silent"), h("ul", { class: "plain" }, hazard.look_alikes.map((one) => h("li", {}, one)))],
      h("h3", {}, "What to change"),
      h("dl", { class: "facts" }, hazard.remedies.map((remedy) => [h("dt", {}, remedy.who), h("dd", {}, remedy.text, " ", link(remedy.link, "more"))])),
      h("h3", {}, "Further reading"), h("ul", { class: "plain" }, hazard.links.map((one) => h("li", {}, link(one)))),
      h("p", {}, h("a", { href: `#/findings?hazard=${encodeURIComponent(hazard.id)}` }, "Findings of this hazard"))));
  return { title: hazard.title, element, fresh: () => {} };
}
