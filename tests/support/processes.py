"""The descendants of a process, and whether they still run."""

from pathlib import Path
from typing import NamedTuple


class Process(NamedTuple):
    """One process, identified by pid and start time: the kernel reuses pids."""

    pid: int
    started: str

    def runs(self) -> bool:
        fields = _stat(self.pid)
        return bool(fields) and fields[19] == self.started and fields[0] != "Z"

    @property
    def words(self) -> list[str]:
        """The command line; empty if the process has ended."""
        try:
            return Path(f"/proc/{self.pid}/cmdline").read_text().split("\0")
        except (FileNotFoundError, ProcessLookupError):
            return []

    @property
    def network(self) -> str:
        """The network namespace; "" if the process has ended."""
        try:
            return str(Path(f"/proc/{self.pid}/ns/net").readlink())
        except (FileNotFoundError, ProcessLookupError):
            return ""


def below(pid: int) -> list[Process]:
    """Return every descendant of a process."""
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
    """Return /proc/PID/stat (proc_pid_stat(5)) from field 3, the state, on; [] if it has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []
