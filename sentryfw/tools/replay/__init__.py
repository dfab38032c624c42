"""The verdict engine on recorded traffic: capture, link layer, table model, engine, findings."""

from sentryfw.tools.replay.run import ReplayResult, SourceFinding, replay
from sentryfw.tools.replay.view import Network, Service

__all__ = ["Network", "ReplayResult", "Service", "SourceFinding", "replay"]
