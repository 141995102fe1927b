#!/usr/bin/env python3
"""Measures the cost of programs: `measure.py CMD ARG…` prints wall-clock seconds, CPU seconds and peak memory in MiB."""

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass


@dataclass
class Cost:
    """The cost of one run: `wall` and `cpu` (user and system) in seconds, `memory` (peak of one process) and `bytes`
    (of the files) in bytes; `server` is the CPU time of the server's sessions, where it was measured."""

    wall: float
    cpu: float
    memory: int
    bytes: int = 0
    server: float = 0.0


def run(*commands):
    """Runs commands at the same time. If one fails, the bench ends and shows their errors."""
    said = tempfile.TemporaryFile()
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": said}
    began = time.monotonic()
    children = [subprocess.Popen([str(word) for word in command], **quiet) for command in commands]
    cpu, memory = 0.0, 0
    for child in children:
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        cpu += used.ru_utime + used.ru_stime
        memory = max(memory, used.ru_maxrss * 1024)
    wall = time.monotonic() - began
    for child in children:
        if child.returncode != 0:
            said.seek(0)
            raise SystemExit(f"{said.read().decode()}bench: {' '.join(child.args)} ended with {child.returncode}")
    return Cost(wall, cpu, memory)


def cpu_seconds(pid):
    """CPU seconds of a process until now."""
    with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def children_seconds(pid):
    """CPU seconds of all children of a process that have ended."""
    with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")


def peak_memory(pid):
    """Largest resident memory of a process since the last `reset_peak`, in bytes."""
    with open(f"/proc/{pid}/status", encoding="utf-8") as status:
        line = next(line for line in status if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def reset_peak(pid):
    """Resets the largest resident memory, see proc(5)."""
    with open(f"/proc/{pid}/clear_refs", "w", encoding="utf-8") as clear:
        clear.write("5")


def parquet_bytes(directory):
    """The size of all Parquet files below a directory, in bytes. Hard links count once."""
    sizes = {}
    for place, _, files in os.walk(directory):
        for name in files:
            if name.endswith(".parquet"):
                stat = os.stat(os.path.join(place, name))
                sizes[stat.st_ino] = stat.st_size
    return sum(sizes.values())


if __name__ == "__main__":
    took = run(sys.argv[1:])
    print(f"{took.wall:.3f} {took.cpu:.3f} {took.memory / 2**20:.1f}")
