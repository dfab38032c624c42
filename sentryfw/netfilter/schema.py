"""The facts that Python and rulesets/*.nft share: names, packet mark bits, sizes.

Marks and masks reach the rulesets as defines (ruleset.py). Names, sizes and timeouts are in the
rulesets, because nft 1.0.6 takes no defines there; tests/netfilter/test_schema.py compares both.
Raise SCHEMA whenever a set changes its name, its type or its meaning, or a chain its name: install
then makes a new table instead of updating the old one, and keeps blocks and partners.

See docs/decisions.md: limits-in-config, mark-bits.
"""

from typing import Final

TABLE: Final = "sentryfw"
"""The table's name; its family is inet."""
OFF_TABLE: Final = "sentryfw-off"
"""A table whose presence switches SentryFW off, for an operator who has nothing but nft(8); see
docs/decisions.md: switch."""
SCHEMA: Final = 4
COMMENT_PREFIX: Final = "SentryFW schema "
"""The beginning of the comment of each table that SentryFW made."""
COMMENT: Final = f"{COMMENT_PREFIX}{SCHEMA}"
"""The table's comment: it shows that the table is ours, and its schema."""

BLOCK_SETS: Final = {4: "block4", 16: "block6"}
"""Sets of blocked sources, by the length of their keys in bytes."""
NETWORK_SETS: Final = ("block_net4", "block_net6")
"""Interval sets of blocked networks."""
NEVER_BLOCK_SETS: Final = ("never_block4", "never_block6")
"""Interval sets of the sources that are never blocked."""
ONLINK_SETS: Final = ("onlink4", "onlink6")
"""Interval sets of the prefixes that addresses of ours connect us to."""
WHOLE_SET: Final = "whole6"
"""Interval set of the IPv6 networks in which a source is a whole address."""
PARTNER_SETS: Final = ("partner4", "partner6")
"""Sources that finished a handshake with a listed service."""
SUSPECT_SETS: Final = ("suspect4", "suspect6")
"""Sources whose unlisted probe is still being judged."""
FRESH_SETS: Final = ("fresh4", "fresh6")
"""Sources that became partners just now; they count as strangers yet."""
SERVED_SETS: Final = ("served4", "served6")
"""Services that each partner uses: source . original daddr . protocol . original dport."""
SERVED_UDP_SETS: Final = ("served_udp4", "served_udp6")
"""Services that sources use by UDP, which does not make partners; keys as in SERVED_SETS."""
PEER_SETS: Final = ("peer4", "peer6")
"""Servers that answered us."""
CONFINE_SETS: Final = {4: "confine4", 16: "confine6"}
"""Partners that are confined to what they use, by the length of their keys in bytes."""
CONFINE_PAUSE_SET: Final = "confine_pause"
"""Holds an element while partners are not confined: they used services before served4/6 knew."""
CUT_SETS: Final = {4: "cut4", 16: "cut6"}
"""Blocked sources whose live flows end, too, by the length of their keys in bytes."""
DEFER_SETS: Final = {4: "defer4", 16: "defer6"}
"""Sources whose SYNs to listed ports are deferred, by the length of their keys in bytes."""
DEFER_TARGET_SETS: Final = {4: "defer_target4", 16: "defer_target6"}
"""Addresses of ours at which strangers' SYNs are deferred, by the length of their keys in bytes."""
DEFER_PREFIX_SETS: Final = {24: "defer24", 56: "defer56", 48: "defer48"}
"""Prefixes whose strangers' SYNs are deferred, by their length in bits; 24 is IPv4."""
BLOCK_PREFIX_SETS: Final = {24: "block24", 56: "block56", 48: "block48"}
"""Prefixes whose strangers are blocked, by their length in bits; 24 is IPv4."""
DEFER_ETHER_SET: Final = "defer_ether"
"""Hardware addresses whose strangers on link are deferred."""
BLOCK_ETHER_SET: Final = "block_ether"
"""Hardware addresses whose strangers on link are blocked."""
OPENED_SETS: Final = ("opened4", "opened6")
"""Listed TCP ports that each source opened a short while ago: source . port."""
BREADTH_SETS: Final = ("breadth4", "breadth6")
"""Sources that opened one, with the number of new ones that they may still open."""
BROAD_SETS: Final = ("broad4", "broad6")
"""Listed ports that a source opened beyond that number: source . port."""
TALKED_SETS: Final = ("talked4", "talked6")
"""Listed ports that a source sent data to: source . port."""
AWAY_SET: Final = "while_away"
"""Protocols whose unlisted packets are dropped while the daemon is away; there by configuration."""
FLOODED_SET: Final = "flooded"
"""Protocols whose new sources are limited before connection tracking, for a few seconds."""
FLEET_SETS: Final = {4: "fleet4", 16: "fleet6"}
"""Sources blocked by other members of the fleet, by the length of their keys in bytes."""
FLEET_CUT_SETS: Final = {4: "fleet_cut4", 16: "fleet_cut6"}
"""Those of FLEET_SETS whose live flows end, too, by the length of their keys in bytes."""
FLEET_NETWORK_SETS: Final = ("fleet_net4", "fleet_net6")
"""Interval sets of networks blocked by members with full trust."""
LIFTED_SETS: Final = (*CONFINE_SETS.values(), *CUT_SETS.values())
"""Sets that an unblock lifts a source from, beside its block."""
LEARNT_SETS: Final = (
    *PARTNER_SETS, *SERVED_SETS, *SERVED_UDP_SETS, *PEER_SETS, *LIFTED_SETS, *FLEET_SETS.values(),
)  # fmt: skip
"""Sets that outlast a restart beside the block sets: those that rules fill, confinements, the
fleet's."""
TIMED_SETS: Final = (
    *BLOCK_SETS.values(), *NETWORK_SETS, *CONFINE_SETS.values(), *CUT_SETS.values(),
    *DEFER_SETS.values(), *DEFER_TARGET_SETS.values(), *DEFER_PREFIX_SETS.values(),
    *BLOCK_PREFIX_SETS.values(), DEFER_ETHER_SET, BLOCK_ETHER_SET, *FLEET_SETS.values(),
    *FLEET_CUT_SETS.values(), *FLEET_NETWORK_SETS, FLOODED_SET,
)  # fmt: skip
"""Sets that decisions and commands fill, with elements that expire."""
KEPT_SETS: Final = (
    *BLOCK_SETS.values(), *NETWORK_SETS, *LEARNT_SETS,
)  # fmt: skip
"""Sets whose elements are restored when a new table replaces an older schema's."""

BLOCK_SET_SIZE: Final = 1048576
"""Elements that block4 and block6 can each hold: MAX_BLOCKS of the configuration."""
CONFINE_SET_SIZE: Final = 65536
DEFER_SET_SIZE: Final = 65536
FLEET_SET_SIZE: Final = 65536
PREFIX_SET_SIZE: Final = 65536
PARTNER_SET_SIZE: Final = 262144
FRESH_SET_SIZE: Final = 65536
SERVED_SET_SIZE: Final = 262144
SERVED_UDP_SET_SIZE: Final = 65536
PEER_SET_SIZE: Final = 65536
OPENED_SET_SIZE: Final = 131072
BREADTH_SET_SIZE: Final = 65536
BROAD_SET_SIZE: Final = 4096
ASKED_SET_SIZE: Final = 4096
SUSPECT_SET_SIZE: Final = 262144
PARTNER_TIMEOUT_S: Final = 90000.0
"""An hour more than SERVED_TIMEOUT_S: who comes daily stays a partner."""
SERVED_TIMEOUT_S: Final = 86400.0
PEER_TIMEOUT_S: Final = 86400.0
FRESH_TIMEOUT_S: Final = 60.0
OPENED_TIMEOUT_S: Final = 120.0
BREADTH_TIMEOUT_S: Final = 300.0
ASKED_TIMEOUT_S: Final = 10.0
SUSPECT_TIMEOUT_S: Final = 5.0

NET64: Final = "ffff:ffff:ffff:ffff::"
"""Mask of an IPv6 /64: IPv6 sources are kept by their prefix."""
NET48: Final = "ffff:ffff:ffff::"
NET56: Final = "ffff:ffff:ffff:ff00::"
NET120: Final = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ff00"
"""Mask of an IPv4 /24 behind NAT64 (RFC 6052, section 2.2)."""
NET24: Final = "255.255.255.0"

UNLISTED_BIT: Final = 0x10000000
"""Packet mark: nothing on this host would receive the packet."""
PARTNER_BIT: Final = 0x20000000
"""Packet mark: the source is a partner, and has been for longer than FRESH_TIMEOUT_S."""
HALF_OPEN_BIT: Final = 0x40000000
"""Packet mark: the packet resets a connection of which we had sent the SYN/ACK."""
DEFERRED_BITS: Final = UNLISTED_BIT | HALF_OPEN_BIT
"""Packet mark: a SYN to a listed port, to be deferred."""
PEER_BIT: Final = 0x80000000
"""Packet mark: the source answered a connection of ours."""
MARK_MASK: Final = UNLISTED_BIT | PARTNER_BIT | HALF_OPEN_BIT | PEER_BIT
"""The bits of the packet mark that the ruleset sets and the verdict clears."""

DECOY_MARK: Final = 0x5E47
"""SO_MARK of the decoy's sockets: it distinguishes them from other programs' sockets."""

COPY_RANGE_BYTES: Final = 512
"""Bytes of a packet that the queue copies: headers, with IPv6 extensions and TCP options."""
