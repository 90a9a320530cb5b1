"""Others on the same corpus and queries: bm25s for BM25, and rank fusion by an independent implementation.

Usage: peers.py DATA KEPT, where KEPT has words.run, meaning.run, hybrid.run, ranks.run and their .json, as `aran eval search` writes them.
"""

import json
import math
import pathlib
import sys
import time

import bm25s
import numpy as np
import Stemmer

data, kept = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
COPIES = 100_000  # passages of the large corpus


def lines(name):
    with open(data / name, encoding="utf-8") as f:
        return [json.loads(x) for x in f if x.strip()]


def judgements():
    path = data / "qrels.tsv"
    if not path.exists():
        path = data / "qrels" / "test.tsv"
    out = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        f = line.split("\t")
        if len(f) < 3:
            continue
        try:
            out.setdefault(f[0], {})[f[-2]] = int(float(f[-1]))
        except ValueError:
            continue  # the header
    return {q: d for q, d in out.items() if any(g > 0 for g in d.values())}


qrels = judgements()


def ndcg(ranking, grades, k=10):
    gain = sum(max(grades.get(d, 0), 0) / math.log2(i + 2) for i, d in enumerate(ranking[:k]))
    ideal = sum(g / math.log2(i + 2) for i, g in enumerate(sorted((g for g in grades.values() if g > 0), reverse=True)[:k]))
    return gain / ideal


def recall(ranking, grades, k=100):
    relevant = {d for d, g in grades.items() if g > 0}
    return len(relevant & set(ranking[:k])) / len(relevant)


def show(name, runs, note=""):
    queries = [q for q in qrels if q in runs]
    if not queries:
        print(f"{name:42} no ranking")
        return
    n = sum(ndcg(runs[q], qrels[q]) for q in queries) / len(queries)
    r = sum(recall(runs[q], qrels[q]) for q in queries) / len(queries)
    print(f"{name:42} {n:8.4f} {r:11.4f}   {note}")


def run_file(name):
    out = {}
    for line in (kept / name).read_text(encoding="utf-8").splitlines():
        # An id may hold spaces: the query's is before " Q0 ", the document's before the last three columns.
        query, rest = line.split(" Q0 ", 1)
        out.setdefault(query, []).append(rest.rsplit(" ", 3)[0])
    return out


def rrf(a, b, k=20):
    out = {}
    for q in set(a) | set(b):
        score = {}
        for ranking in (a.get(q, []), b.get(q, [])):
            for i, d in enumerate(ranking):
                score[d] = score.get(d, 0) + 1 / (k + i + 1)
        out[q] = sorted(score, key=lambda d: -score[d])
    return out


def latency(mode):
    t = json.loads((kept / f"{mode}.json").read_text())["latency_ms"]
    return f"p50 {t['p50']:.2f} ms, p99 {t['p99']:.2f} ms, over HTTP with rights and audit"


def quantiles(took):
    took = np.array(took) * 1000
    return f"p50 {np.quantile(took, .5):.2f} ms, p99 {np.quantile(took, .99):.2f} ms"


corpus, queries = lines("corpus.jsonl"), [q for q in lines("queries.jsonl") if str(q["_id"]) in qrels]
ids = [str(d["_id"]) for d in corpus]
texts = [(d.get("title") or "") + " " + (d.get("text") or "") for d in corpus]
stemmer = Stemmer.Stemmer("english")


def peer(texts, progress):
    print(f"   bm25s: {progress}", file=sys.stderr)
    index = bm25s.BM25(k1=1.2, b=0.75)
    index.index(bm25s.tokenize(texts, stopwords="en", stemmer=stemmer, show_progress=False), show_progress=False)
    runs, took = [], []
    for q in queries:
        began = time.perf_counter()
        tokens = bm25s.tokenize([q["text"]], stopwords="en", stemmer=stemmer, show_progress=False)
        found, _ = index.retrieve(tokens, k=min(100, len(texts)), show_progress=False)
        took.append(time.perf_counter() - began)
        runs.append([int(i) for i in found[0]])
    return runs, took


runs, took = peer(texts, f"{len(texts)} documents")
theirs = {str(q["_id"]): [ids[i] for i in r] for q, r in zip(queries, runs)}
words, meaning = run_file("words.run"), run_file("meaning.run")

print(f"\n{'':42} {'nDCG@10':>8} {'recall@100':>11}")
show("bm25s (k1 1.2, b .75, Snowball)", theirs, quantiles(took) + ", in process")
show("Aran, words", words, latency("words"))
show("Aran, meaning", meaning, latency("meaning"))
show("reference: RRF (k 20) of Aran's two lists", rrf(words, meaning))
show("reference: RRF (k 20) of bm25s and meaning", rrf(theirs, meaning))
show("Aran, hybrid, search.fusion: ranks", run_file("ranks.run"), latency("ranks"))
show("Aran, hybrid (search.fusion: scores)", run_file("hybrid.run"), latency("hybrid"))

large = [f"{texts[i % len(texts)]} copy{i // len(texts)}" for i in range(COPIES)]
_, took = peer(large, f"{COPIES} documents (the corpus again and again)")
print(f"\nbm25s at {COPIES} documents: {quantiles(took)}, in process")
