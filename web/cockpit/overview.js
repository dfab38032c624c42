// The first screen: four figures, a day, and the newest blocks. The state is above all tabs.

import { ask, change } from "./command.js";
import { _, counted, format, left, number, time } from "./text.js";
import { button, el, filled, foreign, label, origin, row, setText, table, told, twice } from "./dom.js";

const SHOWN = 50;
const DAY_REFRESH_MS = 300000;
const COLUMNS = [_("Source"), _("What"), _("Tool"), _("Since"), _("Ends in"), _("Dropped"), _("Decision"), _("Evidence"), ""];
const FIGURES = [
  ["blocked", _("blocked now")], ["today", _("scans today")], ["dropped", _("packets dropped")], ["near", _("near the trigger")],
];
// The counters of packets that a block or a verdict dropped.
const DROPS = ["blocked_early", "blocked_late", "blocked_prefix", "confined"];

const evidence = block => !block.kinds.length ? label(_("by hand"))
  : label(block.forgeable ? _("could be forged") : _("proven"), block.forgeable ? "" : "blue");

export class Overview {
  constructor(page) {
    this.page = page;
    this.rows = new Map();
    this.figures = new Map(FIGURES.map(([name]) => [name, el("dd", { "data-figure": name }, "–")]));
    this.strip = el("div", { class: "strip", role: "img", "aria-label": _("blocks of the last 24 hours") });
    this.searched = el("input", {
      type: "search", id: "searched", placeholder: _("An address or network: on which list is it, and why?"),
      "aria-label": _("Address or network"), autocomplete: "off", spellcheck: "false",
    });
    this.table = table(_("Newest blocks"), COLUMNS);
    this.newer = el("p", { class: "newer", "aria-live": "off" });
    this.empty = el("p", { class: "empty", hidden: true }, _("Nothing is blocked."));
    this.blocks = [];
    this.node = this.layout();
    this.table.whole.addEventListener("pointerleave", () => this.show());
    this.table.whole.addEventListener("focusout", () => setTimeout(() => this.show()));
  }

  layout() {
    const figures = FIGURES.map(([name, caption]) => el("div", { class: "pf-v6-c-card figure" },
      this.figures.get(name), el("dt", {}, caption)));
    const form = el("form", {
      role: "search", class: "search", onsubmit: event => {
        event.preventDefault();
        if (this.searched.value.trim()) this.page.explain(this.searched.value.trim());
      },
    }, el("span", { class: "pf-v6-c-form-control" }, this.searched),
    el("button", { type: "submit", class: "pf-v6-c-button pf-m-primary" }, _("Explain")));
    return el("div", {}, el("dl", { class: "figures" }, figures), this.strip, form,
      el("h2", { class: "pf-v6-c-title pf-m-lg" }, _("Newest blocks")), this.newer, this.table.whole, this.empty);
  }

  start() {
    this.timer = setInterval(() => this.day(), DAY_REFRESH_MS);
    if (this.page.view) this.day();
  }

  stop() {
    clearInterval(this.timer);
  }

  today(today) {
    if (!today) return;
    const others = Object.values(today.not_blocked).reduce((sum, count) => sum + count, 0);
    this.figure("today", today.blocked + others);
  }

  async day() {
    try {
      this.drawDay((await ask("report", "--since", "24h")).hours);
      this.today((await ask("status")).today);
    } catch (error) {
      this.strip.replaceChildren(el("span", { class: "quiet" }, filled(_("no figures of the day: $0"), told(error))));
    }
  }

  drawDay(hours) {
    const counts = new Map(hours.map(hour => [Date.parse(hour.at), hour.blocks]));
    const last = Math.floor(Date.now() / 3600000) * 3600000;
    const bars = [...Array(24).keys()].map(index => {
      const at = last - (23 - index) * 3600000;
      return { at, blocks: counts.get(at) ?? 0 };
    });
    const peak = Math.max(1, ...bars.map(bar => bar.blocks));
    const sum = bars.reduce((total, bar) => total + bar.blocks, 0);
    this.strip.setAttribute("aria-label", format(_("$0 in the last 24 hours, at most $1 an hour"), counted(sum, "$0 block", "$0 blocks"), number(peak)));
    this.strip.replaceChildren(...bars.map(({ at, blocks }) => {
      const bar = el("span", { class: "bar", title: `${new Date(at).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" })}: ${counted(blocks, "$0 block", "$0 blocks")}` });
      bar.style.setProperty("--height", `${Math.ceil(blocks / peak * 100)}%`);
      if (blocks) bar.classList.add("some");
      return bar;
    }));
  }

  figure(name, value) {
    setText(this.figures.get(name), number(value));
  }

  // A reading of the stream.
  update(view) {
    if (view.fault) {
      for (const [name] of FIGURES) if (name !== "today") setText(this.figures.get(name), "–");
      this.blocks = [];
      this.show();
      return;
    }
    this.blocks = view.blocks;
    if (view.blocked !== null) this.figure("blocked", view.blocked);
    this.figure("dropped", DROPS.reduce((sum, name) => sum + (view.counters[name] ?? 0), 0));
    this.figure("near", view.sources.filter(source => source.progress >= 0.5).length);
    this.show();
    if (!this.isBegun) {
      this.isBegun = true;  // after the first paint: each command costs a process
      this.day();
    }
  }

  // Whether the pointer or the focus is in the table: rows neither move nor vanish then.
  get isHeld() {
    return this.table.whole.matches(":hover, :focus-within") && this.rows.size > 0;
  }

  show() {
    const wanted = this.blocks.slice(0, SHOWN);
    const known = new Map(this.blocks.map(block => [block.address, block]));
    if (this.isHeld) {
      for (const [address, shown] of this.rows) this.fill(shown, known.get(address) ?? null);
      const count = wanted.filter(block => !this.rows.has(block.address)).length;
      setText(this.newer, count ? counted(count, "$0 newer block, shown when the pointer leaves the table", "$0 newer blocks, shown when the pointer leaves the table") : "");
      return;
    }
    setText(this.newer, "");
    const rows = new Map();
    for (const block of wanted) {
      const before = this.rows.get(block.address);
      const shown = before && before.began === block.blocked_at ? before : this.made(block);
      this.fill(shown, block);
      rows.set(block.address, shown);
    }
    const nodes = [...rows.values()].map(shown => shown.node);
    const body = this.table.body;
    if (nodes.length !== body.children.length || nodes.some((node, index) => body.children[index] !== node)) {
      body.replaceChildren(...nodes);
    }
    this.rows = rows;
    this.empty.hidden = rows.size > 0;
    this.table.whole.hidden = rows.size === 0;
  }

  made(block) {
    const ends = el("span"), dropped = el("span");
    const isConfined = block.decision === "confine";
    const refusal = this.page.refusal("allow", block.address);
    const host = block.host ? el("span", { class: "quiet" }, foreign(block.host)) : null;
    const from = origin(block) ? el("span", { class: "quiet origin" }, foreign(origin(block))) : null;
    const node = row(COLUMNS, [
      el("span", { class: "source" }, el("code", {}, foreign(block.address)), host, from),
      el("span", {}, foreign(block.scan || block.reason), block.kinds.length ? el("span", { class: "quiet" }, foreign(block.kinds.join(" "))) : null,
        block.zone ? el("span", { class: "quiet" }, filled(_("zone $0"), foreign(block.zone))) : null,
        block.member ? el("span", { class: "quiet" }, filled(_("by $0"), foreign(`${block.member}, ${block.evidence ?? ""}`))) : null),
      foreign(block.tool && block.tool !== "unknown" ? block.tool : "–"),
      block.blocked_at ? el("time", { datetime: block.blocked_at }, time(block.blocked_at)) : _("unknown"),
      ends, dropped,
      label(isConfined ? _("confined") : _("blocked"), isConfined ? "orange" : "red"),
      evidence(block),
      el("span", { class: "actions" },
        button(_("Why"), () => this.page.explain(block.address)),
        this.page.mayChange ? twice(_("Unblock"), format(_("Unblock $0?"), block.address), () => this.act("unblock", block.address)) : null,
        this.page.mayChange && !refusal
          ? twice(_("Allow"), format(_("Never block $0?"), block.address), () => this.act("allow", block.address)) : null),
    ]);
    return { node, ends, dropped, began: block.blocked_at };
  }

  fill(shown, block) {
    shown.node.classList.toggle("over", block === null);
    setText(shown.ends, block === null ? _("ended") : left(block));
    if (block !== null) setText(shown.dropped, number(block.dropped_packets));
  }

  async act(what, address) {
    const words = what === "allow" ? ["allow", "add", address, "--comment", "allowed on the page"] : ["unblock", address];
    const done = what === "allow" ? _("$0 is never blocked") : _("$0 is unblocked");
    await this.page.doing(async () => { await change(...words); return format(done, address); });
    this.blocks = this.blocks.filter(block => block.address !== address);
  }

  rebuild() {
    this.rows = new Map();
    this.table.body.replaceChildren();
    this.show();
  }
}

