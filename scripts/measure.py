#!/usr/bin/env python3
"""Runs commands at the same time: `measure.py CMD ARG… [--and CMD ARG…]…`.
Prints wall-clock seconds, their CPU seconds together, and the largest peak
memory of one in MiB. Their standard output goes to /dev/null."""

import resource
import subprocess
import sys
import time

commands = [[]]
for word in sys.argv[1:]:
    if word == "--and":
        commands.append([])
    else:
        commands[-1].append(word)
began = time.monotonic()
children = [subprocess.Popen(c, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) for c in commands]
codes = [child.wait() for child in children]
wall = time.monotonic() - began
if any(codes):
    sys.exit(f"measure.py: a command failed: {codes}")
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(f"{wall:.3f} {used.ru_utime + used.ru_stime:.3f} {used.ru_maxrss / 1024:.1f}")
