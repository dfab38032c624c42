"""Host names: letters, digits and hyphens (RFC 952, RFC 1123 section 2.1), without a last dot."""

import re
from typing import Final

_LABEL: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?", re.ASCII)


def clean_name(name: str) -> str:
    """Return the name without its last dot; empty if it has other characters than a host name."""
    name = name.removesuffix(".")
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in name.split(".")):
        return ""
    return name


def full_name(word: str) -> str:
    """Return a name with a domain, in lower case; empty for other text. The last label of a name
    is never a number (RFC 3696, section 2): 192.0.2.300 is a mistyped address."""
    name = clean_name(word).lower()
    return name if "." in name and not name.rpartition(".")[2].isdigit() else ""
