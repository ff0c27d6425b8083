"""What a process and all its descendants take: memory now, and CPU time since they began.

Read from /proc (proc(5)).  PSS shares a page out among the processes that map it, so that fifty
processes of one program are not charged fifty times for its code.  CPU counts children that have
ended too: their time is in their parent's `cutime` and `cstime` once it has waited for them.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Memory", "cpu_s", "memory", "pids"]

PROC = Path("/proc")
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    pss_bytes: int
    rss_bytes: int
    processes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stat:
    parent: int
    cpu_ticks: int  # its own and that of the children it has waited for


def _stat(pid: int) -> _Stat | None:
    try:
        text = (PROC / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None  # it has ended meanwhile
    # The second field is the name in parentheses, which may hold anything; then state, ppid, …
    fields = text.rpartition(")")[2].split()
    return _Stat(parent=int(fields[1]), cpu_ticks=sum(map(int, fields[11:15])))


def _tree(root: int) -> dict[int, _Stat]:
    stats = {int(p.name): _stat(int(p.name)) for p in PROC.iterdir() if p.name.isdecimal()}
    children: dict[int, list[int]] = {}
    for pid, stat in stats.items():
        if stat is not None:
            children.setdefault(stat.parent, []).append(pid)
    found: dict[int, _Stat] = {}
    waiting = [root]
    while waiting:
        pid = waiting.pop()
        stat = stats.get(pid)
        if stat is not None:
            found[pid] = stat
            waiting += children.get(pid, [])
    return found


def pids(root: int) -> set[int]:
    """Return the process and all its descendants."""
    return set(_tree(root))


def cpu_s(root: int) -> float:
    """Return the seconds of CPU, user and system, that the tree has used."""
    return sum(stat.cpu_ticks for stat in _tree(root).values()) / TICKS_PER_S


def memory(root: int) -> Memory:
    """Return what the tree holds now."""
    pss = rss = count = 0
    for pid in _tree(root):
        try:
            lines = (PROC / str(pid) / "smaps_rollup").read_text().splitlines()
        except (FileNotFoundError, ProcessLookupError):
            continue
        values = dict(line.split(":", 1) for line in lines[1:])
        pss += _kib(values["Pss"])
        rss += _kib(values["Rss"])
        count += 1
    return Memory(pss_bytes=pss, rss_bytes=rss, processes=count)


def _kib(text: str) -> int:
    return int(text.split(maxsplit=1)[0]) * 1024
