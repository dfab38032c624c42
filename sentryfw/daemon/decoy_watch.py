"""The decoys of the running configuration, read in the daemon's loop."""

import asyncio
import logging
from typing import Final

from sentryfw.config.decoy import Decoy
from sentryfw.daemon.packet_path import PacketPath
from sentryfw.decoy.process import Decoys
from sentryfw.decoy.wire import PAYLOAD, Visit, shown
from sentryfw.engine.model import address_text
from sentryfw.netfilter.schema import DECOY_MARK
from sentryfw.record.recorder import Recorder

log: Final = logging.getLogger("sentryfwd")
MAX_PAYLOADS_PER_TICK: Final = 20
"""First bytes sent to decoys that are recorded between two ticks."""


class DecoyWatch:
    """Hands the visits of the decoys to the packet path, and replaces the decoys on a reload."""

    def __init__(self, config: Decoy, packet_path: PacketPath, recorder: Recorder) -> None:
        """Open the decoys; raise SentryError if their port is taken."""
        self._config = config
        self._packet_path = packet_path
        self._recorder = recorder
        self._payloads = 0
        self.decoys = _open(config)
        """None where the configuration wants none."""

    def start(self) -> None:
        """Read the decoys from the running loop."""
        if self.decoys is not None:
            loop = asyncio.get_running_loop()
            loop.add_reader(self.decoys.fileno(), self._receive, self.decoys)

    def stop(self) -> None:
        """Read them no longer."""
        if self.decoys is not None:
            asyncio.get_running_loop().remove_reader(self.decoys.fileno())

    def close(self) -> None:
        if self.decoys is not None:
            self.decoys.close()

    async def replace(self, config: Decoy) -> None:
        """Run the decoys of another configuration. Raise SentryError if they fail; then none
        run."""
        if config == self._config and (self.decoys is not None) == config.wanted:
            return
        loop = asyncio.get_running_loop()
        self.stop()
        old, self.decoys = self.decoys, None
        if old is not None:  # both want the same port
            await loop.run_in_executor(None, old.close)
        self.decoys = await loop.run_in_executor(None, _open, config)
        self._config = config
        self.start()

    def tick(self) -> None:
        """Start decoys that ended, and allow payloads again."""
        self._payloads = 0
        if self.decoys is None:
            return
        restarted = self.decoys.revive()
        if restarted:
            log.error("%s", restarted)
            self._recorder.note("decoy-restarted", error=restarted)

    def _receive(self, decoys: Decoys) -> None:
        for visit in decoys.receive():
            if visit.kind == PAYLOAD:
                self._record_payload(visit)
            else:
                self._packet_path.judge_visit(visit)

    def _record_payload(self, visit: Visit) -> None:
        if self._payloads >= MAX_PAYLOADS_PER_TICK:
            return
        self._payloads += 1
        self._recorder.note(
            "decoy", address=address_text(visit.source), port=visit.sport,
            target=address_text(visit.target), target_port=visit.port,
            payload=shown(visit.payload),
        )  # fmt: skip


def _open(config: Decoy) -> Decoys | None:
    return Decoys(config, DECOY_MARK) if config.wanted else None
