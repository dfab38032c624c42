"""Files of gettext (.po): their texts with translations and plural forms."""

import json
import re
from collections.abc import Iterable
from typing import Final, NamedTuple

HEADER: Final = 'msgid ""\nmsgstr "Content-Type: text/plain; charset=UTF-8\\n"\n'
_FIELD: Final = re.compile(r'^(msgid_plural|msgid|msgstr(?:\[\d\])?)? ?(".*")$')


class Text(NamedTuple):
    """A text of a program, and what a language makes of it."""

    one: str
    many: str = ""
    """The text for other counts than one; empty: it has no plural."""
    translations: tuple[str, ...] = ("",)
    """One; of a text with a plural one for each of the language's forms."""


def parse(po: str) -> list[Text]:
    """Return the texts of a .po file, without its header. Raise ValueError for a line that is
    none."""
    found: list[Text] = []
    fields: dict[str, str] = {}
    place = ""
    for number, line in enumerate([*po.splitlines(), 'msgid ""'], 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _FIELD.fullmatch(line.strip())
        if match is None or not (match[1] or place):
            raise ValueError(f"line {number}: neither msgid, msgstr nor text")
        if match[1] == "msgid":
            if fields.get("msgid"):
                found.append(_text(fields))
            fields = {}
        place = match[1] or place
        fields[place] = fields.get(place, "") + json.loads(match[2])
    return found


def _text(fields: dict[str, str]) -> Text:
    forms = tuple(value for name, value in fields.items() if name.startswith("msgstr"))
    return Text(fields["msgid"], fields.get("msgid_plural", ""), forms)


def render(texts: Iterable[Text]) -> str:
    """Return the template of a translation: texts, with room for two plural forms."""
    parts = [HEADER]
    for text in texts:
        lines = [f"msgid {_quoted(text.one)}"]
        if text.many:
            lines.append(f"msgid_plural {_quoted(text.many)}")
            lines += ['msgstr[0] ""', 'msgstr[1] ""']
        else:
            lines.append('msgstr ""')
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
