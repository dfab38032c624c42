"""The kernel edge: nothing above it talks netlink or nft."""
