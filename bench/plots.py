#!/usr/bin/env python3
"""Draws `docs/growth.svg`, which shows how cost grows, from the newest results file."""

import json
import statistics
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

ROOT = Path(__file__).resolve().parent.parent
newest = max((ROOT / "bench/results").glob("*.json"))
growth = json.loads(newest.read_text())["cases"]["growth"]
curves = {name: curve for name, curve in growth.items() if isinstance(curve, dict)}
figure, axes = plt.subplots(1, len(curves), figsize=(4 * len(curves), 3.2), layout="constrained")
for axis, (name, curve) in zip(axes, curves.items()):
    for field, style in (("wall", "o-"), ("cpu", "s--")):
        medians = [statistics.median(run[field] for run in runs) for runs in curve["runs"].values()]
        axis.plot(curve["points"], medians, style, label={"wall": "wall", "cpu": "CPU"}[field])
    axis.set(xlabel=name, ylabel="seconds", xscale="log", ylim=(0, None))
    axis.legend()
    axis.grid(alpha=0.3)
plt.rcParams["svg.hashsalt"] = "growth"
figure.savefig(ROOT / "docs/growth.svg", metadata={"Date": None})
