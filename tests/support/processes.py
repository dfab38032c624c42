"""Who runs below a process, and whether it still does."""

from pathlib import Path
from typing import NamedTuple


class Process(NamedTuple):
    """One process for good: a number alone is given to others later."""

    pid: int
    started: str

    def runs(self) -> bool:
        fields = _stat(self.pid)
        return bool(fields) and fields[19] == self.started and fields[0] != "Z"

    @property
    def words(self) -> list[str]:
        """Its command line; nothing if it is gone."""
        try:
            return Path(f"/proc/{self.pid}/cmdline").read_text().split("\0")
        except (FileNotFoundError, ProcessLookupError):
            return []

    @property
    def network(self) -> str:
        """Its network namespace; nothing if it is gone."""
        try:
            return str(Path(f"/proc/{self.pid}/ns/net").readlink())
        except (FileNotFoundError, ProcessLookupError):
            return ""


def below(pid: int) -> list[Process]:
    """Every process that descends from a process, itself not included."""
    parents = {}
    for entry in Path("/proc").iterdir():
        fields = _stat(int(entry.name)) if entry.name.isdecimal() else []
        if fields:
            parents[int(entry.name)] = (int(fields[1]), fields[19])
    found: list[Process] = []
    generation = {pid}
    while generation:
        children = {child for child, (parent, _) in parents.items() if parent in generation}
        found += (Process(child, parents[child][1]) for child in children)
        generation = children
    return found


def _stat(pid: int) -> list[str]:
    """/proc/PID/stat (proc_pid_stat(5)) from field 3, the state, on; nothing if it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []
