"""Trains the built-in rerank head on SciFact and says what it gains, cross-validated.

    go run ./test/bench/rerank DIR DUMP     # DIR in BEIR layout; writes what the encoder makes of it
    python3 train.py DIR DUMP [HEAD]        # prints nDCG@10; writes the head of all folds together

Only queries all of whose documents are in the dump count, so that a part of a corpus can be used. First stage:
BM25 and vectors, fused (RRF, k = 20), the best 30. Each fold's head is trained on the other four (softmax over the
candidates of a query). Needs: numpy
"""
import collections, json, math, re, sys
import numpy as np

NAMES = ["order", "cosine", "nearest", "rare", "pieces"]
TOP, FOLDS = 30, 5
root, dump = sys.argv[1:3]

meta = [json.loads(l) for l in open(dump + ".json")]
queries, docs = [m for m in meta if "q" in m], [m for m in meta if "d" in m]
digest = next((m["encoder"] for m in meta if "encoder" in m), "")
stride = sum(len(q["ids"]) + 1 for q in queries)
raw = np.fromfile(dump, "<f4")
n = min(len(raw) // stride, len(docs))
raw, docs = raw[: n * stride].reshape(n, stride), docs[:n]
place = {d["d"]: i for i, d in enumerate(docs)}
qrels = collections.defaultdict(dict)
for line in open(root + "/qrels.tsv"):
    q, d, grade = line.split("\t")[:3]
    if grade.strip().isdigit() and int(grade) > 0:
        qrels[q][d] = int(grade)
text = {}
for line in open(root + "/corpus.jsonl"):
    o = json.loads(line)
    text[o["_id"]] = o.get("title", "") + " " + o["text"]
asked = {o["_id"]: o["text"] for o in map(json.loads, open(root + "/queries.jsonl"))}

STOP = set("a an and are as at be by for from has have in is it its of on or that the to was were will with not no this which than into these those can may".split())
def words(s):
    out = []
    for w in re.findall(r"[a-z0-9]+", s.lower()):
        if w not in STOP:
            for end in ("ations", "ation", "ingly", "edly", "ing", "ies", "ed", "es", "s", "ly"):
                if w.endswith(end) and len(w) - len(end) >= 3:
                    w = w[: -len(end)]
                    break
            out.append(w)
    return out

index, length = collections.defaultdict(list), np.zeros(n)
for i, d in enumerate(docs):
    c = collections.Counter(words(text[d["d"]]))
    length[i] = sum(c.values())
    for w, k in c.items():
        index[w].append((i, k))
def idf(df, of):
    return math.log(1 + (of - df + 0.5) / (df + 0.5))
def bm25(q):
    s = np.zeros(n)
    for w in set(words(q)):
        for i, k in index.get(w, []):
            s[i] += idf(len(index[w]), n) * k * 1.9 / (k + 0.9 * (0.6 + 0.4 * length[i] / length.mean()))
    return s
def rank(s):
    r = np.empty(n)
    r[np.argsort(-s, kind="stable")] = np.arange(n)
    return r
def ndcg(order, rel):
    best = sum(1 / math.log2(i + 2) for i in range(min(10, len(rel))))
    return sum(1 / math.log2(i + 2) for i, d in enumerate(order[:10]) if docs[d]["d"] in rel) / best

X, Y, tops, rels, base = [], [], [], [], collections.defaultdict(list)
at = 0
sets = [set(d["ids"]) for d in docs]
for q in queries:
    block = raw[:, at : at + len(q["ids"]) + 1]
    at += len(q["ids"]) + 1
    rel = qrels.get(q["q"], {})
    if not rel or any(d not in place for d in rel):
        continue
    cosine, best, words25 = block[:, 0], block[:, 1:], bm25(asked[q["q"]])
    fused = 1 / (20 + rank(words25)) + 1 / (20 + rank(cosine))
    top = np.argsort(-fused, kind="stable")[:TOP]
    for name, s in (("bm25", words25), ("dense", cosine), ("fused", fused), ("nearest", best.mean(1))):
        base[name].append(ndcg(np.argsort(-s, kind="stable"), rel))
    w = {t: idf(sum(t in sets[d] for d in top), len(top)) for t in set(q["ids"])}
    per = np.array([w[t] for t in q["ids"]])
    X.append(np.stack([
        20 / (20 + np.arange(len(top))), cosine[top], best[top].mean(1), best[top] @ per / per.sum(),
        np.array([sum(v for t, v in w.items() if t in sets[d]) for d in top]) / sum(w.values()),
    ], 1))
    Y.append(np.array([float(docs[d]["d"] in rel) for d in top]))
    tops.append(top)
    rels.append(rel)
X, Y = np.stack(X), np.stack(Y)

def train(X, Y, steps=300, l2=1e-3):
    keep = Y.sum(1) > 0
    X, Y = X[keep], Y[keep] / Y[keep].sum(1, keepdims=True)
    sd = X.reshape(-1, X.shape[2]).std(0) + 1e-9
    X = (X - X.mean((0, 1))) / sd
    w = m = v = np.zeros(X.shape[2])
    for s in range(1, steps + 1):  # Adam
        z = X @ w
        p = np.exp(z - z.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        g = np.einsum("qdf,qd->f", X, p - Y) / len(X) + l2 * w
        m, v = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g * g
        w = w - 0.05 * (m / (1 - 0.9**s)) / (np.sqrt(v / (1 - 0.99**s)) + 1e-8)
    return w / sd

print(f"{n} documents, {len(X)} queries; nDCG@10:", {k: round(float(np.mean(v)), 4) for k, v in base.items()})
fold = np.arange(len(X)) % FOLDS
for cols in ([0, 1], [0, 1, 4], [0, 1, 2], [0, 1, 3], [0, 1, 2, 3, 4]):
    got = np.zeros(len(X))
    for f in range(FOLDS):
        w = train(X[fold != f][:, :, cols], Y[fold != f])
        for i in np.flatnonzero(fold == f):
            got[i] = ndcg(tops[i][np.argsort(-(X[i][:, cols] @ w), kind="stable")], rels[i])
    gain = got - np.array(base["fused"])
    print([NAMES[c] for c in cols], f"reranked {got.mean():.4f}, gain {gain.mean():+.4f} ± {gain.std() / math.sqrt(len(gain)):.4f}")
w = train(X, Y).astype("<f4")
print("weights", dict(zip(NAMES, map(float, w))))
if len(sys.argv) > 3:
    about = {"kind": "rerank", "encoder": digest, "features": json.dumps(NAMES), "source": "SciFact (Wadden et al. 2020), CC BY 4.0"}
    head = json.dumps({"__metadata__": about, "weight": {"dtype": "F32", "shape": [1, len(w)], "data_offsets": [0, 4 * len(w)]}, "bias": {"dtype": "F32", "shape": [1], "data_offsets": [4 * len(w), 4 * len(w) + 4]}}, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    open(sys.argv[3], "wb").write(len(head).to_bytes(8, "little") + head + w.tobytes() + bytes(4))
