// The configuration: values in effect and where each came from, one file of this page's own, the
// switch between observing and blocking, and the first week.

import { ask, change } from "./command.js";
import { _, counted, format } from "./text.js";
import { alertBox, button, el, field, filled, foreign, row, said, table, told, twice } from "./dom.js";
import { faultyLine } from "./toml.js";

const OWN = "conf.d/50-cockpit.toml";
const TRIAL_MINUTES = 10;
const COLUMNS = [_("Key"), _("Value"), _("Default"), _("From")];

export class Configuration {
  constructor(page) {
    this.page = page;
    this.text = el("textarea", { rows: "12", spellcheck: "false", id: "own-file", "aria-label": OWN });
    this.faults = el("div", { "aria-live": "polite" });
    this.week = el("section");
    this.wanted = el("input", { type: "search", spellcheck: "false", oninput: () => this.show() });
    this.differing = el("input", { type: "checkbox", checked: true, onchange: () => this.show() });
    this.table = table(_("Configuration in effect"), COLUMNS);
    this.found = el("p", { class: "quiet", role: "status" });
    this.keys = [];
    this.node = el("div");
  }

  async start() {
    const mine = el("section", {}, el("h2", { class: "pf-v6-c-title pf-m-lg" }, filled(_("This page's file: $0"), el("code", {}, OWN))),
      field(_("Read after sentryfw.toml and over it; other files of conf.d are left alone"), this.text), this.faults,
      this.page.mayChange ? el("p", { class: "actions" },
        twice(_("Check and apply"), _("Write the file, and reload?"), () => this.apply(this.text.value), { kind: "primary", small: false })) : null);
    this.node.replaceChildren(this.week, mine,
      el("section", {}, el("h2", { class: "pf-v6-c-title pf-m-lg" }, _("In effect")),
        el("form", { class: "filters", onsubmit: event => event.preventDefault() },
          field(_("Key"), this.wanted), el("label", { class: "check" }, this.differing, " ", _("only what differs from the defaults"))),
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
      this.faults.replaceChildren(alertBox(told(error), "danger"));
    }
  }

  show() {
    const text = this.wanted.value.trim().toLowerCase();
    const found = this.keys.filter(item => item.key.toLowerCase().includes(text)
      && (!this.differing.checked || JSON.stringify(item.value) !== JSON.stringify(item.default)));
    this.found.textContent = counted(found.length, "$0 key", "$0 keys");
    const shown = value => el("code", {}, foreign(value === null ? "–" : JSON.stringify(value)));
    this.table.body.replaceChildren(...found.map(item => row(COLUMNS, [
      el("code", {}, foreign(item.key)), shown(item.value), shown(item.default), foreign(item.from)])));
  }

  showFaults(faults) {
    this.faults.replaceChildren(...faults.map(fault => {
      const line = faultyLine(this.text.value, fault);
      const go = line === -1 ? [] : [el("p", { class: "pf-v6-c-alert__description" }, button(format(_("Go to line $0"), line + 1), () => this.select(line), { kind: "link" }))];
      return alertBox(said(fault), "danger", go);
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
        this.page.say(_("Not applied: the configuration has a fault, and the file is as before."));
        return;
      }
      this.page.say(said((await change("reload")).trim()));
      await this.load();
    } catch (error) {
      this.faults.replaceChildren(alertBox(told(error), "danger"));
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
    this.week.replaceChildren(...steps.length ? [el("h2", { class: "pf-v6-c-title pf-m-lg" }, _("The first week")), ...steps] : []);
  }

  steps(summary) {
    const act = (...words) => () => this.page.doing(async () => said((await change(...words)).trim()));
    if (summary.trial_ends_at) {
      return [el("p", {}, _("The install is on trial. If you still reach this page and your services, keep it.")),
        el("p", { class: "actions" }, twice(_("Keep the install"), _("Keep it?"), act("confirm"), { kind: "primary", small: false }))];
    }
    if (!this.page.installed) {
      return [el("p", {}, counted(TRIAL_MINUTES, "Begin on trial: it ends by itself after $0 minute, unless you keep it.", "Begin on trial: it ends by itself after $0 minutes, unless you keep it.")),
        el("p", { class: "actions" }, twice(_("Install on trial"), _("Install on trial?"), act("install", "--trial", `${TRIAL_MINUTES}m`), { kind: "primary", small: false }))];
    }
    const mode = summary.state === "observing" ? "block" : "observe";
    const text = mode === "block"
      ? _("It observes: see in the history what would have been blocked, allow what should not be, and switch blocking on.")
      : _("It blocks. To look only, switch to observing: blocks that exist stay until they end.");
    return [el("p", {}, text), el("p", { class: "actions" },
      twice(mode === "block" ? _("Switch blocking on") : _("Observe only"), mode === "block" ? _("Block scanners from now on?") : _("Block nothing from now on?"),
        async () => {
          await act("config", "set", "detect.mode", mode)();
          await this.load();
        }, { small: false }))];
  }
}
