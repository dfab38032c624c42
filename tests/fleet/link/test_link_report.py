"""The file that `sentryfw fleet status` reads."""

import json
import os
from collections import Counter
from pathlib import Path

from sentryfw.fleet.link.link_report import LinkReport, ReportFile


def test_the_hub_is_reached_when_both_directions_work() -> None:
    report = LinkReport("rediss://hub")
    assert not report.as_dict()["reached"]
    report.reached("send", 5.0)
    assert report.as_dict()["faults"] == ["not connected yet"]
    report.reached("receive", 6.0)
    found = report.as_dict()
    assert (found["reached"], found["since"], found["faults"]) == (True, 6.0, [])
    report.reached("receive", 7.0)
    assert report.as_dict()["since"] == 6.0, "it was reached before"


def test_a_fault_is_new_once_and_counted_each_time() -> None:
    report = LinkReport("rediss://hub")
    assert [report.failed("send", "no answer", 1.0) for _ in range(3)] == [True, False, False]
    assert report.failed("send", "full", 2.0)
    assert report.as_dict()["hub_faults"] == 4


def test_the_file_is_replaced_readable_for_all_and_touched_without_a_change(
    tmp_path: Path,
) -> None:
    path = tmp_path / "status.json"
    report, file = LinkReport("rediss://hub"), ReportFile(path)
    report.refused["fw2"] = Counter({"wrong-id": 2})
    file.write(report, 1000.0)
    assert json.loads(path.read_text())["refused"] == {"fw2": {"wrong-id": 2}}
    assert path.stat().st_mode & 0o777 == 0o644 & ~_umask()
    inode = path.stat().st_ino
    file.write(report, 2000.0)
    assert (path.stat().st_ino, path.stat().st_mtime) == (inode, 2000.0)
    report.sent = 7
    file.write(report, 3000.0)
    assert json.loads(path.read_text())["sent"] == 7
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    (tmp_path / ".status.json.new").symlink_to(target)
    ReportFile(tmp_path / "status.json").write(LinkReport(""), 1.0)
    assert not target.exists()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
