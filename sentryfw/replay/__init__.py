"""The verdict engine on recorded traffic: capture -> link -> flows -> engine -> findings."""

from sentryfw.replay.run import Finding, Result, replay
from sentryfw.replay.view import Network, Service

__all__ = ["Finding", "Network", "Result", "Service", "replay"]
