"""Translations of the page for Cockpit: its texts as a template, and catalogues as Cockpit loads
them.

    python packaging/cockpit_translations.py DIRECTORY

writes the catalogues into a directory, to lie beside the page. The texts are the arguments of `_()`
and `counted()` in the page's scripts, and the words of the menu. Cockpit's server gives a page its
`po.LANGUAGE.js`; its shell reads the menu's words in the same file, or since Cockpit 300 in
`po.manifest.LANGUAGE.js`.
"""

import json
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import po_file
from po_file import Text

ROOT: Final = Path(__file__).resolve().parent.parent
PAGE: Final = ROOT / "web" / "cockpit"
PO: Final = ROOT / "web" / "cockpit-po"
TEMPLATE: Final = PO / "sentryfw.pot"
PLURALS: Final = {"nplurals=2; plural=(n != 1);": "n => n != 1"}
"""Rules of gettext's Plural-Forms, and each as a function of JavaScript."""

_LITERAL: Final = r'"((?:[^"\\\n]|\\.)*)"'
_ONE: Final = re.compile(rf"(?<![\w.$])_\({_LITERAL}\)")
_SEVERAL: Final = re.compile(rf"(?<![\w.$])counted\([^\"]*?, {_LITERAL}, {_LITERAL}\)")
_CALL: Final = re.compile(r"(?<![\w.$])(?:_|counted)\(")
_HEADER_LINE: Final = re.compile(r'"([A-Za-z-]+): (.*?)\\n"')


def texts() -> list[Text]:
    """Return the texts of the page in English, each once. Raise ValueError for a call of `_()` or
    `counted()` without literal texts."""
    found: dict[str, Text] = {}
    for path in sorted(PAGE.glob("*.js")):
        for text in _of_script(path):
            known = found.setdefault(text.one, text)
            if known != text:
                raise ValueError(f"{path}: {text.one!r} has a plural at one place only")
    for word in menu_words():
        found.setdefault(word, Text(word))
    return list(found.values())


def menu_words() -> list[str]:
    """Return the words of the menu: its entry, and what it is found by."""
    [entry] = json.loads((PAGE / "manifest.json").read_text())["menu"].values()
    return [entry["label"], *(word for words in entry["keywords"] for word in words["matches"])]


def _of_script(path: Path) -> Iterator[Text]:
    source = path.read_text()
    calls = sorted([*_ONE.finditer(source), *_SEVERAL.finditer(source)], key=lambda m: m.start())
    if len(calls) != len(_CALL.findall(source)):
        raise ValueError(f"{path}: a call of _() or counted() has no literal text in double quotes")
    for call in calls:
        yield Text(*(json.loads(f'"{part}"') for part in call.groups()))


def template() -> str:
    """Return the template: every text without a translation."""
    return po_file.render(texts())


def catalogue(language: str, words: Iterable[str] | None = None) -> str:
    """Return the script that gives Cockpit the translations of a language; `words`: of these texts
    only. Raise ValueError if its plurals follow a rule that PLURALS lacks."""
    source = (PO / f"{language}.po").read_text()
    rule = dict(_HEADER_LINE.findall(source)).get("Plural-Forms", "")
    if rule not in PLURALS:
        raise ValueError(f"{language}.po: no function for Plural-Forms: {rule!r}")
    wanted = None if words is None else set(words)
    about = f'"plural-forms": {PLURALS[rule]}, "language": {json.dumps(language)}'
    lines = [f' "": {{ {about}, "language-direction": "ltr" }}']
    lines += [
        f" {_script(text.one)}: {_script([None, *text.translations])}"
        for text in po_file.parse(source)
        if any(text.translations) and (wanted is None or text.one in wanted)
    ]
    return "cockpit.locale({\n" + ",\n".join(lines) + "\n});\n"


def catalogues() -> dict[str, str]:
    """Return the catalogues by the names that Cockpit looks for."""
    found = {}
    for language in languages():
        found[f"po.{language}.js"] = catalogue(language)
        found[f"po.manifest.{language}.js"] = catalogue(language, menu_words())
    return found


def languages() -> list[str]:
    """Return the languages that there are besides English."""
    return sorted(path.stem for path in PO.glob("*.po"))


def write(directory: Path) -> None:
    """Write the catalogues into a directory."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, script in catalogues().items():
        (directory / name).write_text(script)


def _script(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        write(Path(sys.argv[1]))
    else:
        TEMPLATE.parent.mkdir(exist_ok=True)
        TEMPLATE.write_text(template())
        sys.stdout.write(f"{TEMPLATE}: {len(texts())} texts\n")
