"""Scores of other libraries on the same rows.

Usage: peers.py ROWS OUT. ROWS has lines of {"text", ...}; OUT/<peer>.jsonl gets one line a row, in their order:
{"score", "flagged", "us"}. Each runs as it comes from the package index, in one thread, without models that it would have
to fetch.
"""

import json
import os
import pathlib
import sys
import time

os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false")


def guardlayer():
    from guardlayer import GuardLayer

    guard = GuardLayer.from_preset("balanced")

    def judge(text):
        r = guard.scan_input(text)
        return r.score, r.is_blocked or r.is_flagged

    return judge


def agentbastion():
    from agentbastion import Firewall

    firewall = Firewall()

    def judge(text):  # it has no score of its own: severity first, then the number of matches
        r = firewall.inbound.scan(text)
        return r.max_severity + len(r.matches) / 1000, firewall.inbound.is_blocked(r)

    return judge


def prompt_armor():
    from prompt_armor import analyze

    def judge(text):
        r = analyze(text)
        return r.risk_score, r.decision.value == "block"

    return judge


rows = [json.loads(line)["text"] for line in open(sys.argv[1], encoding="utf-8")]
out = pathlib.Path(sys.argv[2])
for name, make in (("guardlayer", guardlayer), ("agentbastion", agentbastion), ("prompt-armor", prompt_armor)):
    judge = make()
    judge("Hello, what is this?")  # what is loaded at first use is not a text's time
    with open(out / f"{name}.jsonl", "w", encoding="utf-8") as f:
        for text in rows:
            begin = time.perf_counter()
            score, flagged = judge(text)
            f.write(json.dumps({"score": float(score), "flagged": bool(flagged), "us": (time.perf_counter() - begin) * 1e6}) + "\n")
