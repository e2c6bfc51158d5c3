"""Writes sampling.json: what is left of a distribution after the logits processors of transformers."""
import json
import torch
from transformers import (
    LogitsProcessorList, MinPLogitsWarper, RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper,
)

torch.manual_seed(20)
cases = []
for temperature, top_k, top_p, min_p, repetition in [
    (1.0, 0, 1.0, 0.0, 1.0), (0.7, 0, 1.0, 0.0, 1.0), (1.6, 0, 1.0, 0.0, 1.0), (2.0, 5, 1.0, 0.0, 1.0),
    (1.0, 1, 1.0, 0.0, 1.0), (1.0, 7, 1.0, 0.0, 1.0), (1.0, 0, 0.9, 0.0, 1.0), (1.0, 0, 0.3, 0.0, 1.0),
    (1.0, 0, 0.05, 0.0, 1.0), (0.5, 0, 0.95, 0.0, 1.0), (1.5, 10, 0.8, 0.0, 1.0), (1.0, 0, 1.0, 0.1, 1.0),
    (1.3, 0, 1.0, 0.4, 1.0), (0.8, 20, 0.9, 0.05, 1.0), (1.0, 0, 1.0, 0.0, 1.2), (1.0, 0, 1.0, 0.0, 0.8),
    (0.6, 20, 0.95, 0.0, 1.1), (1.1, 12, 0.9, 0.02, 1.5), (0.3, 0, 0.99, 0.0, 3.0), (1.9, 3, 0.7, 0.2, 1.05),
]:
    logits = [round(x, 3) for x in (torch.randn(24) * 2.5).tolist()]
    prompt = torch.randint(0, 24, (8,)).tolist()
    processors = LogitsProcessorList()
    if repetition != 1.0:
        processors.append(RepetitionPenaltyLogitsProcessor(penalty=repetition))
    if temperature != 1.0:
        processors.append(TemperatureLogitsWarper(temperature))
    if top_k:
        processors.append(TopKLogitsWarper(top_k))
    if top_p < 1.0:
        processors.append(TopPLogitsWarper(top_p))
    if min_p > 0.0:
        processors.append(MinPLogitsWarper(min_p))
    scores = processors(torch.tensor([prompt]), torch.tensor([logits]))
    found = torch.softmax(scores.double(), -1)[0].tolist()
    cases.append({
        "temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p,
        "repetition_penalty": repetition, "prompt": prompt, "logits": logits,
        "probabilities": [[i, round(p, 9)] for i, p in enumerate(found) if p > 0.0],
    })
with open("sampling.json", "w") as file:
    file.write("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n")
