"""Label files: MISP's and plain ones, bounded, and hostile content."""

import json
from ipaddress import ip_address
from pathlib import Path

import pytest

from sentryfw.errors import SentryError
from sentryfw.origin import labels
from sentryfw.origin.labels import MAX_LABELS, LabelTable, read
from support.origins import misp


def written(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def of(table: LabelTable, address: str) -> tuple[str, ...]:
    return table.of(ip_address(address))


def test_a_plain_list(tmp_path: Path) -> None:
    path = written(
        tmp_path / "scanners.list",
        "\ufeff# research\r\n203.0.113.0/28  Example  Research ; a comment\r\n"
        "203.0.113.5 One of them\n2001:db8:1::/48 Six\n198.51.100.0/24\n\n",
    )
    table = LabelTable((path,))
    assert of(table, "203.0.113.5") == ("One of them", "Example Research")
    assert of(table, "203.0.113.6") == ("Example Research",)
    assert of(table, "203.0.113.16") == ()
    assert of(table, "2001:db8:1:2::3") == ("Six",)
    assert of(table, "198.51.100.9") == ("scanners",)
    assert table.faults == []


def test_a_warning_list_of_misp(tmp_path: Path) -> None:
    text = misp("List of scanners", "203.0.113.0/28", "2001:db8::1", description="x")
    table = LabelTable((written(tmp_path / "list.json", text),))
    assert of(table, "203.0.113.5") == ("List of scanners",)
    assert of(table, "2001:db8::1") == ("List of scanners",)
    assert of(table, "2001:db8::2") == ()
    assert table.faults == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("{", "neither a MISP warning list nor a plain list: Expecting"),
        (misp("Hosts", "example.org", type="hostname"), 'its type is hostname, not "cidr"'),
        (json.dumps({"name": "x"}), 'no "name" or no "list"'),
        (json.dumps({"list": []}), 'no "name" or no "list"'),
        (json.dumps({"name": ["x"], "list": []}), 'no "name" or no "list"'),
        ("{" * 200_000, "neither a MISP"),
        ('{"a":' * 200_000, "neither a MISP"),
        (b"{\xff\xfe", "neither a MISP"),
    ],
)  # fmt: skip
def test_a_file_with_a_fault_costs_its_own_labels(
    tmp_path: Path, text: str | bytes, fault: str
) -> None:
    good = written(tmp_path / "good", "203.0.113.5 Good\n")
    bad = written(tmp_path / "bad", text)
    table = LabelTable((bad, tmp_path / "missing", good))
    first, second = table.faults
    assert first.startswith(f"{bad}: ")
    assert fault in first
    assert second == f"{tmp_path / 'missing'}: No such file or directory"
    assert of(table, "203.0.113.5") == ("Good",)


def test_entries_without_a_network_are_counted(tmp_path: Path) -> None:
    text = misp("Mixed", "203.0.113.5", "host.example.org", 5, None, "0.0.0.0/0", "::/0")
    table = LabelTable((written(tmp_path / "mixed", text),))
    assert table.faults == [f"{tmp_path / 'mixed'}: 5 entries without a network: ignored"]
    assert of(table, "203.0.113.5") == ("Mixed",)
    assert of(table, "198.51.100.1") == ()  # a network of all addresses is ignored


def test_hostile_names_are_printable_and_short(tmp_path: Path) -> None:
    hostile = "<script>\x1b]0;owned\x07\u202egpj\n" + "x" * 10_000
    for text in (misp(hostile, "203.0.113.5"), f"203.0.113.5 {hostile}"):
        [label] = of(LabelTable((written(tmp_path / "hostile", text),)), "203.0.113.5")
        assert label.isprintable()
        assert len(label) <= 64


def test_sizes_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labels, "MAX_FILE_BYTES", 1 << 20)
    large = written(tmp_path / "large", b"#" * ((1 << 20) + 1))
    with pytest.raises(SentryError, match="large: larger than 1 MiB: not read"):
        read(large)
    monkeypatch.setattr(labels, "MAX_NETWORKS", 3)
    first = written(tmp_path / "first", "203.0.113.1\n203.0.113.2\n")
    second = written(tmp_path / "second", "203.0.113.3\n203.0.113.4\n")
    table = LabelTable((first, second))
    assert table.faults == [
        f"{second}: [labels] files have more than 3 networks: the rest is ignored"
    ]
    assert [bool(of(table, f"203.0.113.{n}")) for n in range(1, 5)] == [True, True, True, False]
    many = written(tmp_path / "many", "".join(f"203.0.113.9 {n}\n" for n in range(100)))
    monkeypatch.setattr(labels, "MAX_NETWORKS", 1000)
    assert len(of(LabelTable((many,)), "203.0.113.9")) == MAX_LABELS
