// What the doctor finds, and the figures of the daemon that show overload, faults and repairs.

import { ask } from "./command.js";
import { number } from "./text.js";
import { button, el, foreign, label, row, table } from "./dom.js";

const COLUMNS = ["State", "Check", "Found"];
const COLOURS = { ok: "green", info: "blue", warn: "orange", fail: "red" };

export class Health {
  constructor(page) {
    this.page = page;
    this.doctor = table("Doctor", COLUMNS);
    this.facts = el("dl", { class: "facts" });
    this.node = el("div", {},
      el("h2", { class: "pf-v6-c-title pf-m-lg" }, "Daemon"), this.facts,
      el("h2", { class: "pf-v6-c-title pf-m-lg" }, "Doctor ", button("Ask again", () => this.start())), this.doctor.whole);
  }

  async start() {
    this.update(this.page.view);
    try {
      const found = await ask("doctor");
      this.doctor.body.replaceChildren(...found.map(item => row(COLUMNS, [
        label(item.state, COLOURS[item.state] ?? ""),
        foreign(item.check), foreign(item.detail)])));
    } catch (error) {
      this.page.failed(error);
    }
  }

  stop() {}

  update(view) {
    const daemon = view?.daemon ?? {};
    const lost = Object.entries(daemon.overload ?? {}).filter(([, count]) => count);
    const shown = [
      ["Process", daemon.pid ? `${daemon.pid}, ${daemon.compiled ? "compiled" : "plain"} engine` : "not running"],
      ["Way into the queue", view?.divert ?? "none"],
      ["Queue", view?.queue?.waiting !== undefined ? `${number(view.queue.waiting)} wait of ${number(daemon.queue?.max_len ?? 0)}, ${number(view.queue.dropped + view.queue.user_dropped)} dropped` : "not bound"],
      ["Overload", lost.length ? lost.map(([name, count]) => `${name}: ${number(count)}`).join(", ") : "none"],
      ["Faults", Object.entries(daemon.faults ?? {}).map(([name, text]) => `${name}: ${text}`).join("; ") || "none"],
      ["Repairs of the table", number(daemon.healed?.count ?? 0)],
      ["Lost records", number(daemon.lost_records ?? 0)],
      ["Sources that are followed", number(daemon.tracked_sources ?? 0)],
    ];
    const key = JSON.stringify(shown);
    if (key === this.shown) return;
    this.shown = key;
    this.facts.replaceChildren(...shown.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, foreign(value))]));
  }
}

