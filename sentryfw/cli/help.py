"""The groups of commands, and examples, for `--help` and the manual page."""

from typing import Final

SECTIONS: Final[dict[str, tuple[str, ...]]] = {
    "Try and set up": (
        "drill", "doctor", "install", "confirm", "uninstall", "panic", "import-portsentry",
    ),
    "See": ("status", "list", "explain", "watch", "report", "metrics"),
    "Block and allow": ("block", "unblock", "allow", "import", "fleet"),
    "Configure": ("check", "config", "reload"),
    "Pass on, and look back": ("export", "replay", "support-dump"),
    "Run": ("run",),
}  # fmt: skip
"""The groups of `sentryfw --help`, in the order of a first day."""

EXAMPLES: Final[dict[str, tuple[str, ...]]] = {
    "install": (
        "sentryfw install --dry-run       # say what it would do, and print the ruleset",
        "sentryfw install --trial 5m      # undone in five minutes unless `sentryfw confirm`",
    ),
    "uninstall": ("sentryfw uninstall --purge       # state, events and configuration, too",),
    "status": (
        "sentryfw status                  # ten lines",
        "sentryfw status --all            # every counter",
        "sentryfw status --json | jq .today",
    ),
    "list": (
        "sentryfw list                    # the newest first",
        'sentryfw list --would-block      # what mode = "observe" would have blocked',
        "sentryfw list --kind fin --since 1d --json",
    ),
    "block": (
        'sentryfw block 203.0.113.7 --timeout 1d --comment "ticket 12"',
        "sentryfw block 203.0.113.0/24 2001:db8::/32 --timeout forever",
    ),
    "unblock": (
        "sentryfw unblock 203.0.113.7",
        "sentryfw unblock 203.0.113.0/24  # the network, and each block in it",
        "sentryfw unblock --all",
    ),
    "explain": (
        "sentryfw explain 203.0.113.7",
        "sentryfw explain 203.0.113.7 --pcap probes.pcapng",
    ),
    "allow": (
        'sentryfw allow add 203.0.113.7 --comment "monitoring"',
        "sentryfw allow list",
        "sentryfw allow del 203.0.113.7",
    ),
    "import": (
        "sentryfw import drop.txt --name spamhaus-drop --for 1d",
        "sentryfw import hub.json --format crowdsec --name hub --for 4h",
        "sentryfw import                  # the lists",
        "sentryfw import --remove spamhaus-drop",
    ),
    "watch": (
        "sentryfw watch                   # ? shows the keys",
        "sentryfw watch --once            # one frame, without a terminal, too",
    ),
    "report": (
        "sentryfw report --since 1d",
        "sentryfw report --since 30d --html report.html",
    ),
    "export": (
        "sentryfw export --format nft > blocks.nft",
        "sentryfw export --format xarf --since 1d",
    ),
    "check": (
        "sentryfw check                   # /etc/sentryfw",
        "sentryfw check && sentryfw reload",
    ),
    "config": (
        "sentryfw config show             # each key, and the file that it comes from",
        "sentryfw config set detect.mode observe",
    ),
    "drill": (
        "sentryfw drill                   # with your configuration; needs no install",
        "sentryfw -c new.toml drill       # with another one, before it is used",
    ),
    "replay": (
        "sentryfw replay scan.pcap",
        "tcpdump -w scan.pcap -i eth0     # makes such a file",
    ),
    "support-dump": ("sentryfw support-dump --redact",),
    "import-portsentry": ("sentryfw import-portsentry       # print it; --write to keep it",),
    "fleet": (
        "sentryfw fleet key               # on each firewall: its public key",
        "sentryfw fleet init --address 192.0.2.1 --member fw1=KEY --member fw2=KEY",
        "echo INVITATION | sudo sentryfw fleet join",
        "sentryfw fleet status",
        "ssh fw2 sentryfw fleet send | sentryfw fleet receive   # without a hub",
    ),
    "metrics": ("sentryfw metrics | grep blocked",),
    "doctor": ("sentryfw doctor",),
}
"""Command lines, with a remark."""


def epilog(command: str) -> str | None:
    r"""Return the examples of a command for its help; None without any. `\b` keeps the lines."""
    lines = EXAMPLES.get(command)
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines) if lines else None
