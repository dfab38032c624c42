// What the doctor finds, and the figures of the daemon that show overload, faults and repairs.

import { ask } from "./command.js";
import { _, format, number } from "./text.js";
import { button, el, foreign, label, row, said, table } from "./dom.js";

const COLUMNS = [_("State"), _("Check"), _("Found")];
const STATES = { ok: _("ok"), info: _("info"), warn: _("warn"), fail: _("fail") };
const COLOURS = { ok: "green", info: "blue", warn: "orange", fail: "red" };

export class Health {
  constructor(page) {
    this.page = page;
    this.doctor = table(_("Doctor"), COLUMNS);
    this.facts = el("dl", { class: "facts" });
    this.node = el("div", {},
      el("h2", { class: "pf-v6-c-title pf-m-lg" }, _("Daemon")), this.facts,
      el("h2", { class: "pf-v6-c-title pf-m-lg" }, _("Doctor"), " ", button(_("Ask again"), () => this.start())), this.doctor.whole);
  }

  async start() {
    this.update(this.page.view);
    try {
      const found = await ask("doctor");
      this.doctor.body.replaceChildren(...found.map(item => row(COLUMNS, [
        label(STATES[item.state] ?? item.state, COLOURS[item.state] ?? ""),
        said(item.check), said(item.detail)])));
    } catch (error) {
      this.page.failed(error);
    }
  }

  stop() {}

  update(view) {
    const daemon = view?.daemon ?? {};
    const lost = Object.entries(daemon.overload ?? {}).filter(([, count]) => count);
    const shown = [
      [_("Process"), daemon.pid ? format(daemon.compiled ? _("$0, compiled engine") : _("$0, plain engine"), daemon.pid) : _("not running")],
      [_("Way into the queue"), view?.divert ?? _("none")],
      [_("Queue"), view?.queue?.waiting !== undefined ? format(_("$0 wait of $1, $2 dropped"), number(view.queue.waiting), number(daemon.queue?.max_len ?? 0), number(view.queue.dropped + view.queue.user_dropped)) : _("not bound")],
      [_("Overload"), lost.length ? lost.map(([name, count]) => `${name}: ${number(count)}`).join(", ") : _("none")],
      [_("Faults"), Object.entries(daemon.faults ?? {}).map(([name, text]) => `${name}: ${text}`).join("; ") || _("none")],
      [_("Repairs of the table"), number(daemon.healed?.count ?? 0)],
      [_("Lost records"), number(daemon.lost_records ?? 0)],
      [_("Sources that are followed"), number(daemon.tracked_sources ?? 0)],
    ];
    const key = JSON.stringify(shown);
    if (key === this.shown) return;
    this.shown = key;
    this.facts.replaceChildren(...shown.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, foreign(value))]));
  }
}

