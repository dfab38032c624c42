// The configuration: values in effect and where each came from, one file of this page's own, the
// switch between observing and blocking, and the first week.

import { ask, change } from "./command.js";
import { counted } from "./text.js";
import { alertBox, button, el, field, foreign, row, table, twice } from "./dom.js";
import { faultyLine } from "./toml.js";

const OWN = "conf.d/50-cockpit.toml";
const TRIAL = "10m";
const COLUMNS = ["Key", "Value", "Default", "From"];

export class Configuration {
  constructor(page) {
    this.page = page;
    this.text = el("textarea", { rows: "12", spellcheck: "false", id: "own-file", "aria-label": OWN });
    this.faults = el("div", { "aria-live": "polite" });
    this.week = el("section");
    this.wanted = el("input", { type: "search", spellcheck: "false", oninput: () => this.show() });
    this.differing = el("input", { type: "checkbox", checked: true, onchange: () => this.show() });
    this.table = table("Configuration in effect", COLUMNS);
    this.found = el("p", { class: "quiet", role: "status" });
    this.keys = [];
    this.node = el("div");
  }

  async start() {
    const mine = el("section", {}, el("h2", { class: "pf-v6-c-title pf-m-lg" }, "This page's file: ", el("code", {}, OWN)),
      field("Read after sentryfw.toml and over it; other files of conf.d are left alone", this.text), this.faults,
      this.page.mayChange ? el("p", { class: "actions" },
        twice("Check and apply", "Write the file, and reload?", () => this.apply(this.text.value), { kind: "primary", small: false })) : null);
    this.node.replaceChildren(this.week, mine,
      el("section", {}, el("h2", { class: "pf-v6-c-title pf-m-lg" }, "In effect"),
        el("form", { class: "filters", onsubmit: event => event.preventDefault() },
          field("Key", this.wanted), el("label", { class: "check" }, this.differing, " only what differs from the defaults")),
        this.found, this.table.whole));
    if (!this.page.mayChange) this.node.prepend(this.page.needsRights());
    this.text.readOnly = !this.page.mayChange;
    this.firstWeek();
    await this.load();
  }

  stop() {}

  update() {
    this.firstWeek();
  }

  async load() {
    try {
      const checked = await ask("check");
      this.path = `${checked.config.replace(/[^/]*$/, "")}${OWN}`;
      const handle = cockpit.file(this.path, { superuser: "try" });
      this.text.value = await handle.read() ?? "";
      handle.close();
      this.showFaults(checked.faults);
      if (checked.ok) {
        this.keys = (await ask("config", "show")).keys;
        this.show();
      }
    } catch (error) {
      this.faults.replaceChildren(alertBox(error.message, "danger"));
    }
  }

  show() {
    const text = this.wanted.value.trim().toLowerCase();
    const found = this.keys.filter(item => item.key.toLowerCase().includes(text)
      && (!this.differing.checked || JSON.stringify(item.value) !== JSON.stringify(item.default)));
    this.found.textContent = counted(found.length, "key");
    const shown = value => el("code", {}, foreign(value === null ? "–" : JSON.stringify(value)));
    this.table.body.replaceChildren(...found.map(item => row(COLUMNS, [
      el("code", {}, foreign(item.key)), shown(item.value), shown(item.default), foreign(item.from)])));
  }

  showFaults(faults) {
    this.faults.replaceChildren(...faults.map(fault => {
      const line = faultyLine(this.text.value, fault);
      const go = line === -1 ? [] : [el("p", { class: "pf-v6-c-alert__description" }, button(`Go to line ${line + 1}`, () => this.select(line), { kind: "link" }))];
      return alertBox(fault, "danger", go);
    }));
  }

  // Puts the cursor on the first line that a fault names.
  goToFault(faults) {
    const first = faults.map(fault => faultyLine(this.text.value, fault)).find(line => line !== -1);
    if (first !== undefined) this.select(first);
  }

  select(line) {
    const lines = this.text.value.split("\n");
    const begin = lines.slice(0, line).reduce((sum, text) => sum + text.length + 1, 0);
    this.text.focus();
    this.text.setSelectionRange(begin, begin + lines[line].length);
  }

  // Writes the file, checks all files, and takes the write back if they have a fault: the daemon
  // reads them only at the reload.
  async apply(text) {
    const handle = cockpit.file(this.path, { superuser: "require" });
    let before = null;
    this.page.isWriting = true;
    try {
      await cockpit.spawn(["mkdir", "-p", this.path.replace(/\/[^/]*$/, "")], { superuser: "require" });
      before = await handle.read();
      await handle.replace(text);
      const checked = await ask("check");
      if (!checked.ok) {
        await handle.replace(before);
        this.text.value = text;
        this.showFaults(checked.faults);
        this.goToFault(checked.faults);
        this.page.say("Not applied: the configuration has a fault, and the file is as before.");
        return;
      }
      this.page.say(await change("reload"));
      await this.load();
    } catch (error) {
      this.faults.replaceChildren(alertBox(error.message, "danger"));
      this.page.say("");
    } finally {
      handle.close();
      this.page.isWriting = false;
    }
  }

  firstWeek() {
    const summary = this.page.summary;
    const key = JSON.stringify([summary?.state, summary?.trial_ends_at, this.page.installed, this.page.mayChange]);
    if (key === this.shownWeek || this.week.querySelector(".asked")) return;
    this.shownWeek = key;
    const steps = [];
    if (this.page.mayChange && summary) steps.push(...this.steps(summary));
    this.week.replaceChildren(...steps.length ? [el("h2", { class: "pf-v6-c-title pf-m-lg" }, "The first week"), ...steps] : []);
  }

  steps(summary) {
    const act = (...words) => () => this.page.doing(() => change(...words));
    if (summary.trial_ends_at) {
      return [el("p", {}, "The install is on trial. If you still reach this page and your services, keep it."),
        el("p", { class: "actions" }, twice("Keep the install", "Keep it?", act("confirm"), { kind: "primary", small: false }))];
    }
    if (!this.page.installed) {
      return [el("p", {}, `Begin on trial: it ends by itself after ${TRIAL.replace("m", " minutes")}, unless you keep it.`),
        el("p", { class: "actions" }, twice("Install on trial", "Install on trial?", act("install", "--trial", TRIAL), { kind: "primary", small: false }))];
    }
    const mode = summary.state === "observing" ? "block" : "observe";
    const text = mode === "block"
      ? "It observes: see in the history what would have been blocked, allow what should not be, and switch blocking on."
      : "It blocks. To look only, switch to observing: blocks that exist stay until they end.";
    return [el("p", {}, text), el("p", { class: "actions" },
      twice(mode === "block" ? "Switch blocking on" : "Observe only", mode === "block" ? "Block scanners from now on?" : "Block nothing from now on?",
        async () => {
          await this.page.doing(() => change("config", "set", "detect.mode", mode));
          await this.load();
        }, { small: false }))];
  }
}
