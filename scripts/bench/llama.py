#!/usr/bin/env python3
"""Measure llama.cpp on a model folder, one round at a time.

`skein bench model --peer-llama PYTHON` starts this, so that its rounds interleave with Skein's own on the same machine.
It needs torch, safetensors, gguf and llama-cpp-python, which builds llama.cpp for the processor at hand:

    pip install torch safetensors numpy gguf && pip install --no-binary llama-cpp-python llama-cpp-python

By hand: echo round | python scripts/bench/llama.py --model DIR --dtype q8 --threads 2

The folder's weights are written to a GGUF file beside it first (all matrices in the one type: Q8_0, Q4_0, BF16, F32).
Reads one command a line from standard input and answers each with one line of JSON:

    round   {"prefill": tokens/s, "decode": tokens/s, "batched": [[sessions, tokens/s of all], ...]}
    end     {"peak_bytes": N} and exits, as it does when its input ends

The first line it writes says that the model is loaded: {"ready": true, "load_seconds": s, "versions": "..."}.
"""

import argparse
import ctypes
import json
import multiprocessing
import os
import random
import resource
import sys
import time
from pathlib import Path

BATCHES = [4, 8, 16]
# Rows of one call.
ROWS = 2048


def say(value):
    print(json.dumps(value), flush=True)


def write_gguf(folder, path, dtype):
    """Qwen2's tensors under llama.cpp's names."""
    import gguf
    import gguf.quants
    import numpy as np
    import torch
    from safetensors import safe_open

    config = json.loads((folder / "config.json").read_text())
    if config["model_type"] != "qwen2":
        sys.exit(f"{config['model_type']} is not known here: only qwen2 is")
    kind = {
        "q8": gguf.GGMLQuantizationType.Q8_0,
        "q4": gguf.GGMLQuantizationType.Q4_0,
        "bf16": gguf.GGMLQuantizationType.BF16,
        "f32": gguf.GGMLQuantizationType.F32,
    }[dtype]
    part = path.with_suffix(".part")
    writer = gguf.GGUFWriter(part, "qwen2")
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config.get("rope_theta", 1e6))
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("no_vocab")
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN2, config["num_hidden_layers"])
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():
                if name == "lm_head.weight" and config.get("tie_word_embeddings"):
                    continue
                values = tensors.get_tensor(name).to(torch.float32).numpy()
                stored = kind if values.ndim == 2 else gguf.GGMLQuantizationType.F32
                raw = gguf.quants.quantize(np.ascontiguousarray(values), stored)
                target = names.get_name(name, try_suffixes=(".weight", ".bias"))
                writer.add_tensor(target, raw, raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    part.rename(path)


class Model:
    def __init__(self, path, threads, context, exact_kv=False):
        import llama_cpp

        self.lib = llama_cpp
        # What it has to say about itself goes to nobody.
        self.quiet = llama_cpp.llama_log_callback(lambda level, text, data: None)
        llama_cpp.llama_log_set(self.quiet, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        parameters = llama_cpp.llama_model_default_params()
        parameters.n_gpu_layers = 0
        self.model = llama_cpp.llama_model_load_from_file(os.fsencode(path), parameters)
        if not self.model:
            sys.exit(f"llama.cpp does not load {path}")
        parameters = llama_cpp.llama_context_default_params()
        parameters.n_ctx = context
        parameters.n_batch = ROWS
        parameters.n_ubatch = 512
        parameters.n_seq_max = max(BATCHES)
        parameters.n_threads = parameters.n_threads_batch = threads
        parameters.kv_unified = True
        if exact_kv:
            parameters.type_k = parameters.type_v = llama_cpp.GGML_TYPE_F32
        self.context = llama_cpp.llama_init_from_model(self.model, parameters)
        if not self.context:
            sys.exit("llama.cpp makes no context")
        self.batch = llama_cpp.llama_batch_init(ROWS, 0, 1)
        self.vocabulary = llama_cpp.llama_vocab_n_tokens(
            llama_cpp.llama_model_get_vocab(self.model))

    def clear(self):
        self.lib.llama_memory_clear(self.lib.llama_get_memory(self.context), True)

    def decode(self, rows):
        """One batch of (session, position, wants logits), of random tokens."""
        self.run([(random.randrange(self.vocabulary), *row) for row in rows])

    def read(self, text):
        """A text of at most ROWS tokens, all of whose logits are wanted."""
        self.run([(token, 0, place, True) for place, token in enumerate(text)])

    def run(self, rows):
        """One batch of (token, session, position, wants logits)."""
        batch = self.batch
        batch.n_tokens = len(rows)
        for index, (token, session, position, wanted) in enumerate(rows):
            batch.token[index] = token
            batch.pos[index] = position
            batch.n_seq_id[index] = 1
            batch.seq_id[index][0] = session
            batch.logits[index] = wanted
        if self.lib.llama_decode(self.context, batch) != 0:
            sys.exit("llama.cpp cannot decode a batch")
        self.lib.llama_synchronize(self.context)

    def prompt(self, sessions, length):
        for session in range(sessions):
            for first in range(0, length, ROWS):
                places = range(first, min(length, first + ROWS))
                self.decode([(session, place, place == length - 1) for place in places])


def gguf_of(folder, dtype):
    """The GGUF file beside a folder, written if it is not there or older."""
    path = folder.with_name(f"{folder.name}-{dtype}.gguf")
    newest = max(file.stat().st_mtime_ns for file in folder.iterdir())
    if not path.exists() or path.stat().st_mtime_ns < newest:
        # In a process of its own: its memory is not the peer's.
        writer = multiprocessing.get_context("fork").Process(target=write_gguf, args=(folder, path, dtype))
        writer.start()
        writer.join()
        if writer.exitcode != 0:
            sys.exit(f"no GGUF file was made of {folder}")
    return path


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, type=Path)
    parser.add_argument("--dtype", choices=["f32", "bf16", "q8", "q4"], required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--decode", type=int, default=128)
    args = parser.parse_args()

    path = gguf_of(args.model.resolve(), args.dtype)
    start = time.perf_counter()
    most = max(args.prompt, max(BATCHES) * 2 * args.decode)
    model = Model(path, args.threads, most + 64)
    import llama_cpp

    say({
        "ready": True,
        "load_seconds": time.perf_counter() - start,
        "versions": f"llama-cpp-python {llama_cpp.__version__}",
    })

    def rate(sessions):
        model.clear()
        model.prompt(sessions, args.decode)
        start = time.perf_counter()
        for place in range(args.decode, 2 * args.decode):
            model.decode([(session, place, True) for session in range(sessions)])
        return sessions * args.decode / (time.perf_counter() - start)

    def round_():
        model.clear()
        start = time.perf_counter()
        model.prompt(1, args.prompt)
        prefill = args.prompt / (time.perf_counter() - start)
        say({"prefill": prefill, "decode": rate(1), "batched": [[n, rate(n)] for n in BATCHES]})

    for line in sys.stdin:
        command = line.strip()
        if command == "round":
            round_()
        elif command == "end":
            break
        elif command:
            sys.exit(f"unknown command {command!r}: write round or end")
    say({"peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024})


if __name__ == "__main__":
    main()
