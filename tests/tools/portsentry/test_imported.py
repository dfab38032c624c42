"""The draft of an import: origins, numbers, ports and remarks."""

from pathlib import Path

from sentryfw.tools.portsentry.files import File, PortSentryFiles
from sentryfw.tools.portsentry.imported import MAX_SHOWN_LENGTH, ConfigLine, Draft, Remark
from sentryfw.tools.portsentry.parse import parse_settings


def draft(text: str) -> Draft:
    data = text.encode()
    conf = File(Path("/etc/portsentry/portsentry.conf"), data)
    return Draft(PortSentryFiles(conf, parse_settings(data), None, [], [], []))


def test_an_origin_is_file_line_option_and_a_short_value() -> None:
    made = draft(f'TCP_PORTS="1"\nKILL_RUN_CMD="/{"x" * MAX_SHOWN_LENGTH}"\n')
    assert made.ports("TCP_PORTS") == ('portsentry.conf line 1: TCP_PORTS="1"', [(1, 1)])
    command = made.options["KILL_RUN_CMD"]
    assert made.origin("KILL_RUN_CMD", command) == "portsentry.conf line 2: KILL_RUN_CMD"
    assert made.origin("SCAN_TRIGGER", None) == "SCAN_TRIGGER is not set"


def test_a_faulty_number_has_one_warning_and_its_default() -> None:
    made = draft('SCAN_TRIGGER="many"\n')
    for _ in range(2):
        assert made.number("SCAN_TRIGGER", 3)[1] == 3
    assert made.warnings == [
        Remark(
            "/etc/portsentry/portsentry.conf",
            1,
            "SCAN_TRIGGER: 'many' is not a number: read as 3",
        )
    ]


def test_keys_and_reasons_are_kept_in_their_order() -> None:
    made = draft('BLOCKED_FILE="/x"\n')
    made.add("detect", "trigger", 1, "an origin")
    made.leave_out(made.options["BLOCKED_FILE"], "a reason")
    assert made.lines == [ConfigLine("detect", "trigger", 1, "an origin")]
    assert [(remark.line, remark.said) for remark in made.unmapped] == [(1, "a reason")]
