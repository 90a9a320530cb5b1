"""The packed model as an ONNX graph, in float32, for onnxruntime.

    python3 graph.py MINILM_BIN MODEL_ONNX

The graph is written with the operators that onnxruntime itself fuses such models into (Attention,
SkipLayerNormalization, BiasGelu): it then runs at least as fast as an exported model after its optimiser.
Inputs: ids and mask, int32 [texts, tokens]. Output: vectors, float32 [texts, 384], of unit length.
Needs: numpy, onnx, tokenizers
"""
import sys
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
import reference

MS = "com.microsoft"

def build(weights):
    nodes, tensors, n = [], [], 0

    def const(name, a):
        tensors.append(numpy_helper.from_array(np.ascontiguousarray(a), name))
        return name

    def f32(name, a):
        return const(name, np.asarray(a, np.float32))

    def op(kind, inputs, domain="", **attrs):
        nonlocal n
        n += 1
        out = f"t{n}"
        nodes.append(helper.make_node(kind, inputs, [out], domain=domain, **attrs))
        return out

    w = weights
    words = op("Gather", [f32("words", w["embeddings.word_embeddings.weight"]), "ids"])
    length = op("Shape", ["ids"], start=1, end=2)
    places = op("Slice", [f32("places", w["places"]), const("zero", np.array([0], np.int64)), length, const("axis0", np.array([0], np.int64))])
    x = op("LayerNormalization", [op("Add", [words, places]), f32("ln.g", w["embeddings.LayerNorm.weight"]), f32("ln.b", w["embeddings.LayerNorm.bias"])], epsilon=1e-12)
    for i in range(reference.LAYERS):
        p = f"encoder.layer.{i}."
        qkv = [p + f"attention.self.{k}" for k in ("query", "key", "value")]
        a = op("Attention", [
            x, f32(p + "qkv.w", np.concatenate([w[k + ".weight"].T for k in qkv], 1)),
            f32(p + "qkv.b", np.concatenate([w[k + ".bias"] for k in qkv])), "mask",
        ], MS, num_heads=reference.HEADS)

        def linear(x, name):
            return op("MatMul", [x, f32(p + name + ".w", w[p + name + ".weight"].T)])

        def skip(x, r, norm, dense):
            names = [f32(p + norm + ".g", w[p + norm + ".weight"]), f32(p + norm + ".b", w[p + norm + ".bias"]), f32(p + dense + ".b", w[p + dense + ".bias"])]
            return op("SkipLayerNormalization", [r, x, *names], MS, epsilon=1e-12)

        x = skip(x, linear(a, "attention.output.dense"), "attention.output.LayerNorm", "attention.output.dense")
        f = op("BiasGelu", [linear(x, "intermediate.dense"), f32(p + "up.b", w[p + "intermediate.dense.bias"])], MS)
        x = skip(x, linear(f, "output.dense"), "output.LayerNorm", "output.dense")
    m = op("Unsqueeze", [op("Cast", ["mask"], to=TensorProto.FLOAT), const("axis2", np.array([2], np.int64))])
    mean = op("ReduceSum", [op("Mul", [x, m]), const("axis1", np.array([1], np.int64))], keepdims=0)
    nodes.append(helper.make_node("LpNormalization", [mean], ["vectors"], axis=1, p=2))
    shape = ["texts", "tokens"]
    graph = helper.make_graph(
        nodes, "minilm",
        [helper.make_tensor_value_info("ids", TensorProto.INT32, shape), helper.make_tensor_value_info("mask", TensorProto.INT32, shape)],
        [helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["texts", reference.DIM])], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid(MS, 1)])
    model.ir_version = 9
    return model

if __name__ == "__main__":
    onnx.save(build(reference.packed(sys.argv[1])), sys.argv[2])
