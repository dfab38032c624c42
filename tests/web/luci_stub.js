// The parts of LuCI's client that a view uses, as luci.js of OpenWrt 23.05 defines them: E() reads a
// string as HTML and the items of an array as texts.
'use strict';

String.prototype.format = function (...values) { return this.replace(/%[ds]/g, () => values.shift()); };
const _ = text => window.translations?.[text] ?? text;

const dom = {
  append(node, children) {
    if (Array.isArray(children)) {
      for (const child of children) {
        if (child instanceof Node) node.appendChild(child);
        else if (child !== null && child !== undefined) node.appendChild(document.createTextNode(String(child)));
      }
    } else if (children instanceof Node) {
      node.appendChild(children);
    } else if (children !== null && children !== undefined) {
      node.innerHTML = String(children);
    }
    return node;
  },
  content(node, children) {
    while (node.firstChild) node.removeChild(node.firstChild);
    return dom.append(node, children);
  },
};

function E(tag, attributes, children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (typeof value === "function") node.addEventListener(name, value);
    else if (value !== null && value !== undefined) node.setAttribute(name, value);
  }
  return dom.append(node, children);
}

const L = {
  bind: (func, self, ...given) => (...more) => func.apply(self, [...given, ...more]),
  hasViewPermission: () => window.mayWrite !== false,
};

const fs = {
  exec: (command, params = []) => fetch("/ubus", { method: "POST", body: JSON.stringify({ command, params }) })
    .then(answer => answer.ok ? answer.json() : Promise.reject(new Error("Permission denied"))),
};

const modal = () => document.getElementById("modal");
const ui = {
  showModal(title, children) {
    dom.content(modal(), [E("h4", {}, [title])]);
    dom.append(modal(), children);
  },
  hideModal() { dom.content(modal(), []); },
  addNotification(title, children, ...classes) {
    dom.append(document.getElementById("notes"), [E("div", { class: classes.join(" ") }, children)]);
  },
  createHandlerFn(self, method, ...given) {
    const func = typeof method === "string" ? self[method] : method;
    return event => {
      event.currentTarget.disabled = true;
      const button = event.currentTarget;
      return Promise.resolve(func.apply(self, [...given, event])).finally(() => { button.disabled = false; });
    };
  },
};

const poll = { add(func, seconds) { setInterval(func, seconds * 1000); } };
const view = {
  extend(members) {
    const made = Object.create(members);
    return Promise.resolve(made.load()).then(data => made.render(data))
      .then(node => dom.content(document.getElementById("view"), [node]));
  },
};

fetch("/view.js").then(answer => answer.text()).then(source => {
  const required = [...source.matchAll(/^'require (\w+)';$/gm)].map(found => found[1]);
  const given = { view, fs, ui, dom, poll };
  const missing = required.filter(name => !(name in given));
  if (missing.length) throw new Error(`the stub lacks ${missing}`);
  const make = new Function("E", "_", "L", ...required, source);
  return make(E, _, L, ...required.map(name => given[name]));
}).catch(error => { document.getElementById("view").textContent = `failed: ${error.message}`; });
