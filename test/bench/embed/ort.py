"""The other side of `make bench-embed`: all-MiniLM-L6-v2 in onnxruntime, one thread, tokenising included.

    python3 ort.py TOKENIZER_JSON MODEL_ONNX TEXTS_JSON

TEXTS_JSON is an object of lists. Reads lines "NAME SECONDS BATCH" and answers each with {"texts", "cpu_s"}; first it
writes {"memory_mb"} after one text. Needs: numpy, onnxruntime, tokenizers
"""
import json, os, resource, sys, time

for name in ("OMP_NUM_THREADS", "RAYON_NUM_THREADS", "TOKENIZERS_PARALLELISM"):
    os.environ[name] = "false" if name.startswith("TOK") else "1"
import numpy as np
import onnxruntime
from tokenizers import Tokenizer

tok = Tokenizer.from_file(sys.argv[1])
tok.enable_truncation(256)
tok.enable_padding()
o = onnxruntime.SessionOptions()
o.intra_op_num_threads = o.inter_op_num_threads = 1
o.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
session = onnxruntime.InferenceSession(sys.argv[2], o, providers=["CPUExecutionProvider"])
texts = json.load(open(sys.argv[3]))

def embed(part):
    enc = tok.encode_batch(part)
    ids = np.array([e.ids for e in enc], np.int32)
    mask = np.array([e.attention_mask for e in enc], np.int32)
    return session.run(None, {"ids": ids, "mask": mask})[0]

def say(**what):
    print(json.dumps(what), flush=True)

embed(["hello"])
say(memory_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
for line in sys.stdin:
    name, seconds, batch = line.split()
    all, batch, n = texts[name], int(batch), 0
    embed(all[:batch])
    end, cpu = time.monotonic() + float(seconds), time.process_time()
    while time.monotonic() < end or n == 0:
        at = n % (len(all) - batch + 1)
        n += len(embed(all[at : at + batch]))
    say(texts=n, cpu_s=time.process_time() - cpu, memory_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
