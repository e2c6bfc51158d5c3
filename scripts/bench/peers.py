#!/usr/bin/env python3
"""Measure transformers on a model folder, one round at a time.

`skein bench model --peer-transformers PYTHON` starts this, so that its rounds interleave with Skein's
own on the same machine. It can also be run by hand:

    echo round | python scripts/bench/peers.py --model DIR --dtype bf16 --threads 2

Reads one command a line from standard input and answers each with one line of JSON:

    round   {"prefill": tokens/s, "decode": tokens/s}
    end     {"peak_bytes": N} and exits, as it does when its input ends

The first line it writes says that the model is loaded: {"ready": true, "load_seconds": s, ...}.
"""

import argparse
import json
import os
import resource
import sys
import time


def say(value):
    print(json.dumps(value), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--dtype", choices=["f32", "bf16"], required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--decode", type=int, default=128)
    parser.add_argument("--seconds", type=float, default=15,
                        help="stop decoding after this long: the rate is of the tokens until then")
    args = parser.parse_args()

    # Before torch is imported: it reads them then. Nothing is to be fetched.
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    import torch
    import transformers

    torch.set_num_threads(args.threads)
    dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[args.dtype]
    start = time.perf_counter()
    model = transformers.AutoModelForCausalLM.from_pretrained(args.model, dtype=dtype)
    model.eval()
    say({
        "ready": True,
        "load_seconds": time.perf_counter() - start,
        "versions": f"transformers {transformers.__version__}, torch {torch.__version__}",
    })
    vocabulary = model.config.vocab_size

    def ids(count):
        return torch.randint(0, vocabulary, (1, count))

    def prefill(tokens):
        out = model(tokens, use_cache=True, logits_to_keep=1)
        return out.past_key_values, out.logits[:, -1].argmax(-1, keepdim=True)

    def round_():
        tokens = ids(args.prompt)
        start = time.perf_counter()
        prefill(tokens)
        prefill_rate = args.prompt / (time.perf_counter() - start)
        past, token = prefill(ids(args.decode))
        start = time.perf_counter()
        decoded, seconds = 0, 0.0
        while decoded < args.decode and seconds < args.seconds:
            out = model(token, past_key_values=past, use_cache=True)
            past, token = out.past_key_values, out.logits[:, -1].argmax(-1, keepdim=True)
            decoded, seconds = decoded + 1, time.perf_counter() - start
        say({"prefill": prefill_rate, "decode": decoded / seconds})

    with torch.inference_mode():
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
