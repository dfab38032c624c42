// Why an address is or was blocked, or is not: every probe, every decision, and its packets.

import { ask, change, Failed } from "./command.js";
import { counted, duration, number, time } from "./text.js";
import { alertBox, button, el, foreign, label, origin, row, table, twice } from "./dom.js";

const COLUMNS = ["When", "What", "Kind", "Target", "Evidence"];

export class Explain {
  constructor(page) {
    this.page = page;
    this.node = el("div");
  }

  async start(address) {
    this.address = address;
    this.node.replaceChildren(el("p", { class: "quiet" }, "Asking ..."));
    try {
      const found = await ask("explain", address);
      this.show(found);
    } catch (error) {
      this.node.replaceChildren(this.back(), alertBox(error.message, error instanceof Failed && error.code === 2 ? "warning" : "danger"));
    }
  }

  stop() {}

  update() {}

  back() {
    return button("Back", () => this.page.open("overview"), { kind: "link" });
  }

  show(found) {
    const facts = el("dl", { class: "facts" }, this.facts(found).flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
    this.node.replaceChildren(this.back(),
      el("h2", { class: "pf-v6-c-title pf-m-xl" }, el("code", {}, foreign(found.address)), " ", verdict(found)),
      el("p", { class: "because" }, foreign(found.because)), facts, this.actions(found), this.story(found));
  }

  facts(found) {
    const made = [];
    if (found.source !== found.address) made.push(["Source", foreign(found.source)]);
    if (origin(found)) made.push(["Origin", foreign(origin(found))]);
    if (found.blocked && found.expires_in_s !== null) made.push(["Ends in", found.timeout_s ? duration(found.expires_in_s) : "never"]);
    if (found.dropped_packets !== null) made.push(["Dropped", `${number(found.dropped_packets)} packets`]);
    if (found.within.length) made.push(["Within the blocked", foreign(found.within.join(", "))]);
    for (const item of found.never_block) made.push(["Never blocked", foreign(`${item.why} (${item.network})${item.in_kernel ? "" : ", not in the kernel yet"}`)]);
    if (found.partner) made.push(["Partner", found.confined ? "yes, confined to what it uses" : "yes: it uses a service here"]);
    if (found.suspect) made.push(["Suspect", "its probes are held while they are judged"]);
    if (found.offences) made.push(["Offences", number(found.offences)]);
    return made;
  }

  actions(found) {
    const kept = found.blocks.some(block => block.capture);
    const save = kept ? button("Save the packets", () => this.page.doing(() => this.save())) : null;
    if (!this.page.mayChange) return el("p", { class: "actions" }, save);
    const offered = found.blocked || found.confined
      ? [this.offer("Unblock", "unblock", ["unblock", found.address])]
      : [this.offer("Block", "block", ["block", found.address, "--comment", "blocked on the page"])];
    const isAllowed = found.never_block.some(item => item.why === "allowlist");
    if (!isAllowed) offered.push(this.offer("Allow", "allow", ["allow", "add", found.address, "--comment", "allowed on the page"]));
    return el("p", { class: "actions" }, offered, save);
  }

  offer(text, action, words) {
    const refusal = this.page.refusal(action, this.address);
    if (refusal) return el("span", { class: "refused" }, button(text, null, { disabled: true }), el("span", { class: "quiet" }, refusal));
    return twice(text, `${text} ${this.address}?`, async () => {
      await this.page.doing(() => change(...words));
      await this.start(this.address);
    });
  }

  story(found) {
    const rows = [];
    const probe = (seen, why) => rows.push([seen.at, why + (seen.listed ? ", to a listed port: counts half" : ""), seen.kind, seen.target, seen.forgeable]);
    for (const seen of found.probes) probe(seen, "probe below the trigger");
    for (const block of found.blocks) {
      for (const seen of block.evidence) probe(seen, "probe that led to the block");
      rows.push([block.at, `blocked ${block.timeout_s ? `for ${duration(block.timeout_s)}` : "forever"}: ${block.reason}`, block.kinds.join(" "), block.scan, block.forgeable]);
      if (block.ended_at) rows.push([block.ended_at, block.state, "", "", null]);
    }
    for (const refused of found.refusals) {
      for (const seen of refused.evidence) probe(seen, "probe that led to no block");
      rows.push([refused.at, `${refused.timeout_s ? "confined" : "not blocked"}: ${refused.rule}`, refused.kinds.join(" "), refused.scan, refused.forgeable]);
    }
    for (const reaction of found.reactions) rows.push([reaction.at, `${reaction.reaction} ${reaction.ok ? "done" : "failed"}: ${reaction.detail}`, "", "", null]);
    rows.sort((a, b) => a[0] < b[0] ? -1 : a[0] > b[0] ? 1 : 0);
    if (!rows.length) return el("p", { class: "empty" }, "Nothing else is known of it.");
    const made = table("What happened", COLUMNS);
    made.body.append(...rows.map(([at, what, kind, target, forgeable]) => row(COLUMNS, [
      time(at), foreign(what), foreign(kind), el("code", {}, foreign(target)),
      forgeable === null ? "" : label(forgeable ? "could be forged" : "proven", forgeable ? "" : "blue"),
    ])));
    return el("div", {}, el("h3", { class: "pf-v6-c-title pf-m-md" }, `What happened: ${counted(rows.length, "event")}`), made.whole);
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
  if (found.blocked) return label("blocked", "red");
  if (found.confined) return label("confined", "orange");
  if (found.never_block.length) return label("never blocked", "green");
  return label("not blocked");
}
