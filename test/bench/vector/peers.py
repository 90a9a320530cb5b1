"""Peers of bench-vector: faiss (flat) and hnswlib, one thread each, on the same vectors.

It reads commands, a JSON array a line, and answers each with a line of JSON. Times are CPU seconds of this process.
"""
import json
import os
import sys
import time

for v in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[v] = "1"
import faiss  # noqa: E402
import hnswlib  # noqa: E402
import numpy as np  # noqa: E402

faiss.omp_set_num_threads(1)
dim = int(sys.argv[2])
base = np.fromfile(sys.argv[1] + "/base.f32", dtype="<f4").reshape(-1, dim)
query = np.fromfile(sys.argv[1] + "/query.f32", dtype="<f4").reshape(-1, dim)
flat = graph = None


def resident():
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * 4096


def timed(run, queries):
    began = time.process_time()
    out = [run(queries[i : i + 1]) for i in range(len(queries))]
    return time.process_time() - began, out


def build_flat():
    global flat
    flat = faiss.IndexFlatIP(dim)
    flat.add(base)
    return {}


def scan(n, k):
    t, out = timed(lambda q: flat.search(q, k)[1][0].tolist(), query[:n])
    return {"cpu": t, "ids": out}


def build_graph(m, breadth):
    global graph
    before = resident()
    began = time.process_time()
    graph = hnswlib.Index(space="ip", dim=dim)
    graph.init_index(max_elements=len(base), M=m, ef_construction=breadth, random_seed=1)
    graph.set_num_threads(1)
    graph.add_items(base, num_threads=1)
    return {"cpu": time.process_time() - began, "bytes": (resident() - before) / len(base)}


def walk(n, k, breadth):
    graph.set_ef(breadth)
    t, out = timed(lambda q: graph.knn_query(q, k=k, num_threads=1)[0][0].tolist(), query[:n])
    return {"cpu": t, "ids": out}


def among(n, k, of):
    """1/of of the vectors are allowed: compared one by one, as who has no filter in the index would."""
    allowed = np.arange(0, len(base), of)
    t, out = timed(lambda q: allowed[np.argpartition(-(base[allowed] @ q[0]), k)[:k]].tolist(), query[:n])
    return {"cpu": t, "ids": out}


def walk_among(n, k, of, breadth):
    graph.set_ef(breadth)
    t, out = timed(lambda q: graph.knn_query(q, k=k, num_threads=1, filter=lambda i: i % of == 0)[0][0].tolist(), query[:n])
    return {"cpu": t, "ids": out}


commands = {f.__name__: f for f in (build_flat, scan, build_graph, walk, among, walk_among)}
print(json.dumps({"faiss": faiss.__version__}), flush=True)
for line in sys.stdin:
    name, *args = json.loads(line)
    print(json.dumps(commands[name](*args)), flush=True)
