// Blocks of a period, ended ones too, out of the ledger.

import { ask, run } from "./command.js";
import { counted, time } from "./text.js";
import { button, el, field, foreign, label, row, table } from "./dom.js";

const SHOWN = 500;
const COLUMNS = ["When", "Source", "Scan", "Kinds", "Tool", "Evidence"];
const PERIODS = [["1h", "the last hour"], ["24h", "the last day"], ["7d", "the last week"], ["31d", "the last month"]];
const FORMATS = ["csv", "json", "plain", "nft", "stix"];

export class History {
  constructor(page) {
    this.page = page;
    this.period = el("select", { onchange: () => this.load() }, PERIODS.map(([value, text]) => el("option", { value }, text)));
    this.period.value = "24h";
    const text = () => el("input", { type: "text", spellcheck: "false", oninput: () => this.show() });
    this.wanted = { scan: text(), tool: text(), source: text() };
    this.table = table("Past blocks", COLUMNS);
    this.found = el("p", { class: "quiet", role: "status" });
    this.items = [];
    this.node = el("div", {},
      el("form", { class: "filters", onsubmit: event => event.preventDefault() },
        field("Time", this.period), field("Scan or kind", this.wanted.scan), field("Tool", this.wanted.tool), field("Source", this.wanted.source)),
      el("p", { class: "actions" }, "Export the period as ", FORMATS.map(format => button(format, () => this.page.doing(() => this.export(format)), { kind: "link" }))),
      this.found, this.table.whole);
  }

  start() { return this.load(); }

  stop() {}

  update() {}

  async load() {
    this.found.textContent = "Asking ...";
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
    this.found.textContent = found.length > SHOWN ? `${counted(found.length, "block")}, the newest ${SHOWN} shown` : counted(found.length, "block");
    this.table.body.replaceChildren(...found.slice(0, SHOWN).map(item => row(COLUMNS, [
      time(item.blocked_at),
      button(item.address, () => this.page.explain(item.address), { kind: "link" }),
      foreign(item.scan || item.reason || ""), foreign((item.kinds ?? []).join(" ")), foreign(item.tool ?? ""),
      label(item.forgeable ? "could be forged" : "proven", item.forgeable ? "" : "blue"),
    ])));
  }

  async export(format) {
    const text = await run(["export", "--format", format, "--since", this.period.value]);
    this.page.save(new Blob([text], { type: "text/plain" }), `sentryfw-blocks.${format === "plain" ? "txt" : format}`);
    return "";
  }
}
