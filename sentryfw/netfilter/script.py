"""The script that makes the table: text out of ruleset.py, loaded by load.py."""

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from sentryfw.netfilter.schema import TABLE

_OBJECT: Final = re.compile(r"^\t(set|chain|counter) (\w+) \{$", re.MULTILINE)
_FILLED_SET: Final = re.compile(r"^\tset (\w+) \{\n(?:\t\t.*\n)*?\t\telements = ", re.MULTILINE)


class Ruleset(NamedTuple):
    """The rendered rulesets of a configuration."""

    defines: str
    body: str
    queue_rule: str
    """The file with the queue statement, which some kernels lack."""
    queue_number: int

    def names(self, kind: str) -> frozenset[str]:
        """Return the names of the sets, chains or counters ("set", "chain", "counter")."""
        found = _OBJECT.findall(self.body)
        return frozenset(name for its_kind, name in found if its_kind == kind)

    def script(self, *, queue_statement: bool, update: bool) -> str:
        """Return the nft script.

        `queue_statement`: the kernel has `queue`; otherwise the script lacks the queue rule.
        `update`: the table exists and has our schema: its rules and the sets of the configuration
        are replaced; blocks, partners and counters stay.
        """
        start = self._start_of_update() if update else _START
        queue_rule = self.queue_rule if queue_statement else ""
        return f"{self.defines}\n{start}\n{self.body}{queue_rule}"

    def _start_of_update(self) -> str:
        filled = _FILLED_SET.findall(self.body)
        flushes = (f"flush set inet {TABLE} {name}\n" for name in filled)
        return f"flush table inet {TABLE}\n" + "".join(flushes)


_START: Final = f"add table inet {TABLE}\ndelete table inet {TABLE}\n"


def restore_elements(lines: Iterable[str]) -> str:
    """Return the statements that restore elements (`SET { ELEMENT }`) in a new table."""
    return "".join(f"add element inet {TABLE} {line}\n" for line in lines)
