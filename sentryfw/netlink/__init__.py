"""Netlink: messages as bytes and values, and the sockets that carry them."""
