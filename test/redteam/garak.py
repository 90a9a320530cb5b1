"""What a garak report says, as a table: attempts of each probe and detector, and how many of them the attack won.

Usage: garak.py REPORT.jsonl
"""

import collections
import json
import sys

evals, answers = [], collections.Counter()
for line in open(sys.argv[1], encoding="utf-8"):
    row = json.loads(line)
    if row.get("entry_type") == "eval":
        evals.append(row)
    if row.get("entry_type") == "attempt" and row.get("status") == 2:
        for o in row["outputs"]:
            answers[row["probe_classname"], o is None] += 1
won = total = 0
print(f"{'probe':44} {'detector':40} {'attempts':>8} {'won':>5} {'no answer':>9}")
for e in evals:
    n = e.get("total_evaluated", e.get("total"))
    lost = n - e["passed"]
    won, total = won + lost, total + n
    name = e["probe"].removeprefix("probes.")
    print(f"{name:44} {e['detector'].removeprefix('detector.'):40} {n:8} {lost:5} {answers[name, True]:9}")
print(f"{'all':44} {'':40} {total:8} {won:5}")
