"""The formats of lists, by name."""

from typing import Final, Literal

from sentryfw.tools.lists.entries import MAX_BYTES, ParsedList, Reading
from sentryfw.tools.lists.json_lists import crowdsec_list, stix_list
from sentryfw.tools.lists.text_lists import nft_list, plain_list

Format = Literal["plain", "nft", "stix", "crowdsec"]
FORMATS: Final[tuple[Format, ...]] = ("plain", "nft", "stix", "crowdsec")


def parse(form: Format, data: bytes, now: float) -> ParsedList:
    """Read a list; `now`: seconds since the epoch. Nothing in it raises."""
    reading = Reading()
    if len(data) > MAX_BYTES:
        reading.refuse("line 1", f"the list is longer than {MAX_BYTES >> 20} MiB")
        return reading.found
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        reading.refuse(f"line {line}", "not UTF-8")
        return reading.found
    match form:
        case "nft":
            return nft_list(text)
        case "stix":
            return stix_list(text, now)
        case "crowdsec":
            return crowdsec_list(text)
        case _:
            return plain_list(text)
