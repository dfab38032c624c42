"""Rules about language: docstrings, comments, messages, names of tests and of constants."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from typing import Final

from sources import ROOT, Offence, Source, house, sources

OPENINGS: Final = re.compile(
    r"(?:What|Which|Who|Whom|Whose|That|Where|When|The same|Likewise|Of|By|They|Many|Told|For who|"
    r"Everything was|Once|So|As|Besides?)\b|\.\.\.|\u2026"
)
"""A docstring does not open with these: its first line is understood alone."""

WORDS: Final = re.compile(
    r"\b(?:"
    r"(?<!there )(?:is|are) no(?! longer| more| less| later| earlier)|so many|anew"
    r"|(?:for|of) who|whom|told|tells?|telling|said|says"
    r"|somebody|nobody|anybody|everybody|whoever|whatever|meanwhile|likewise"
    r"|put(?:s|ting)? (?:it |them )?(?:right|back)|ma(?:ke|kes|de|king) whole"
    r"|heal(?:s|ed|ing)?|mend(?:s|ed|ing)?|br(?:ing|ings|inging|ought) back"
    r"|adopt(?:s|ed|ing)?|t(?:ake|akes|ook|aken|aking) up"
    r"|look(?:s|ed|ing)? at|g(?:ive|ives|ave|iven) away|to be had|at all|save that"
    r"|of (?:its|their) own accord|blacklist(?:s|ed)?|shelter(?:s|ed)?|shield(?:s|ed)?"
    r")\b",
    re.IGNORECASE,
)
"""Words and turns of phrase that the project's English does not use."""

UNITS: Final = re.compile(
    r"^_?(?:MAX|MIN)_|_(?:S|MS|US|NS|DAYS|BYTES|BITS|MIB|BATCH|LIMIT|COUNT|SIZE|LENGTH|LINES|COLUMNS"
    r"|ROWS|PX|PERCENT|SHARE|RATIO|THRESHOLD|PORT|BIT|MASK|MARK|MODE|VERSION|SCHEMA|PRIORITY|GROUP"
    r"|SEED|LEVEL|DUTY|ABOVE|BELOW|PER_[A-Z]+)$"
)
"""Names of numbers that carry their unit, their kind, or what they limit."""
FOREIGN: Final = re.compile(
    r"^_?(?:SOL?|PR|CAP|ETH|AF|RTN?|RTM|RTA|RTPROT|RTNLGRP|NHA|IPCTNL|CTA|SOCK_DIAG|INET_DIAG|TCP|LINKTYPE|OPT|SHB|IF|IFA|IFLA|ICMP|ICMPV6|SCTP|NF\w*"
    r"|NL\w*|NETLINK|LOG|UDATA|PACKET)_"
)
"""How names begin that headers of the kernel or of a format gave; they need no unit."""


def docstring_openings() -> Iterator[Offence]:
    """A docstring opens with a verb or a noun phrase, not with a relative clause."""
    for source in sources():
        for text in source.docstrings.values():
            first = str(text.value).strip().partition("\n")[0]
            if OPENINGS.match(first):
                yield Offence("docstring-opening", source.path, text.lineno, first)


def words() -> Iterator[Offence]:
    """Prose, messages and names of tests are plain technical English."""
    for source in sources():
        for line, text in _prose(source):
            for found in WORDS.finditer(text):
                place = line + text.count("\n", 0, found.start())
                yield Offence("words", source.path, place, _around(text, found))
    for path in sorted((ROOT / "rulesets").glob("*.nft")):
        for line, text in enumerate(path.read_text().splitlines(), 1):
            for found in WORDS.finditer(text.partition("#")[2]):
                yield Offence("words", f"rulesets/{path.name}", line, _around(text, found))


def _prose(source: Source) -> Iterator[tuple[int, str]]:
    """Yield line and text of the docstrings, comments, messages and test names of a file."""
    for node in source.nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            # Strings of the tests are also input and what others write.
            if id(node) in source.docstrings or (source.is_product and " " in node.value):
                yield node.lineno, node.value
        elif isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            yield node.lineno, node.name.replace("_", " ")
    for token in tokenize.generate_tokens(io.StringIO(source.text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def _around(text: str, found: re.Match[str]) -> str:
    start, end = max(found.start() - 30, 0), found.end() + 30
    return f"'{found[0]}' in: {' '.join(text[start:end].split())}"


def constant_units() -> Iterator[Offence]:
    """A numeric constant has its unit or its kind in its name."""
    for source in sources("sentryfw", "bench", "packaging"):
        for name, value, line in _constants(source):
            if _is_number(value) and not UNITS.search(name) and not _is_enumerated(name, source):
                text = f"{name} = {ast.unparse(value)}"
                yield Offence("constant-units", source.path, line, text)


def _constants(source: Source) -> Iterator[tuple[str, ast.expr, int]]:
    for node in source.tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        if isinstance(node, ast.AnnAssign):
            targets = [node.target]
        value = getattr(node, "value", None)
        for target in targets:
            if isinstance(target, ast.Name) and target.id.isupper() and value is not None:
                yield target.id, value, node.lineno


def _is_number(value: ast.expr) -> bool:
    """Whether a value is computed from decimal numbers; a shift makes a flag."""
    if isinstance(value, ast.BinOp):
        if isinstance(value.op, (ast.LShift, ast.BitOr)):
            return False
        return _is_number(value.left) and _is_number(value.right)
    if isinstance(value, ast.UnaryOp):
        return _is_number(value.operand)
    return (
        isinstance(value, ast.Constant)
        and isinstance(value.value, (int, float))
        and not isinstance(value.value, bool)
    )


def _is_enumerated(name: str, source: Source) -> bool:
    """Whether a number only stands for something: named in a header, listed, hexadecimal, octal."""
    return bool(
        FOREIGN.match(name)
        or name in house().get("enumerated", ())
        or re.search(rf"^{name}\b.*= 0[xo]", source.text, re.MULTILINE)
    )


def config_name() -> Iterator[Offence]:
    """The configuration object is called `config`, everywhere."""
    for source in sources("sentryfw"):
        for node in source.nodes:
            name = node.arg if isinstance(node, ast.arg) else ""
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                name = node.id
            if isinstance(node, ast.alias):
                name = node.asname or ""
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                name = node.attr
            if name.lstrip("_") in {"settings", "configuration"}:
                yield Offence("config-name", source.path, getattr(node, "lineno", 1), name)
