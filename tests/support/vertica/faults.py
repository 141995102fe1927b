"""What the server does wrong on command (control.py)."""

import threading
from dataclasses import dataclass, field


@dataclass
class Fault:
    """One misbehaviour, for statements that contain `match`, `left` times (negative: always)."""

    do: str
    match: str = ""
    left: int = 1
    rows: int = 0
    values: dict = field(default_factory=dict)


class Faults:
    def __init__(self):
        self.lock, self.all = threading.Lock(), []
        self.go = threading.Event()

    def add(self, asked):
        count = int(asked.get("count", 1))
        fault = Fault(asked["do"], asked.get("match", ""), count if count > 0 else -1, int(asked.get("rows", 0)), asked)
        if fault.do == "stall":
            self.go.clear()
        with self.lock:
            self.all.append(fault)

    def clear(self):
        with self.lock:
            self.all.clear()
        self.go.set()

    def of(self, sql, rows):
        """The faults of a statement; each is used up by it. `rows` says whether it reads rows of a table."""
        found = []
        with self.lock:
            for fault in self.all:
                if fault.left != 0 and (fault.match in sql if fault.match else rows):
                    fault.left -= fault.left > 0
                    found.append(fault)
            self.all = [fault for fault in self.all if fault.left != 0]
        return found

    def startup(self, do):
        """Whether a startup meets a fault, such as "refuse"."""
        with self.lock:
            for fault in self.all:
                if fault.do == do and fault.left != 0:
                    fault.left -= fault.left > 0
                    return True
        return False
