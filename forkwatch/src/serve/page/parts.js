// Small parts that all views use. Every text goes into the page as text: nothing here makes markup of a string.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat(9).filter((child) => child !== undefined && child !== null && child !== false));
  return element;
}

/** An element with its attributes, its listeners and what is in it. */
export const h = (name, attributes, ...children) => fill(document.createElement(name), attributes, children);
/** The same, in a drawing. */
export const s = (name, attributes, ...children) => fill(document.createElementNS(SVG, name), attributes, children);

/** Puts something new in place of what was there. What the reader has opened stays open, and where they are stays theirs. */
export function swap(element, ...children) {
  const name = (details) => details.querySelector("summary")?.textContent;
  const opened = new Set([...element.querySelectorAll("details[open]")].map(name));
  const focused = element.contains(document.activeElement) ? document.activeElement : undefined;
  element.replaceChildren(...children.flat(9).filter(Boolean));
  for (const details of element.querySelectorAll("details")) if (opened.has(name(details))) details.open = true;
  const alike = (one) => one.tagName === focused.tagName && (one.getAttribute("href") ?? one.textContent) === (focused.getAttribute("href") ?? focused.textContent);
  if (focused) [...element.querySelectorAll("a, button, select, summary")].find(alike)?.focus({ preventScroll: true });
}

/** A document of the interface. What goes wrong is said in its words. */
export async function ask(path) {
  const answer = await fetch(`/api/v1/${path}`);
  if (!answer.ok) throw Object.assign(new Error((await answer.text()).trim() || `the answer is ${answer.status}`), { status: answer.status });
  return answer.json();
}

/** A link that stays on the page, or leads elsewhere only where that is on the web. */
export function link(url, text) {
  return /^https?:\/\//.test(url) ? h("a", { href: url, rel: "noreferrer noopener" }, text ?? url) : h("span", {}, text ?? url);
}

const two = (number) => String(number).padStart(2, "0");

/** A time in the reader's zone. */
export function when(text) {
  const date = new Date(text);
  const shown = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
  return h("time", { datetime: text, title: text }, shown);
}

/** How long, in the two greatest units. */
export function lasted(milliseconds) {
  const seconds = Math.max(0, Math.round(milliseconds / 1000));
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.floor(seconds / 60) % 60} min`;
  return `${Math.floor(seconds / 86400)} d ${Math.floor(seconds / 3600) % 24} h`;
}

export const badge = (text, kind) => h("span", { class: `badge ${kind ?? ""}` }, text);

const SEVERITY = { critical: "critical", warning: "warning", info: "" };
export const severity = (finding) => badge(finding.severity, SEVERITY[finding.severity] ?? "");

/** How a finding stands, in one badge. */
export function state(finding) {
  if (finding.state === "resolved") return badge(finding.resolution ?? "resolved", "good");
  return badge(finding.state, "plain");
}

/** Name and value side by side; what is not known is left out. */
export function facts(pairs) {
  const known = pairs.filter(([, value]) => value !== undefined && value !== null && value !== "");
  return h("dl", { class: "facts" }, known.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
}

/** Says that something went wrong, where it can be read. */
export const trouble = (error) =>
  h("div", { class: "card verdict bad", role: "alert" }, h("div", {}, h("b", {}, error.status ? "This cannot be shown" : "forkwatch does not answer"), h("p", {}, String(error.message ?? error))));
