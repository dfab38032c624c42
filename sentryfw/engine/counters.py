"""The numbers of packets and of decisions, as status and metrics show them."""

from collections import Counter

from sentryfw.engine.model import KINDS


class Counters:
    """Numbers of packets and of decisions since the start."""

    def __init__(self) -> None:
        self.probes: dict[str, int] = dict.fromkeys(KINDS, 0)
        """Packets to unlisted ports and the like, by kind. A Counter costs each packet more."""
        self.strays: Counter[str] = Counter()
        """Packets that are not evidence, by reason."""
        self.malformed: Counter[str] = Counter()
        """Packets that could not be decoded, by reason."""
        self.confined = 0
        """Partners that were confined."""
        self.displaced = 0
        """Blocks that gave way to others, because [block] max_elements was reached."""
        self.deferred = 0
        """SYNs to listed ports that were deferred."""
        self.came_again = 0
        """SYNs that came again after that, and were served."""
        self.refusals: Counter[str] = Counter()
        """Scans that were not blocked, by reason."""
        self.floods = 0
        """Times that flood mode was entered."""
        self.distributed_scans = 0
        self.blocks_failed = 0
        """Blocks that the kernel refused."""
        self.block_set_full = 0
        """Blocks that the kernel refused because the set was full; also in blocks_failed."""

    def copy(self) -> "Counters":
        """Return the present numbers. Any thread may call it."""
        made = Counters()
        made.probes = dict(self.probes)
        made.strays = Counter(self.strays)
        made.malformed = Counter(self.malformed)
        made.refusals = Counter(self.refusals)
        made.floods = self.floods
        made.confined = self.confined
        made.displaced = self.displaced
        made.deferred = self.deferred
        made.came_again = self.came_again
        made.distributed_scans = self.distributed_scans
        made.blocks_failed = self.blocks_failed
        made.block_set_full = self.block_set_full
        return made

    def as_dict(self) -> dict[str, int]:
        """Return the counters under the names that `status --json` shows; of those that are 0,
        only the floods."""
        found: dict[str, int] = {}
        found.update(self.probes)
        found.update(self.strays)
        found["malformed"] = self.malformed.total()
        for reason, count in self.malformed.items():
            found[f"malformed: {reason}"] = count
        for reason, count in self.refusals.items():
            found[f"refused {reason}"] = count
        found["confined"] = self.confined
        found["displaced"] = self.displaced
        found["deferred"] = self.deferred
        found["came again"] = self.came_again
        found["distributed scans"] = self.distributed_scans
        found["blocks failed"] = self.blocks_failed
        found["block set full"] = self.block_set_full
        return {"floods": self.floods, **{name: n for name, n in found.items() if n}}
