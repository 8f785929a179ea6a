// The forked children that live on, as trees below those that forked them.

import { ask, badge, h, lasted, swap, trouble } from "./parts.js";

export function processes(known) {
  const element = h("div", {}, h("h1", {}, "Processes"), h("p", { class: "empty" }, "Asking forkwatch…"));
  const fresh = () => ask("processes").then(
    (answer) => swap(element, shown(known, answer)),
    (error) => element.replaceChildren(h("h1", {}, "Processes"), trouble(error)));
  fresh();
  return { title: "Processes", element, fresh };
}

function shown(known, answer) {
  const children = new Map();
  const own = new Map(answer.processes.map((process) => [process.pid, process]));
  for (const process of answer.processes) {
    const parent = process.parent_pid ?? 0;
    if (!children.has(parent)) children.set(parent, []);
    children.get(parent).push(process);
  }
  const roots = [...children.keys()].filter((pid) => !own.has(pid)).sort((one, other) => one - other);
  const found = new Map();
  for (const finding of known.list()) if (!found.has(finding.pid)) found.set(finding.pid, finding);
  const now = Date.parse(known.health.now);
  const seen = new Set();
  const item = (process) => {
    if (seen.has(process.pid)) return undefined;
    seen.add(process.pid);
    const below = children.get(process.pid) ?? [];
    const about = found.get(process.pid);
    return h("li", {},
      h("span", { class: "mono" }, String(process.pid)), " ", process.name ?? process.forked_by ?? "", " ",
      process.hangs ? badge("hangs", "critical") : process.waits ? badge("waits", "warning") : badge("lives", "good"), " ",
      process.forker_threads > 1 && [badge(`forked beside ${process.forker_threads - 1} other ${process.forker_threads === 2 ? "thread" : "threads"}`, "warning"), " "],
      process.carried_locks > 0 && [badge(`carries ${process.carried_locks} held ${process.carried_locks === 1 ? "lock" : "locks"}`, "warning"), " "],
      h("small", {}, `since ${lasted(now - Date.parse(process.start))}`, process.uid === undefined ? "" : `, uid ${process.uid}`), " ",
      about && h("a", { href: `#/findings/${about.id}` }, about.hazard),
      below.length > 0 && h("ul", {}, below.map(item)));
  };
  const groups = roots.map((pid) => h("li", {},
    pid === 0 ? h("b", {}, "forked by processes that have ended, or before the watch began")
      : h("b", {}, "forked by ", h("span", { class: "mono" }, String(pid))),
    h("ul", {}, children.get(pid).map(item))));
  return [
    h("h1", {}, "Processes"),
    h("p", {}, `${answer.processes.length} forked children that have not exec'd and live on. A server's workers are such children.`),
    answer.left_out > 0 && h("p", {}, `${answer.left_out} more are not shown.`),
    groups.length > 0 ? h("section", { class: "card" }, h("ul", { class: "tree" }, groups)) : h("p", { class: "empty card" }, "There are none."),
  ];
}
