"""The script that makes the table: text out of ruleset.py, loaded by load.py."""

import re
from collections.abc import Iterable, Iterator
from ipaddress import ip_address, summarize_address_range
from socket import inet_ntoa
from typing import Final, NamedTuple

from sentryfw.engine.networks import Range
from sentryfw.netfilter.schema import NEVER_BLOCK_SETS, TABLE

_OBJECT: Final = re.compile(r"^\t(set|chain|counter) (\w+) \{$", re.MULTILINE)
_FILLED_SET: Final = re.compile(r"^\tset (\w+) \{\n(?:\t\t.*\n)*?\t\telements = ", re.MULTILINE)


class Ruleset(NamedTuple):
    """The rendered rulesets of a configuration."""

    defines: str
    """Those of the never-block sets are made by script()."""
    body: str
    queue_rule: str
    """The file with the queue statement, which some kernels lack."""
    queue_number: int
    never_block: tuple[list[Range], list[Range]]
    """The ranges in never_block4 and never_block6."""

    def names(self, kind: str) -> frozenset[str]:
        """Return the names of the sets, chains or counters ("set", "chain", "counter")."""
        found = _OBJECT.findall(self.body)
        return frozenset(name for its_kind, name in found if its_kind == kind)

    def script(self, *, queue_statement: bool, update: bool, keep_never_block: bool = False) -> str:
        """Return the nft script.

        `queue_statement`: the kernel has `queue`; otherwise the script lacks the queue rule.
        `update`: the table exists and has our schema: its rules and the sets of the configuration
        are replaced; blocks, partners and counters stay.
        `keep_never_block`: the never-block sets keep their elements, too.
        """
        defines, body = self.defines, self.body
        for name, ranges, width in zip(NEVER_BLOCK_SETS, self.never_block, (32, 128), strict=True):
            if keep_never_block:
                body = body.replace(f"\t\telements = ${name}\n", "")
            else:
                defines += define(name, elements(networks_text(ranges, width)))
        start = _start_of_update(body) if update else _START
        queue_rule = self.queue_rule if queue_statement else ""
        return f"{defines}\n{start}\n{body}{queue_rule}"


def define(name: str, value: str) -> str:
    """Return the line that defines a name for the rules."""
    return f"define {name} = {value}\n"


def elements(items: Iterable[str]) -> str:
    """Return the elements of a set as a value."""
    joined = ", ".join(items)
    return f"{{ {joined} }}" if joined else "{ }"


def networks_text(ranges: Iterable[Range], width: int) -> Iterator[str]:
    """Yield the networks that make up ranges of addresses of `width` bits."""
    size = width // 8
    for first, last in ranges:
        count = last - first + 1
        if width == 32 and not count & (count - 1) and not first % count:
            yield f"{inet_ntoa(first.to_bytes(4))}/{33 - count.bit_length()}"
        else:
            ends = ip_address(first.to_bytes(size)), ip_address(last.to_bytes(size))
            yield from map(str, summarize_address_range(*ends))


def _start_of_update(body: str) -> str:
    flushes = (f"flush set inet {TABLE} {name}\n" for name in _FILLED_SET.findall(body))
    return f"flush table inet {TABLE}\n" + "".join(flushes)


_START: Final = f"add table inet {TABLE}\ndelete table inet {TABLE}\n"


def restore_elements(lines: Iterable[str]) -> str:
    """Return the statements that restore elements (`SET { ELEMENT }`) in a new table."""
    return "".join(f"add element inet {TABLE} {line}\n" for line in lines)
