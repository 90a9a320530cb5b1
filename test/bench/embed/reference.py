"""all-MiniLM-L6-v2 in plain numpy, float64: slow, and easy to compare with the paper (BERT, Devlin et al. 2018)."""
import math, struct
import numpy as np
from tokenizers import Tokenizer

DIM, HEADS, LAYERS, WINDOW, VOCAB, GROUP, COLS = 384, 12, 6, 256, 30522, 48, 32

def original(path):
    """weights of model.safetensors"""
    from safetensors.numpy import load_file
    w = {k: v.astype(np.float64) for k, v in load_file(path).items() if v.dtype == np.float32}
    w["places"] = w["embeddings.position_embeddings.weight"][:WINDOW] + w["embeddings.token_type_embeddings.weight"][0]
    return w

def packed(path):
    """weights of minilm.bin, unpacked as service/infer/minilm/pack describes them"""
    b = open(path, "rb").read()
    assert b[:8] == b"aranmlm1"
    at = 16 + sum(struct.unpack("<II", b[8:16]))
    at += -at % 64

    def take(kind, *shape):
        nonlocal at
        a = np.frombuffer(b, kind, math.prod(shape), at).reshape(shape)
        at += a.nbytes
        return a

    def floats(*shape):
        return take("<f4", *shape).astype(np.float64)

    def matrix(cols, *names):
        rows = DIM * len(names) if len(names) > 1 else (4 * DIM if "intermediate" in names[0] else DIM)
        p = take("u1", rows // COLS, cols, COLS + COLS // 2)
        hi = p[:, :, :COLS].view(np.int8).astype(int)
        lo = np.concatenate([p[:, :, COLS:] & 15, p[:, :, COLS:] >> 4], 2).astype(int)
        m = (hi * 16 + lo).transpose(0, 2, 1).reshape(rows, cols) * floats(rows)[:, None]
        bias = floats(rows)
        for i, name in enumerate(names):
            w[name + ".weight"], w[name + ".bias"] = np.split(m, len(names))[i], np.split(bias, len(names))[i]

    w = {}
    words = take("i1", VOCAB, DIM).astype(np.float64)
    scales = (take("<u2", VOCAB, DIM // GROUP).astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    w["embeddings.word_embeddings.weight"] = words * np.repeat(scales, GROUP, 1)
    w["places"] = floats(WINDOW, DIM)
    w["embeddings.LayerNorm.weight"], w["embeddings.LayerNorm.bias"] = floats(DIM), floats(DIM)
    for i in range(LAYERS):
        p = f"encoder.layer.{i}."
        matrix(DIM, *(p + f"attention.self.{n}" for n in ("query", "key", "value")))
        matrix(DIM, p + "attention.output.dense")
        w[p + "attention.output.LayerNorm.weight"], w[p + "attention.output.LayerNorm.bias"] = floats(DIM), floats(DIM)
        matrix(DIM, p + "intermediate.dense")
        matrix(4 * DIM, p + "output.dense")
        w[p + "output.LayerNorm.weight"], w[p + "output.LayerNorm.bias"] = floats(DIM), floats(DIM)
    assert at == len(b)
    return w

_erf = np.frompyfunc(math.erf, 1, 1)

def norm(x, gain, bias):
    d = x - x.mean(-1, keepdims=True)
    return d / np.sqrt((d * d).mean(-1, keepdims=True) + 1e-12) * gain + bias

class Model:
    def __init__(self, tokenizer, weights):
        self.w = weights
        self.tok = Tokenizer.from_file(tokenizer)
        self.tok.no_padding()
        self.tok.no_truncation()
        self.tok.encode_special_tokens = True  # a text that spells "[SEP]" is plain text

    def ids(self, text):
        """token ids with markers, and whether the text goes on after the window"""
        ids = self.tok.encode(text, add_special_tokens=False).ids
        return [101] + ids[: WINDOW - 2] + [102], len(ids) > WINDOW - 2

    def embed(self, ids):
        w, n = self.w, len(ids)
        x = norm(w["embeddings.word_embeddings.weight"][ids] + w["places"][:n], w["embeddings.LayerNorm.weight"], w["embeddings.LayerNorm.bias"])
        for i in range(LAYERS):
            p = f"encoder.layer.{i}."
            def linear(x, name):
                return x @ w[p + name + ".weight"].T + w[p + name + ".bias"]
            q, k, v = (linear(x, f"attention.self.{name}").reshape(n, HEADS, -1).transpose(1, 0, 2) for name in ("query", "key", "value"))
            a = q @ k.transpose(0, 2, 1) / math.sqrt(DIM // HEADS)
            a = np.exp(a - a.max(-1, keepdims=True))
            a = (a / a.sum(-1, keepdims=True)) @ v
            x = norm(x + linear(a.transpose(1, 0, 2).reshape(n, DIM), "attention.output.dense"), w[p + "attention.output.LayerNorm.weight"], w[p + "attention.output.LayerNorm.bias"])
            f = linear(x, "intermediate.dense")
            f = f * 0.5 * (1 + _erf(f / math.sqrt(2)).astype(np.float64))
            x = norm(x + linear(f, "output.dense"), w[p + "output.LayerNorm.weight"], w[p + "output.LayerNorm.bias"])
        v = x.mean(0)
        return v / np.linalg.norm(v)
