"""The translations of the page for Cockpit: complete, with every place, as Cockpit loads them."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import cockpit_translations as translations
import po_file
import pytest
from po_file import Text

PLACES = re.compile(r"\$\d")
LANGUAGES = translations.languages()
LITERAL = re.compile(r'"((?:[^"\\\n]|\\.)*)"|`((?:[^`\\]|\\.)*)`')
SHOWN = re.compile(r"[A-Z][a-z]{2,}\b|[a-z]+ [a-z]+")
"""A text that a person reads: a word with a capital, or two words."""
CALLS = re.compile(
    r'(?<![\w.$])(?:_\("(?:[^"\\\n]|\\.)*"\)'
    r'|counted\([^"]*?, (?:"(?:[^"\\]|\\.)*"(?:, )?){2}\))'
)
MARKUP = re.compile(r'\b(?:class|data-\w+|id|type|role|payload): "[^"]*"')
NOT_SHOWN = {
    "pf-v6-c-button pf-m-", "pf-v6-c-label pf-m-compact${colour ? ",
    "pf-v6-c-alert pf-m-inline pf-m-", "Escape", "blocked on the page", "allowed on the page",
}  # fmt: skip
"""Classes, a key, and comments that the command line is given, in English as all of its words."""


def test_there_is_german() -> None:
    assert LANGUAGES == ["de"]


def test_the_template_has_every_text_of_the_page() -> None:
    assert translations.TEMPLATE.read_text() == translations.template(), "make translations"


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_language_is_complete_and_has_nothing_else(language: str) -> None:
    found = po_file.parse((translations.PO / f"{language}.po").read_text())
    assert [text._replace(translations=()) for text in found] == [
        text._replace(translations=()) for text in translations.texts()
    ]
    for text in found:
        assert len(text.translations) == (2 if text.many else 1), text.one
        assert all(translation.strip() for translation in text.translations), text.one
        assert not any("\u202e" in translation for translation in text.translations)


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_translation_has_the_places_of_its_text(language: str) -> None:
    for text in po_file.parse((translations.PO / f"{language}.po").read_text()):
        for translation in text.translations:
            assert sorted(PLACES.findall(translation)) == sorted(PLACES.findall(text.one)), text.one


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_translation_ends_as_its_text(language: str) -> None:
    """Questions stay questions, and sentences sentences."""
    for text in po_file.parse((translations.PO / f"{language}.po").read_text()):
        for translation in text.translations:
            for end in (".", "?"):
                abbreviated = text.one in {"$0 s", "$0 min $1 s", "$0 h $1 min", "$0 d $1 h"}
                assert abbreviated or translation.endswith(end) == text.one.endswith(end), text.one


@pytest.mark.skipif(shutil.which("msgfmt") is None, reason="needs msgfmt, of gettext")
@pytest.mark.parametrize("language", LANGUAGES)
def test_gettext_accepts_the_file(language: str, tmp_path: Path) -> None:
    path = translations.PO / f"{language}.po"
    command = ["msgfmt", "--check-format", "-o", str(tmp_path / "x.mo"), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def data_of(script: str) -> dict[str, object]:
    """Return the object of a catalogue, without the function of its plurals."""
    assert script.startswith("cockpit.locale({\n")
    assert script.endswith("\n});\n")
    inner = script.removeprefix("cockpit.locale(").removesuffix(");\n")
    found: dict[str, object] = json.loads(inner.replace("n => n != 1", '"function"'))
    return found


@pytest.mark.parametrize("language", LANGUAGES)
def test_cockpit_finds_each_translation(language: str) -> None:
    """A text is a key; its value is null and the forms (cockpit.js: gettext, ngettext)."""
    found = data_of(translations.catalogues()[f"po.{language}.js"])
    assert found.pop("") == {
        "plural-forms": "function", "language": language, "language-direction": "ltr",
    }  # fmt: skip
    for text in po_file.parse((translations.PO / f"{language}.po").read_text()):
        assert found.pop(text.one) == [None, *text.translations]
    assert found == {}


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_menu_has_its_own_catalogue(language: str) -> None:
    """The shell of Cockpit 300 and later asks for it."""
    found = data_of(translations.catalogues()[f"po.manifest.{language}.js"])
    assert set(found) == {"", *translations.menu_words()}
    assert found["Port scans"] == [None, "Portscans"]


def test_the_page_loads_its_catalogue_before_its_scripts() -> None:
    page = (translations.PAGE / "index.html").read_text()
    assert page.index("cockpit.js") < page.index('src="po.js"') < page.index('src="page.js"')


def test_every_text_of_the_page_is_translatable() -> None:
    """Assert that all others are markup, words of the command line, or classes."""
    others = set()
    for path in sorted(translations.PAGE.glob("*.js")):
        source = re.sub(r"^\s*//.*$|  // .*$", "", path.read_text(), flags=re.MULTILINE)
        source = MARKUP.sub("", CALLS.sub("", source))
        for literal in LITERAL.findall(source):
            text = re.sub(r"\$\{[^}]*\}", "", "".join(literal))
            if SHOWN.search(text):
                others.add(text)
    assert others == NOT_SHOWN


def test_the_packages_have_the_catalogues(tmp_path: Path) -> None:
    import build  # noqa: PLC0415 - it reads the wheels' lock

    build._cockpit(tmp_path, "deb")
    page = tmp_path / "usr/share/cockpit/sentryfw"
    for name, script in translations.catalogues().items():
        assert (page / name).read_text() == script
    assert not list(tmp_path.rglob("*.po"))


def test_debians_package_has_them_too(tmp_path: Path) -> None:
    """debian/rules writes them where debian/sentryfw-cockpit.install takes them from."""
    rules = (translations.ROOT / "debian" / "rules").read_text()
    assert "packaging/cockpit_translations.py build/cockpit\n" in rules
    listed = (translations.ROOT / "debian" / "sentryfw-cockpit.install").read_text()
    assert "build/cockpit/* usr/share/cockpit/sentryfw\n" in listed
    script = translations.ROOT / "packaging" / "cockpit_translations.py"
    subprocess.run(["python3", script, tmp_path / "made"], check=True)
    assert {path.name for path in (tmp_path / "made").iterdir()} == set(translations.catalogues())


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("_(name)", "no literal text"),
        ("_('x')", "no literal text"),
        ('counted(n, "one")', "no literal text"),
        ('counted(n, "a", "b"); _("a")', "at one place only"),
    ],
)
def test_a_call_that_cannot_be_translated_is_named(
    script: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x.js").write_text(script)
    monkeypatch.setattr(translations, "PAGE", tmp_path)
    with pytest.raises(ValueError, match=message):
        translations.texts()


def test_a_language_whose_plurals_are_unknown_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ja.po").write_text('msgid ""\nmsgstr "Plural-Forms: nplurals=1; plural=0;\\n"\n')
    monkeypatch.setattr(translations, "PO", tmp_path)
    with pytest.raises(ValueError, match=r"ja.po: no function for Plural-Forms: 'nplurals=1"):
        translations.catalogue("ja")


def test_plurals_and_several_lines_are_read() -> None:
    po = (
        'msgid "a"\nmsgid_plural ""\n"as"\nmsgstr[0] "b"\nmsgstr[1] "bs"\n\nmsgid "c"\nmsgstr "d"\n'
    )
    assert po_file.parse(po) == [Text("a", "as", ("b", "bs")), Text("c", "", ("d",))]
    assert po_file.parse(po_file.render([Text("a", "as")])) == [Text("a", "as", ("", ""))]
