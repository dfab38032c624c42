"""SentryFW: port-scan detection and blocking inside nftables."""

__version__ = "0.2.0"
