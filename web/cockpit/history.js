// Blocks of a period, ended ones too, out of the ledger.

import { ask, run } from "./command.js";
import { _, counted, format, number, time } from "./text.js";
import { button, el, field, filled, foreign, label, row, table } from "./dom.js";

const SHOWN = 500;
const COLUMNS = [_("When"), _("Source"), _("Scan"), _("Kinds"), _("Tool"), _("Evidence")];
const PERIODS = [["1h", _("the last hour")], ["24h", _("the last day")], ["7d", _("the last week")], ["31d", _("the last month")]];
const FORMATS = ["csv", "json", "plain", "nft", "stix"];

export class History {
  constructor(page) {
    this.page = page;
    this.period = el("select", { onchange: () => this.load() }, PERIODS.map(([value, text]) => el("option", { value }, text)));
    this.period.value = "24h";
    const text = () => el("input", { type: "text", spellcheck: "false", oninput: () => this.show() });
    this.wanted = { scan: text(), tool: text(), source: text() };
    this.table = table(_("Past blocks"), COLUMNS);
    this.found = el("p", { class: "quiet", role: "status" });
    this.items = [];
    this.node = el("div", {},
      el("form", { class: "filters", onsubmit: event => event.preventDefault() },
        field(_("Time"), this.period), field(_("Scan or kind"), this.wanted.scan), field(_("Tool"), this.wanted.tool), field(_("Source"), this.wanted.source)),
      el("p", { class: "actions" }, filled(_("Export the period as $0"), el("span", {}, FORMATS.map(format => button(format, () => this.page.doing(() => this.export(format)), { kind: "link" }))))),
      this.found, this.table.whole);
  }

  start() { return this.load(); }

  stop() {}

  update() {}

  async load() {
    this.found.textContent = _("Asking ...");
    try {
      this.items = await ask("export", "--since", this.period.value);
      this.items.sort((a, b) => (b.blocked_at ?? "") < (a.blocked_at ?? "") ? -1 : 1);
      this.show();
    } catch (error) {
      this.found.textContent = "";
      this.page.failed(error);
    }
  }

  show() {
    const has = (text, input) => String(text ?? "").toLowerCase().includes(input.value.trim().toLowerCase());
    const found = this.items.filter(item => has([item.scan, ...item.kinds ?? []].join(" "), this.wanted.scan)
      && has(item.tool, this.wanted.tool) && has(item.address, this.wanted.source));
    this.found.textContent = found.length > SHOWN ? format(_("$0 blocks, the newest $1 shown"), number(found.length), SHOWN) : counted(found.length, "$0 block", "$0 blocks");
    this.table.body.replaceChildren(...found.slice(0, SHOWN).map(item => row(COLUMNS, [
      time(item.blocked_at),
      button(item.address, () => this.page.explain(item.address), { kind: "link" }),
      el("span", {}, foreign(item.scan || item.reason || ""), item.zone ? el("span", { class: "quiet" }, filled(_("zone $0"), foreign(item.zone))) : null),
      foreign((item.kinds ?? []).join(" ")), foreign(item.tool ?? ""),
      label(item.forgeable ? _("could be forged") : _("proven"), item.forgeable ? "" : "blue"),
    ])));
  }

  async export(format) {
    const text = await run(["export", "--format", format, "--since", this.period.value]);
    this.page.save(new Blob([text], { type: "text/plain" }), `sentryfw-blocks.${format === "plain" ? "txt" : format}`);
    return "";
  }
}
