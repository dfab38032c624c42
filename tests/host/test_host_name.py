"""Names of hosts: which text is one."""

import pytest

from sentryfw.host.host_name import clean_name, full_name


@pytest.mark.parametrize(
    ("name", "clean"),
    [
        ("a.example.", "a.example"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("a..example", ""),
        ("a b.example", ""),
        ("a.example\n", ""),
        ("<script>.example", ""),
        ("a" * 64, ""),
        (".".join(["a" * 60] * 5), ""),
        ("", ""),
    ],
)
def test_names_are_letters_digits_and_hyphens(name: str, clean: str) -> None:
    assert clean_name(name) == clean


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("office.example.org", "office.example.org"), ("Office.Example.ORG.", "office.example.org"),
        ("office", ""), ("192.0.2.300", ""), ("192.0.2", ""), ("10.example.4", ""),
        ("4.example", "4.example"), ("a_b.example", ""), ("", ""), (".", ""),
        ("b\u00fccher.example", ""),
        ("2001:db8::1", ""), ("*.example.org", ""), ("-c.example.org", ""),
    ],
)  # fmt: skip
def test_a_full_name_has_a_domain(word: str, name: str) -> None:
    assert full_name(word) == name
