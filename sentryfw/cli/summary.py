"""The state of SentryFW in ten lines that a person reads. Pure."""

from typing import Any, Final

from sentryfw.cli.phrases import is_known
from sentryfw.distribution import service_command
from sentryfw.query.summary import OFF
from sentryfw.text import counted, duration, local_time, seconds_since

ALL: Final = "sentryfw status --all"
START: Final = f"start it: `{service_command('start')}`, or `sentryfwd` where no service is set up"

State = dict[str, Any]
Line = tuple[str, str]


def lines(state: State) -> list[Line]:
    """Return the name and the text of each line; `state`: as `status --json` prints it."""
    found = [("state", _state(state))]
    if state["installed"]:
        found += [("blocked", _blocked(state)), *_today(state["today"]), ("dropped", _drops(state))]
    if state["daemon"] == "running":
        found += [("queue", _queue(state)), ("memory", _memory(state))]
    attention = needs(state)
    found += [("attention", text) for text in attention] or [("attention", "nothing")]
    return found


def needs(state: State) -> list[str]:
    """Return a sentence for each thing that an operator should see to."""
    found = list(state["notices"])
    if state["installed"] and state["daemon"] != "running":
        found.append("nothing is judged: blocks stay, but no new scan is stopped; " + START)
    elif not state["installed"] and not found:
        found.append("run `sentryfw install`; to try it first: `sentryfw install --trial 5m`")
    found += [f"{name}: {text}" for name, text in state["faults"].items()]
    if "installed as" in state["divert_reason"]:
        found.append(state["divert_reason"])
    found += [f"{kind}: {count:,} since the start" for kind, count in _losses(state)]
    if state["flood"]:
        found.append("flood of forged probes: a single forgeable packet blocks no source now")
    return found + _troubles(state)


def _troubles(state: State) -> list[str]:
    """Return a sentence for each part that does not do its work."""
    found = []
    if state["confine_paused"]:
        found.append(f"partners that scan are only reported: {state['confine_paused']}")
    if state["reload"].get("error"):
        found.append(f"the last reload was refused: {state['reload']['error']}")
    if state["decoys"] and not state["decoys"].get("running"):
        found.append("the decoys do not run")
    if state["metrics"] and state["metrics"].get("fault"):
        found.append(f"metrics: {state['metrics']['fault']}")
    for name, counts in state["reactions"].items():
        if counts.get("failed"):
            found.append(f"reaction {name}: {counts['failed']:,} failed (`sentryfw explain ADDR`)")
    return found


def _state(state: State) -> str:
    if not state["installed"]:
        return "NOT installed: nothing is guarded"
    if state["daemon"] != "running":
        return "NOT guarding: the daemon does not run"
    if state["summary"]["state"] == OFF:
        return f"NOT guarding: {state['summary']['because'][0]}"
    since = state["started_at"]
    begun = f" since {_moment(since)}" if since else ""
    if state["mode"] == "observe":
        return f'observing{begun}; nothing is blocked (mode = "observe")'
    return f"guarding{begun}"


def _blocked(state: State) -> str:
    four, six = state["blocked4"], state["blocked6"]
    partners = state["confined4"] + state["confined6"]
    confined = f"; {counted(partners, 'partner')} confined" if partners else ""
    if not four + six:
        return f"no source at present{confined}"
    now = f"{counted(four + six, 'source')} now: {four:,} IPv4, {six:,} IPv6"
    return f"{now} (`sentryfw list`){confined}"


def _today(today: State | None) -> list[Line]:
    if today is None:
        return []
    parts = [f"{counted(today['blocked'], 'scan')} blocked"]
    if today["blocked"] > 1:
        parts[0] += f", of {counted(today['sources'], 'source')}"
    others: State = dict(today["not_blocked"])
    observed = others.pop("observe", 0)
    if observed:
        parts.append(f"{counted(observed, 'source')} would have been (`sentryfw list`)")
    if others:
        reasons = ", ".join(f"{why} {count:,}" for why, count in others.items())
        parts.append(f"{counted(sum(others.values()), 'source')} not blocked: {reasons}")
    return [("today", "; ".join(parts)), *_last(today["last"])]


def _last(last: State | None) -> list[Line]:
    if last is None:
        return []
    tool = f" by {last['tool']}" if is_known(last["tool"]) else ""
    what = f"{last['scan']} ({', '.join(last['kinds'])}){tool}"
    outcome = (
        last["outcome"]
        if last["outcome"] in {"blocked", "confined"}
        else (f"not blocked: {last['outcome']}")
    )
    return [("last scan", f"{last['address']}, {_moment(last['at'])}: {what}, {outcome}")]


def _drops(state: State) -> str:
    counters = state["counters"]
    count = sum(
        counters[name]["packets"] for name in ("blocked_early", "blocked_late") if name in counters
    )
    judged = counters.get("judged", {}).get("packets", 0)
    return (
        f"{counted(count, 'packet')} of blocked sources; {counted(judged, 'probe')} judged"
        " (since the table was made)"
    )


def _queue(state: State) -> str:
    queue = state["queue"]
    room = queue.get("max_len", 0)
    waiting = queue["kernel"].get("waiting")
    now = f"{waiting:,} of {room:,} packets wait" if waiting is not None else f"room for {room:,}"
    lost = sum(count for _, count in _losses(state))
    return f"{now}; {'see below' if lost else 'none lost'}"


def _losses(state: State) -> list[tuple[str, int]]:
    every = {
        **state["overload"],
        "records lost": state["lost_records"],
        "packets that passed unjudged": state["queue"].get("failures", 0),
    }
    return [(name, count) for name, count in every.items() if count]


def _memory(state: State) -> str:
    used = state["memory_bytes"]
    size = f"{used / 2**20:.0f} MiB" if used else "not readable"
    return f"{size}; {counted(state['tracked_sources'], 'source')} remembered"


def _moment(at: str) -> str:
    """Return a moment, and how long ago that was."""
    return f"{local_time(at)} ({duration(seconds_since(at))} ago)"
