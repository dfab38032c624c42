"""The numbers of nfnetlink_queue."""

from pathlib import Path

from sentryfw.netlink import nfqueue
from support.headers import header_numbers, numbers_of


def test_the_numbers_are_those_of_the_kernel_s_headers(tmp_path: Path) -> None:
    numbers = numbers_of(nfqueue, r"NFQ|NFNL_")
    headers = ("linux/netfilter/nfnetlink.h", "linux/netfilter/nfnetlink_queue.h")
    assert len(numbers) == 9
    assert header_numbers(numbers, headers, tmp_path) == numbers
