"""Numbers of linux/netfilter/nfnetlink_queue.h and linux/if_ether.h, under their C names."""

from typing import Final

NFNL_SUBSYS_QUEUE: Final = 3

NFQNL_MSG_PACKET: Final = 0
NFQNL_MSG_VERDICT_BATCH: Final = 3

NFQA_PACKET_HDR: Final = 1
NFQA_VERDICT_HDR: Final = 2
NFQA_MARK: Final = 3
NFQA_IFINDEX_INDEV: Final = 5
NFQA_HWADDR: Final = 9
NFQA_PAYLOAD: Final = 10

ETH_ALEN: Final = 6
"""Bytes of an Ethernet address."""
