// Sources that are never blocked: those that people added, and those that this host depends on.

import { ask, change, run } from "./command.js";
import { _, counted, format, time } from "./text.js";
import { button, el, field, foreign, row, table, twice } from "./dom.js";

const COLUMNS = [_("Network"), _("Why"), _("Comment"), _("Ends"), ""];
const ENDS = [["", _("when it is removed")], ["1h", _("in an hour")], ["1d", _("in a day")], ["7d", _("in a week")], ["30d", _("in 30 days")]];

export class Allowlist {
  constructor(page) {
    this.page = page;
    this.address = el("input", { type: "text", id: "allowed", required: true, spellcheck: "false", autocomplete: "off" });
    this.comment = el("input", { type: "text", maxlength: "200" });
    this.ends = el("select", {}, ENDS.map(([value, text]) => el("option", { value }, text)));
    this.file = el("input", { type: "file", accept: ".txt,.csv,text/plain", hidden: true, onchange: () => this.import() });
    this.table = table(_("Never blocked"), COLUMNS);
    this.found = el("p", { class: "quiet", role: "status" });
    this.asked = el("span", { class: "asked-place" });
    this.node = el("div");
  }

  start() {
    const form = el("form", { class: "filters", onsubmit: event => { event.preventDefault(); this.add(); } },
      field(_("Address or network"), this.address), field(_("Comment"), this.comment), field(_("Ends"), this.ends),
      el("button", { type: "submit", class: "pf-v6-c-button pf-m-primary" }, _("Add")),
      button(_("Import a file"), () => this.file.click(), { small: false }), this.file, this.asked);
    this.node.replaceChildren(this.page.mayChange ? form : this.page.needsRights(), this.found, this.table.whole);
    return this.load();
  }

  stop() {}

  update() {}

  async load() {
    try {
      const rows = await ask("allow", "list", "--all");
      this.found.textContent = counted(rows.length, "$0 network", "$0 networks");
      this.table.body.replaceChildren(...rows.map(item => row(COLUMNS, [
        el("code", {}, foreign(item.network)), foreign(item.why), foreign(item.comment), item.until ? time(item.until) : "",
        item.why === "allowlist" && this.page.mayChange ? this.removal(item.network) : "",
      ])));
    } catch (error) {
      this.page.failed(error);
    }
  }

  removal(network) {
    const refusal = this.page.refusal("disallow", network);
    if (refusal) return el("span", { class: "quiet" }, refusal);
    return twice(_("Remove"), format(_("Remove $0?"), network), async () => {
      await this.page.doing(async () => { await change("allow", "del", network); return format(_("$0 is removed"), network); });
      await this.load();
    });
  }

  add() {
    const address = this.address.value.trim();
    const refusal = this.page.refusal("allow", address);
    if (refusal) {
      this.asked.replaceChildren(el("span", { class: "refused", role: "alert" }, refusal));
      return;
    }
    const words = ["allow", "add", address, "--comment", this.comment.value];
    if (this.ends.value) words.push("--until", this.ends.value);
    this.confirm(format(_("Never block $0?"), address), async () => {
      await change(...words);
      this.address.value = this.comment.value = "";
      return format(_("$0 is never blocked"), address);
    });
  }

  async import() {
    const [file] = this.file.files;
    if (!file) return;
    const text = await file.text();
    this.file.value = "";
    const lines = text.split("\n").filter(line => line.replace(/[#;].*/, "").trim());
    const refused = lines.map(line => this.page.refusal("allow", line.replace(/[#;].*/, "").trim())).find(Boolean);
    if (refused) {
      this.asked.replaceChildren(el("span", { class: "refused", role: "alert" }, refused));
      return;
    }
    this.confirm(format(_("Never block what $0 names ($1)?"), file.name, counted(lines.length, "$0 line", "$0 lines")),
      () => run(["allow", "import", "-"], { input: text, superuser: "require" }));
  }

  confirm(question, act) {
    const yes = button(question, async () => {
      yes.disabled = true;
      const done = await this.page.doing(act);
      this.asked.replaceChildren();
      if (done) await this.load();
    }, { kind: "danger" });
    const no = button(_("Cancel"), () => { this.asked.replaceChildren(); this.address.focus(); }, { kind: "link" });
    this.asked.replaceChildren(yes, no);
    yes.focus();
  }
}
