#!/usr/bin/env python3
"""Counts the instructions of decoding, framing and encoding a fixed input with callgrind, and compares them with
`bench/instructions.json`: `instructions.py PROGRAM [--record]`.

PROGRAM is `examples/instructions` as the tests build it. Ends with 1 if a case costs over 10 % more than recorded, or is
not recorded. `--record` writes the new numbers to the file instead.
"""

import json
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

RECORDED = Path(__file__).resolve().parent.parent / "bench/instructions.json"
LIMIT = 1.10


def count(program, case):
    """The number of instructions of one case."""
    callgrind = ["valgrind", "--tool=callgrind", "--toggle-collect=instructions::measured*", "--callgrind-out-file=/dev/null"]
    done = subprocess.run([*callgrind, program, case], capture_output=True, text=True, check=False)
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode != 0 or not found or found[1] == "0":
        sys.exit(f"instructions.py: {case}: nothing was counted\n{done.stderr}")
    return int(found[1])


program = sys.argv[1]
cases = subprocess.run([program, "--list"], capture_output=True, text=True, check=True).stdout.splitlines()
with ThreadPoolExecutor(2) as pool:
    found = dict(zip(cases, pool.map(lambda case: count(program, case), cases)))
if "--record" in sys.argv:
    RECORDED.write_text(json.dumps(found, indent=1) + "\n")
recorded = json.loads(RECORDED.read_text())
failed = False
for case, now in found.items():
    before = recorded.get(case)
    ratio = now / before if before else float("inf")
    bad = ratio > LIMIT
    failed |= bad
    print(f"{case:28} {now:>12,} {ratio:6.2f}{'  MORE THAN RECORDED' if bad else ''}")
if failed:
    sys.exit(f"instructions.py: more than {LIMIT:.2f} times what {RECORDED.name} has; if this is intended: make instructions RECORD=1")
