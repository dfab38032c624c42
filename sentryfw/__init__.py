"""SentryFW: port-scan detection and blocking inside nftables."""

from sentryfw.compiled import use

__version__ = "0.1.0"

use()
