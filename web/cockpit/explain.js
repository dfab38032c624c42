// Why an address is or was blocked, or is not: every probe, every decision, and its packets.

import { ask, change, Failed } from "./command.js";
import { _, counted, duration, format, number, time } from "./text.js";
import { alertBox, button, el, foreign, label, origin, row, said, table, told, twice } from "./dom.js";

const COLUMNS = [_("When"), _("What"), _("Kind"), _("Target"), _("Evidence")];
// How a block ended.
const STATES = { unblocked: _("unblocked"), expired: _("expired") };

export class Explain {
  constructor(page) {
    this.page = page;
    this.node = el("div");
  }

  async start(address) {
    this.address = address;
    this.node.replaceChildren(el("p", { class: "quiet" }, _("Asking ...")));
    try {
      const found = await ask("explain", address);
      this.show(found);
    } catch (error) {
      this.node.replaceChildren(this.back(), alertBox(told(error), error instanceof Failed && error.code === 2 ? "warning" : "danger"));
    }
  }

  stop() {}

  update() {}

  back() {
    return button(_("Back"), () => this.page.open("overview"), { kind: "link" });
  }

  show(found) {
    const facts = el("dl", { class: "facts" }, this.facts(found).flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
    this.node.replaceChildren(this.back(),
      el("h2", { class: "pf-v6-c-title pf-m-xl" }, el("code", {}, foreign(found.address)), " ", verdict(found)),
      el("p", { class: "because" }, said(found.because)), facts, this.actions(found), this.story(found));
  }

  facts(found) {
    const made = [];
    if (found.source !== found.address) made.push([_("Source"), foreign(found.source)]);
    if (origin(found)) made.push([_("Origin"), foreign(origin(found))]);
    if (found.blocked && found.expires_in_s !== null) made.push([_("Ends in"), found.timeout_s ? duration(found.expires_in_s) : _("never")]);
    if (found.dropped_packets !== null) made.push([_("Dropped"), counted(found.dropped_packets, "$0 packet", "$0 packets")]);
    if (found.within.length) made.push([_("Within the blocked"), foreign(found.within.join(", "))]);
    for (const item of found.never_block) made.push([_("Never blocked"), foreign(format(item.in_kernel ? "$0 ($1)" : _("$0 ($1), not in the kernel yet"), item.why, item.network))]);
    if (found.partner) made.push([_("Partner"), found.confined ? _("yes, confined to what it uses") : _("yes: it uses a service here")]);
    if (found.suspect) made.push([_("Suspect"), _("its probes are held while they are judged")]);
    if (found.offences) made.push([_("Offences"), number(found.offences)]);
    return made;
  }

  actions(found) {
    const kept = found.blocks.some(block => block.capture);
    const save = kept ? button(_("Save the packets"), () => this.page.doing(() => this.save())) : null;
    if (!this.page.mayChange) return el("p", { class: "actions" }, save);
    const offered = found.blocked || found.confined
      ? [this.offer(_("Unblock"), _("Unblock $0?"), _("$0 is unblocked"), "unblock", ["unblock", found.address])]
      : [this.offer(_("Block"), _("Block $0?"), _("$0 is blocked"), "block", ["block", found.address, "--comment", "blocked on the page"])];
    const isAllowed = found.never_block.some(item => item.why === "allowlist");
    if (!isAllowed) offered.push(this.offer(_("Allow"), _("Never block $0?"), _("$0 is never blocked"), "allow", ["allow", "add", found.address, "--comment", "allowed on the page"]));
    return el("p", { class: "actions" }, offered, save);
  }

  offer(text, question, done, action, words) {
    const refusal = this.page.refusal(action, this.address);
    if (refusal) return el("span", { class: "refused" }, button(text, null, { disabled: true }), el("span", { class: "quiet" }, refusal));
    return twice(text, format(question, this.address), async () => {
      await this.page.doing(async () => { await change(...words); return format(done, this.address); });
      await this.start(this.address);
    });
  }

  story(found) {
    const rows = [];
    const probe = (seen, why) => rows.push([seen.at, seen.listed ? format(_("$0, to a listed port: counts half"), why) : why, seen.kind, seen.target, seen.forgeable]);
    for (const seen of found.probes) probe(seen, _("probe below the trigger"));
    for (const block of found.blocks) {
      for (const seen of block.evidence) probe(seen, _("probe that led to the block"));
      rows.push([block.at, block.timeout_s ? format(_("blocked for $0: $1"), duration(block.timeout_s), block.reason) : format(_("blocked forever: $0"), block.reason), block.kinds.join(" "), block.scan, block.forgeable]);
      if (block.ended_at) rows.push([block.ended_at, STATES[block.state] ?? block.state, "", "", null]);
    }
    for (const refused of found.refusals) {
      for (const seen of refused.evidence) probe(seen, _("probe that led to no block"));
      rows.push([refused.at, format(refused.timeout_s ? _("confined: $0") : _("not blocked: $0"), refused.rule), refused.kinds.join(" "), refused.scan, refused.forgeable]);
    }
    for (const reaction of found.reactions) rows.push([reaction.at, format(reaction.ok ? _("$0 done: $1") : _("$0 failed: $1"), reaction.reaction, reaction.detail), "", "", null]);
    rows.sort((a, b) => a[0] < b[0] ? -1 : a[0] > b[0] ? 1 : 0);
    if (!rows.length) return el("p", { class: "empty" }, _("Nothing else is known of it."));
    const made = table(_("What happened"), COLUMNS);
    made.body.append(...rows.map(([at, what, kind, target, forgeable]) => row(COLUMNS, [
      time(at), foreign(what), foreign(kind), el("code", {}, foreign(target)),
      forgeable === null ? "" : label(forgeable ? _("could be forged") : _("proven"), forgeable ? "" : "blue"),
    ])));
    return el("div", {}, el("h3", { class: "pf-v6-c-title pf-m-md" }, counted(rows.length, "What happened: $0 event", "What happened: $0 events")), made.whole);
  }

  // The packets go through a private file: a command's standard output is text here.
  async save() {
    const path = (await cockpit.spawn(["mktemp", "-d"], { superuser: "try" })).trim();
    const file = `${path}/packets.pcapng`;
    try {
      await change("explain", this.address, "--pcap", file);
      const handle = cockpit.file(file, { binary: true, superuser: "try", max_read_size: 64 * 1024 * 1024 });
      const data = await handle.read();
      handle.close();
      this.page.save(new Blob([data], { type: "application/octet-stream" }), `${this.address.replace(/[^0-9a-fA-F.]/g, "_")}.pcapng`);
    } finally {
      await cockpit.spawn(["rm", "-rf", "--", path], { superuser: "try" });
    }
    return "";
  }
}

function verdict(found) {
  if (found.blocked) return label(_("blocked"), "red");
  if (found.confined) return label(_("confined"), "orange");
  if (found.never_block.length) return label(_("never blocked"), "green");
  return label(_("not blocked"));
}
