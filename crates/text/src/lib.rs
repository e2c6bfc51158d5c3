//! Turn words into tokens and scores into words: tokenizer, chat template, sampler, stop strings.
