// The page: rights, the live figures, the state above all tabs, and the tabs.

import { ask, Failed, follow, NO_PRIVILEGE } from "./command.js";
import { refusal } from "./address.js";
import { alertBox, el, filled, said, told, visible } from "./dom.js";
import { _, format, time } from "./text.js";
import { Overview } from "./overview.js";
import { Explain } from "./explain.js";
import { History } from "./history.js";
import { Allowlist } from "./allowlist.js";
import { Configuration } from "./config.js";
import { Health } from "./health.js";

const AGAIN_MS = 1500;
const FILES_SETTLE_MS = 200;
const TABS = [["overview", _("Overview")], ["history", _("History")], ["allowlist", _("Allowlist")], ["configuration", _("Configuration")], ["health", _("Health")]];
const WORDS = {
  guarding: [_("Guarding"), "success", _("scanners are blocked at their first probes.")],
  observing: [_("Observing"), "info", _("nothing is blocked.")],
  off: [_("Not guarding"), "danger", ""],
};

class Page {
  constructor() {
    this.permission = cockpit.permission({ admin: true });
    this.peer = "";
    this.view = null;
    this.summary = null;
    this.installed = true;
    this.parts = {
      overview: new Overview(this), explain: new Explain(this), history: new History(this),
      allowlist: new Allowlist(this), configuration: new Configuration(this), health: new Health(this),
    };
    document.documentElement.lang = cockpit.language.replace("_", "-");
    document.title = document.querySelector("h1").textContent = _("Port scans");
    document.querySelector("nav").setAttribute("aria-label", _("Views"));
    this.drawTabs();
  }

  get mayChange() { return this.permission.allowed === true; }

  refusal(action, address) { return refusal(action, address, this.peer); }

  async begin() {
    followTheme();
    this.open("overview");
    cockpit.addEventListener("visibilitychange", () => this.live());
    this.permission.addEventListener("changed", () => this.rightsChanged());
    this.live();
    try {
      this.peer = (await cockpit.spawn(["printenv", "COCKPIT_REMOTE_PEER"], { err: "ignore" })).trim();
    } catch {
      this.peer = "";  // a bridge that does not know: see refusal()
    }
    this.parts.overview.rebuild();
    await this.watchFiles();
  }

  rightsChanged() {
    if (this.rights === this.permission.allowed) return;
    const before = this.rights;
    this.rights = this.permission.allowed;
    if (before === undefined || before === null) {
      this.parts.overview.rebuild();
      return;
    }
    location.reload();
  }

  // --- tabs

  drawTabs() {
    this.buttons = new Map(TABS.map(([name, text]) => [name, el("button", {
      type: "button", class: "pf-v6-c-tabs__link", role: "tab", id: `tab-${name}`, "aria-controls": "view",
      onclick: () => this.open(name), onkeydown: event => this.moveTab(event, name),
    }, el("span", { class: "pf-v6-c-tabs__item-text" }, text))]));
    document.getElementById("tabs").replaceChildren(...[...this.buttons.values()].map(made =>
      el("li", { class: "pf-v6-c-tabs__item", role: "presentation" }, made)));
  }

  moveTab(event, name) {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const names = TABS.map(([tab]) => tab);
    const next = names[(names.indexOf(name) + step + names.length) % names.length];
    this.open(next);
    this.buttons.get(next).focus();
  }

  open(name, ...more) {
    this.shown?.stop();
    this.shown = this.parts[name];
    const tab = name === "explain" ? "overview" : name;
    for (const [other, made] of this.buttons) {
      const is = other === tab;
      made.setAttribute("aria-selected", String(is));
      made.tabIndex = is ? 0 : -1;
      made.parentElement.classList.toggle("pf-m-current", is);
    }
    const view = document.getElementById("view");
    view.setAttribute("aria-labelledby", `tab-${tab}`);
    view.replaceChildren(this.shown.node);
    this.shown.start(...more);
    if (this.view) this.shown.update(this.view);
  }

  explain(address) {
    this.open("explain", address);
    document.getElementById("view").focus();
  }

  // --- what is said

  // Shows a text, or a node.
  say(text) { document.getElementById("said").replaceChildren(text instanceof Node ? text : visible(text)); }

  failed(error) {
    if (error instanceof Failed && error.code === NO_PRIVILEGE) this.lacksRights = true;
    else this.say(told(error));
    this.drawFaults();
  }

  // Does something that changes; returns whether it succeeded.
  async doing(act) {
    try {
      this.say(await act() || "");
      return true;
    } catch (error) {
      this.say(told(error));
      return false;
    }
  }

  save(blob, name) {
    const url = URL.createObjectURL(blob);
    const link = el("a", { href: url, download: name });
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(url), 60000);
  }

  needsRights() {
    return alertBox(_("This needs administrative access."), "info", [el("p", { class: "pf-v6-c-alert__description" },
      _("Turn it on at the top of Cockpit (\u201cLimited access\u201d), or become a member of the group sentryfw to look only."))]);
  }

  // --- the live figures

  live() {
    const isWanted = !cockpit.hidden;
    if (isWanted === Boolean(this.stream)) return;
    clearTimeout(this.again);
    if (!isWanted) {
      this.stream.close();
      this.stream = null;
      return;
    }
    this.stream = follow(["watch", "--json"], view => this.update(view), error => this.ended(error));
  }

  update(view) {
    this.lacksRights = view.code === NO_PRIVILEGE;
    this.streamFault = null;
    this.view = view;
    this.summary = view.summary;
    this.installed = view.code !== 5;
    this.drawState();
    this.drawFaults();
    this.shown.update(view);
  }

  ended(error) {
    this.stream = null;
    this.lacksRights = error.code === NO_PRIVILEGE;
    this.streamFault = this.lacksRights ? null : error;
    this.drawFaults();
    this.again = setTimeout(() => this.live(), AGAIN_MS);
  }

  drawState() {
    const { state, because, trial_ends_at, panic_at } = this.summary;
    const [word, kind, more] = WORDS[state];
    const text = state === "off" ? filled(_("because $0."), said(because[0].replace(/\.$/, ""))) : [more];
    const dates = [trial_ends_at && format(_("On trial until $0."), time(trial_ends_at)), panic_at && format(_("Panic since $0."), time(panic_at))].filter(Boolean).join(" ");
    const key = JSON.stringify([word, because, dates]);
    if (key === this.shownState) return;
    this.shownState = key;
    const node = document.getElementById("state");
    node.dataset.state = state;
    node.replaceChildren(el("div", { class: `pf-v6-c-alert pf-m-inline pf-m-${kind}` },
      el("p", { class: "pf-v6-c-alert__title" }, el("strong", {}, word), ": ", text, " ", dates)));
  }

  drawFaults() {
    const found = [...this.configFaults ?? []].map(fault => [_("The configuration has a fault, so the last good one is in use: $0"), fault]);
    if (this.view?.fault && this.view.code !== NO_PRIVILEGE && this.view.code !== 5) found.push(["$0", this.view.fault]);
    for (const text of Object.values(this.view?.daemon?.faults ?? {})) found.push(["$0", text]);
    for (const text of this.view?.warnings ?? []) found.push(["$0", text]);
    if (this.view?.daemon?.reload?.error) found.push([_("The last reload was refused: $0"), this.view.daemon.reload.error]);
    const key = JSON.stringify([found, this.streamFault?.message, this.lacksRights]);
    if (key === this.shownFaults) return;
    this.shownFaults = key;
    const boxes = found.map(([text, fault]) => alertBox(el("span", {}, filled(text, said(fault))), "danger"));
    if (this.streamFault) boxes.unshift(alertBox(told(this.streamFault), "danger"));
    if (this.lacksRights) boxes.push(this.needsRights());
    document.getElementById("faults").replaceChildren(...boxes);
  }

  // --- the configuration's files

  async watchFiles() {
    try {
      await this.checkFiles();
    } catch (error) {
      this.failed(error);
      return;
    }
    const home = this.configPath.replace(/\/[^/]*$/, "");
    let settle = null;
    for (const path of [home, `${home}/conf.d`]) {
      const channel = cockpit.channel({ payload: "fswatch1", path, superuser: "try" });
      channel.addEventListener("message", () => {
        clearTimeout(settle);
        settle = setTimeout(() => this.isWriting || this.checkFiles().catch(error => this.failed(error)), FILES_SETTLE_MS);
      });
    }
  }

  async checkFiles() {
    const checked = await ask("check");
    this.configPath = checked.config;
    this.configFaults = checked.faults;
    this.drawFaults();
  }
}

// Cockpit's shell keeps the chosen style in the browser, and tells its frames of a change.
function followTheme() {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const apply = style => {
    const chosen = style ?? localStorage.getItem("shell:style") ?? "auto";
    document.documentElement.classList.toggle("pf-v6-theme-dark", chosen === "dark" || (chosen === "auto" && dark.matches));
  };
  addEventListener("storage", event => { if (event.key === "shell:style") apply(); });
  addEventListener("cockpit-style", event => apply(event.detail?.style));
  dark.addEventListener("change", () => apply());
  apply();
}

new Page().begin();
