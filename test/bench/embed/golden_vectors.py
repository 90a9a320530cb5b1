"""Writes the vectors that the packed model must give, computed by onnxruntime on the same weights in float32.

    python3 golden_vectors.py DIR MINILM_BIN > ../../../service/infer/golden/vectors.jsonl

DIR holds the model's tokenizer.json. One JSON object a line: text, tokens, truncated, vector (base64 of
little-endian float32). Each is compared with a plain float64 computation (reference.py) on the way.
Needs: numpy, onnx, onnxruntime==1.32.0, tokenizers==0.23.3
"""
import base64, json, sys
import numpy as np
import onnxruntime
import golden_texts, graph, reference

weights = reference.packed(sys.argv[2])
model = reference.Model(sys.argv[1] + "/tokenizer.json", weights)
session = onnxruntime.InferenceSession(graph.build(weights).SerializeToString(), providers=["CPUExecutionProvider"])
worst = 0.0
for text in golden_texts.texts():
    ids, more = model.ids(text)
    row = np.array([ids], np.int32)
    v = session.run(None, {"ids": row, "mask": np.ones_like(row)})[0][0].astype("<f4")
    worst = max(worst, np.abs(v - model.embed(ids)).max())
    assert worst < 2e-6, (text, worst)
    print(json.dumps({"text": text, "tokens": len(ids), "truncated": more, "vector": base64.b64encode(v.tobytes()).decode()}, separators=(",", ":")))
print(f"onnxruntime against float64: {worst:.2g} at most", file=sys.stderr)
