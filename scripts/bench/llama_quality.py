#!/usr/bin/env python3
"""How far llama.cpp's Q8_0 and Q4_0 are from its own F32, on random tokens: the same figures as `skein bench quality`.

    skein bench quality --shape tiny --formats q8,q4 --kv-formats f32     # writes the folder into its cache
    python scripts/bench/llama_quality.py --model FOLDER [--texts 20] [--tokens 64]

Needs what llama.py needs. Scores are compared as logarithms of probabilities; errors are over the standard deviation of
the scores of F32. Prints one line of JSON for each format.
"""

import argparse
import json
import random
from pathlib import Path

from llama import Model, gguf_of


def log_probabilities(path, texts, threads):
    """[text][position][token], as float64."""
    import ctypes

    import numpy as np

    model = Model(path, threads, max(map(len, texts)) + 64, exact_kv=True)
    rows = []
    for text in texts:
        model.clear()
        model.read(text)
        for place in range(len(text)):
            logits = model.lib.llama_get_logits_ith(model.context, place)
            size = model.vocabulary
            values = np.ctypeslib.as_array(ctypes.cast(logits, ctypes.POINTER(ctypes.c_float)), (size,))
            values = values.astype(np.float64)
            top = values.max()
            rows.append(values - top - np.log(np.exp(values - top).sum()))
    return np.stack(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, type=Path)
    parser.add_argument("--formats", default="q8,q4")
    parser.add_argument("--texts", type=int, default=20)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()

    import numpy as np

    folder = args.model.resolve()
    vocabulary = json.loads((folder / "config.json").read_text())["vocab_size"]
    draw = random.Random(1)
    texts = [[draw.randrange(vocabulary) for _ in range(args.tokens)] for _ in range(args.texts)]
    formats = args.formats.split(",")
    # All before llama.cpp has threads: the writer is forked, and would wait for theirs.
    files = {dtype: gguf_of(folder, dtype) for dtype in ["f32", *formats]}
    exact = log_probabilities(files["f32"], texts, args.threads)
    scale = exact.std(axis=1).mean()
    for dtype in formats:
        found = log_probabilities(files[dtype], texts, args.threads)
        difference = found - exact
        print(json.dumps({
            "format": dtype,
            "positions": len(exact),
            "divergence": float(-(np.exp(exact) * difference).sum(axis=1).mean()),
            "same_choice": float((found.argmax(axis=1) == exact.argmax(axis=1)).mean()),
            "error": float(np.sqrt((difference ** 2).mean()) / scale),
            "error_p99": float(np.quantile(np.abs(difference), 0.99) / scale),
            "error_max": float(np.abs(difference).max() / scale),
        }))


if __name__ == "__main__":
    main()
