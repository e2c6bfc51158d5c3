//! Which fields of a configuration are read, which change nothing, and which are refused.

use serde_json::Value;

use super::{ConfigError, Fields};
use crate::profile::Family;

/// Fields that the rotary families read, or whose value is checked elsewhere.
const READ_ROTARY: &[&str] = &[
    "model_type",
    "architectures",
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "hidden_act",
    "max_position_embeddings",
    "rms_norm_eps",
    "rope_theta",
    "rope_scaling",
    "rope_parameters",
    "partial_rotary_factor",
    "tie_word_embeddings",
    "layer_types",
];

const READ_GPT2: &[&str] = &[
    "model_type",
    "architectures",
    "vocab_size",
    "n_embd",
    "n_head",
    "n_layer",
    "n_positions",
    "n_inner",
    "hidden_size",
    "num_attention_heads",
    "num_hidden_layers",
    "max_position_embeddings",
    "layer_norm_epsilon",
    "activation_function",
    "scale_attn_weights",
    "tie_word_embeddings",
    // A second name of n_positions that old configurations carry; nothing reads it.
    "n_ctx",
    "summary_type",
    "summary_use_proj",
    "summary_activation",
    "summary_proj_to_labels",
    "summary_first_dropout",
    "resid_pdrop",
    "embd_pdrop",
    "attn_pdrop",
];

/// Fields that change training, generation settings, bookkeeping or file names, never logits.
const HARMLESS: &[&str] = &[
    "_name_or_path",
    "_attn_implementation",
    "_attn_implementation_autoset",
    "attn_implementation",
    "_commit_hash",
    "_flash_attn_2_enabled",
    "_output_attentions",
    "transformers_version",
    "transformers.js_config",
    "torch_dtype",
    "dtype",
    "use_cache",
    "initializer_range",
    "attention_dropout",
    "hidden_dropout",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "sep_token_id",
    "decoder_start_token_id",
    "auto_map",
    "task_specific_params",
    "pretraining_tp",
    "chunk_size_feed_forward",
    "output_attentions",
    "output_hidden_states",
    "output_scores",
    "return_dict",
    "return_dict_in_generate",
    "id2label",
    "label2id",
    "num_labels",
    "problem_type",
    "finetuning_task",
    "is_decoder",
    "tokenizer_class",
    "prefix",
    "torchscript",
    "tf_legacy_loss",
    "use_bfloat16",
    "gradient_checkpointing",
    "neftune_noise_alpha",
    "max_length",
    "min_length",
    "max_new_tokens",
    "do_sample",
    "early_stopping",
    "num_beams",
    "num_beam_groups",
    "diversity_penalty",
    "temperature",
    "top_k",
    "top_p",
    "typical_p",
    "repetition_penalty",
    "length_penalty",
    "no_repeat_ngram_size",
    "encoder_no_repeat_ngram_size",
    "bad_words_ids",
    "num_return_sequences",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "remove_invalid_values",
    "exponential_decay_length_penalty",
    "suppress_tokens",
    "begin_suppress_tokens",
    "unsloth_version",
    "unsloth_fixed",
    "model_name",
    "max_sequence_length",
    "tie_encoder_decoder",
];

/// Fields that are refused with a word on why, where they are on.
const REFUSED: &[(&str, &str)] = &[
    (
        "quantization_config",
        "quantised checkpoints are served from GGUF; convert this one",
    ),
    (
        "compression_config",
        "quantised checkpoints are served from GGUF; convert this one",
    ),
    ("final_logit_softcapping", "it caps logits"),
    ("attn_logit_softcapping", "it caps attention scores"),
    ("embedding_multiplier", "it scales embeddings"),
    ("residual_multiplier", "it scales the residual stream"),
    ("attention_multiplier", "it scales attention scores"),
    ("logits_scaling", "it scales logits"),
    ("query_pre_attn_scalar", "it scales attention scores"),
    ("no_rope_layers", "it leaves layers without positions"),
    ("attention_chunk_size", "it cuts attention into chunks"),
    ("num_experts", "mixtures of experts are not served"),
    ("num_local_experts", "mixtures of experts are not served"),
    ("num_experts_per_tok", "mixtures of experts are not served"),
    ("is_encoder_decoder", "only decoders are served"),
    ("vision_config", "images are not served"),
    (
        "original_max_position_embeddings",
        "write it inside rope_parameters",
    ),
];

/// Refuses the fields that nobody here reads and that are not known to be harmless.
pub(super) fn refuse_unknown(family: Family, fields: &Fields) -> Result<(), ConfigError> {
    for (name, value) in fields.iter() {
        if is_off(value) || is_known(family, name) {
            continue;
        }
        let reason = REFUSED
            .iter()
            .find(|(refused, _)| *refused == name)
            .map(|(_, why)| *why);
        let reason =
            reason.unwrap_or("this field is unknown for the family, and may change results");
        return Err(fields.unsupported(name, reason));
    }
    Ok(())
}

/// How configurations say that a feature is not used.
fn is_off(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(true) | Value::Number(_) => false,
    }
}

fn is_known(family: Family, name: &str) -> bool {
    if HARMLESS.contains(&name) {
        return true;
    }
    match family {
        Family::Gpt2 => READ_GPT2.contains(&name),
        Family::Llama => {
            READ_ROTARY.contains(&name) || ["attention_bias", "mlp_bias"].contains(&name)
        }
        // A window of layers (max_window_layers) is Qwen's; Mistral windows every layer.
        Family::Mistral => READ_ROTARY.contains(&name) || name == "sliding_window",
        // attention_bias is written by some tools for Qwen2, whose biases are fixed.
        Family::Qwen2 | Family::Qwen3 => {
            READ_ROTARY.contains(&name)
                || [
                    "attention_bias",
                    "use_sliding_window",
                    "sliding_window",
                    "max_window_layers",
                ]
                .contains(&name)
        }
    }
}
