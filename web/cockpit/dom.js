// Elements out of values. A text is always a text node: what an attacker chose (host names,
// comments, tools) is never read as markup. bdi keeps bidirectional characters in their cell.

import { _ } from "./text.js";

export function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.flat().filter(child => child !== null && child !== undefined && child !== ""));
  return made;
}

export const foreign = text => el("bdi", {}, visible(text));

// Words of the command line, which are English.
export const said = text => el("bdi", { lang: "en" }, visible(text));

// The words of an error, in their language.
export const told = error => el("bdi", { lang: error.language }, visible(error.message));

// A translated text with nodes in the places of $0 and $1.
export const filled = (text, ...nodes) => text.split(/(\$\d)/).map(part => /^\$\d$/.test(part) ? nodes[Number(part[1])] : part);

// Where a source is from: country, autonomous system, labels.
export function origin(item) {
  const system = item.origin?.as.number ? `AS${item.origin.as.number} ${item.origin.as.organization.name ?? ""}`.trim() : "";
  return [item.origin?.geo.country_iso_code, system, ...item.origin?.labels ?? []].filter(Boolean).join(", ");
}

// Control and bidirectional characters, shown by their number.
export function visible(text) {
  return String(text).replace(/[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g,
    character => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

// Changes the text only where it differs: an unchanged page costs no layout, and keeps a selection.
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function button(label, act, { kind = "secondary", title = null, small = true, disabled = false } = {}) {
  return el("button",
    { type: "button", class: `pf-v6-c-button pf-m-${kind}${small ? " pf-m-small" : ""}`, title, disabled, onclick: act },
    el("span", { class: "pf-v6-c-button__text" }, label));
}

export function label(text, colour = "") {
  return el("span", { class: `pf-v6-c-label pf-m-compact${colour ? ` pf-m-${colour}` : ""}` },
    el("span", { class: "pf-v6-c-label__content" }, el("span", { class: "pf-v6-c-label__text" }, text)));
}

// `text`: a string, or a node.
export function alertBox(text, kind = "warning", more = []) {
  return el("div", { class: `pf-v6-c-alert pf-m-inline pf-m-${kind}`, role: kind === "danger" ? "alert" : null },
    el("p", { class: "pf-v6-c-alert__title" }, text instanceof Node ? text : visible(text)), ...more);
}

// A button that asks once more, in its own place, before it acts. Escape, or leaving it, takes the
// question back.
export function twice(text, question, act, options = {}) {
  const place = el("span", { class: "twice" });
  const first = button(text, () => {
    const yes = button(question, async () => {
      yes.disabled = no.disabled = true;
      try { await act(); } finally { back(); }
    }, { ...options, kind: "danger" });
    const no = button(_("Cancel"), () => { back(); first.focus(); }, { kind: "link" });
    place.replaceChildren(yes, no);
    place.classList.add("asked");
    yes.focus();
  }, options);
  const back = () => { place.classList.remove("asked"); place.replaceChildren(first); };
  place.addEventListener("keydown", event => {
    if (event.key === "Escape" && place.classList.contains("asked")) { back(); first.focus(); }
  });
  place.append(first);
  return place;
}

export function field(caption, control) {
  return el("label", { class: "field" }, el("span", {}, caption),
    el("span", { class: `pf-v6-c-form-control${control.tagName === "TEXTAREA" ? " pf-m-textarea" : ""}` }, control));
}

export function table(caption, columns) {
  const body = el("tbody", { class: "pf-v6-c-table__tbody", role: "rowgroup" });
  const head = columns.map(name => el("th", { class: "pf-v6-c-table__th", scope: "col" }, name || el("span", { class: "hidden-text" }, _("Actions"))));
  const whole = el("table", { class: "pf-v6-c-table pf-m-compact", "aria-label": caption },
    el("thead", { class: "pf-v6-c-table__thead" }, el("tr", { class: "pf-v6-c-table__tr" }, head)), body);
  return { whole: el("div", { class: "wide" }, whole), body, columns };
}

export function row(columns, cells) {
  return el("tr", { class: "pf-v6-c-table__tr" }, cells.map((cell, index) =>
    el("td", { class: "pf-v6-c-table__td", "data-label": columns[index] }, cell)));
}
