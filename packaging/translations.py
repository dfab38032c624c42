"""Translations of LuCI's view: its texts as a template, and a catalogue as LuCI reads it.

The texts are the arguments of `_()` in the view, and the titles of the menu, which LuCI translates.
A .po file of gettext holds them in another language; LuCI's server reads .lmo files, which hold
translations by a hash of the text (luci-base, src/lib/lmo.c).
"""

import ast
import json
import re
import struct
import sys
from pathlib import Path
from typing import Final

import po_file
from po_file import Text

ROOT: Final = Path(__file__).resolve().parent.parent
LUCI: Final = ROOT / "web" / "luci"
VIEW: Final = LUCI / "htdocs/luci-static/resources/view/sentryfw/overview.js"
MENU: Final = LUCI / "root/usr/share/luci/menu.d/luci-app-sentryfw.json"
PO: Final = LUCI / "po"
TEMPLATE: Final = PO / "templates" / "sentryfw.pot"
CATALOGUES: Final = "usr/lib/lua/luci/i18n"
"""Directory of the catalogues on the router."""

_CALL: Final = re.compile(r"\b_\('((?:[^'\\\n]|\\.)*)'\)")
_ANY_CALL: Final = re.compile(r"(?<![\w.$])_\(")
_WORD: Final = 0xFFFFFFFF


def texts() -> list[str]:
    """Return the texts that LuCI shows in English, each once, in their order. Raise ValueError for
    a call of `_()` with anything but one literal text."""
    source = VIEW.read_text()
    found = [ast.literal_eval(f"'{text}'") for text in _CALL.findall(source)]
    if len(found) != len(_ANY_CALL.findall(source)):
        raise ValueError(f"{VIEW}: a call of _() has no literal text in single quotes")
    found += [entry["title"] for entry in json.loads(MENU.read_text()).values() if "title" in entry]
    return list(dict.fromkeys(found))


def template() -> str:
    """Return the template: every text without a translation."""
    return po_file.render(map(Text, texts()))


def parse(po: str) -> dict[str, str]:
    """Return the translations of a .po file. Raise ValueError for a line that is none."""
    return {text.one: text.translations[0] for text in po_file.parse(po)}


def lmo(translations: dict[str, str]) -> bytes:
    """Return a catalogue: texts padded to four bytes, an index sorted by hash, its offset."""
    data = b""
    index = []
    for text, translation in translations.items():
        value = translation.encode()
        key = hash_of(text.encode())
        if value and key != hash_of(value):
            index.append((key, 1, len(data), len(value)))
            data += value + bytes(-len(value) % 4)
    entries = b"".join(struct.pack(">4I", *entry) for entry in sorted(index))
    return data + entries + struct.pack(">I", len(data))


def hash_of(data: bytes) -> int:
    """Return SuperFastHash (Paul Hsieh) as LuCI calls it: begun with the length, 0 for nothing."""
    if not data:
        return 0
    made = len(data)
    whole = len(data) - len(data) % 4
    for place in range(0, whole, 4):
        low, high = struct.unpack_from("<2H", data, place)
        made = (made + low) & _WORD
        made = ((made << 16) ^ (high << 11) ^ made) & _WORD
        made = (made + (made >> 11)) & _WORD
    made = _rest(made, data[whole:])
    for shift, is_left in ((3, True), (5, False), (4, True), (17, False), (25, True), (6, False)):
        made = (made ^ (made << shift)) & _WORD if is_left else (made + (made >> shift)) & _WORD
    return made


def _rest(made: int, rest: bytes) -> int:
    """Mix in the last bytes; single ones have a sign, as a char does."""
    if len(rest) == 1:
        [last] = struct.unpack("<b", rest)
        made = (made + last) & _WORD
        made = (made ^ (made << 10)) & _WORD
        return (made + (made >> 1)) & _WORD
    if len(rest) == 2:
        made = (made + int.from_bytes(rest, "little")) & _WORD
        made = (made ^ (made << 11)) & _WORD
        return (made + (made >> 17)) & _WORD
    if len(rest) == 3:
        low, last = struct.unpack("<Hb", rest)
        made = (made + low) & _WORD
        made = (made ^ (made << 16)) & _WORD
        made = (made ^ (last << 18)) & _WORD
        return (made + (made >> 11)) & _WORD
    return made


def catalogues() -> dict[str, bytes]:
    """Return the catalogues by the names that LuCI looks for."""
    return {
        f"{path.stem}.{path.parent.name}.lmo": lmo(parse(path.read_text()))
        for path in sorted(PO.glob("*/*.po"))
    }


if __name__ == "__main__":
    TEMPLATE.write_text(template())
    sys.stdout.write(f"{TEMPLATE}: {len(texts())} texts\n")
