"""The keys of `watch`, and the words on its screen, explained. Lines fit 80 columns."""

from typing import Final

KEYS: Final = "q quit  ? help  arrows select  u unblock  a allow  e explain"
HELP: Final = (
    "Arrows, j, k, page up and page down select a source. u unblocks it, a allows it",
    "for ever, e or Enter explains it; u and a ask first. q or Ctrl-C quits.",
    "",
    "probes   packets to ports that nothing listens at; dropped over a limit: a flood",
    "dropped  packets of blocked sources, on any port",
    "tracked  sources that have sent probes and are remembered",
    "flood    on while forged sources are many: one packet does not block then",
    "queue    packets that wait for a verdict; what follows was lost, and why",
    "",
    "A source is blocked at 100 % of its trigger ([detect]). Where it is not, the",
    "reason stands behind it: observe (mode or level), never_block (a gateway, the",
    "allowlist ...), partner (it uses a service here), block.* (a limit); e has more.",
)
