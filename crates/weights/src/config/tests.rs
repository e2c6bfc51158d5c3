//! Real configurations as they are published, and everything that must be refused.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::profile::RopeScaling;

fn read(config: &Value) -> Result<Profile, ConfigError> {
    parse(config.to_string().as_bytes())
}

fn qwen25_05b() -> Value {
    json!({"architectures": ["Qwen2ForCausalLM"], "attention_dropout": 0.0,
        "bos_token_id": 151643, "eos_token_id": 151645, "hidden_act": "silu",
        "hidden_size": 896, "initializer_range": 0.02, "intermediate_size": 4864,
        "max_position_embeddings": 32768, "max_window_layers": 21, "model_type": "qwen2",
        "num_attention_heads": 14, "num_hidden_layers": 24, "num_key_value_heads": 2,
        "rms_norm_eps": 1e-06, "rope_theta": 1000000.0, "sliding_window": 32768,
        "tie_word_embeddings": true, "torch_dtype": "bfloat16",
        "transformers_version": "4.43.1", "use_cache": true, "use_sliding_window": false,
        "vocab_size": 151936})
}

fn llama32_1b() -> Value {
    json!({"architectures": ["LlamaForCausalLM"], "attention_bias": false,
        "attention_dropout": 0.0, "bos_token_id": 128000,
        "eos_token_id": [128001, 128008, 128009], "head_dim": 64, "hidden_act": "silu",
        "hidden_size": 2048, "initializer_range": 0.02, "intermediate_size": 8192,
        "max_position_embeddings": 131072, "mlp_bias": false, "model_type": "llama",
        "num_attention_heads": 32, "num_hidden_layers": 16, "num_key_value_heads": 8,
        "pretraining_tp": 1, "rms_norm_eps": 1e-05,
        "rope_scaling": {"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
            "original_max_position_embeddings": 8192, "rope_type": "llama3"},
        "rope_theta": 500000.0, "tie_word_embeddings": true, "torch_dtype": "bfloat16",
        "transformers_version": "4.45.0.dev0", "use_cache": true, "vocab_size": 128256})
}

fn mistral_7b() -> Value {
    json!({"architectures": ["MistralForCausalLM"], "bos_token_id": 1, "eos_token_id": 2,
        "hidden_act": "silu", "hidden_size": 4096, "initializer_range": 0.02,
        "intermediate_size": 14336, "max_position_embeddings": 32768, "model_type": "mistral",
        "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8,
        "rms_norm_eps": 1e-05, "rope_theta": 10000.0, "sliding_window": 4096,
        "tie_word_embeddings": false, "torch_dtype": "bfloat16",
        "transformers_version": "4.34.0.dev0", "use_cache": true, "vocab_size": 32000})
}

fn qwen3_06b() -> Value {
    json!({"architectures": ["Qwen3ForCausalLM"], "attention_bias": false,
        "attention_dropout": 0.0, "bos_token_id": 151643, "eos_token_id": 151645,
        "head_dim": 128, "hidden_act": "silu", "hidden_size": 1024, "initializer_range": 0.02,
        "intermediate_size": 3072, "max_position_embeddings": 40960, "max_window_layers": 28,
        "model_type": "qwen3", "num_attention_heads": 16, "num_hidden_layers": 28,
        "num_key_value_heads": 8, "rms_norm_eps": 1e-06, "rope_scaling": null,
        "rope_theta": 1000000, "sliding_window": null, "tie_word_embeddings": true,
        "torch_dtype": "bfloat16", "transformers_version": "4.51.0", "use_cache": true,
        "use_sliding_window": false, "vocab_size": 151936})
}

fn gpt2_config() -> Value {
    json!({"activation_function": "gelu_new", "architectures": ["GPT2LMHeadModel"],
        "attn_pdrop": 0.1, "bos_token_id": 50256, "embd_pdrop": 0.1, "eos_token_id": 50256,
        "initializer_range": 0.02, "layer_norm_epsilon": 1e-05, "model_type": "gpt2",
        "n_ctx": 1024, "n_embd": 768, "n_head": 12, "n_layer": 12, "n_positions": 1024,
        "resid_pdrop": 0.1, "summary_activation": null, "summary_first_dropout": 0.1,
        "summary_proj_to_labels": true, "summary_type": "cls_index", "summary_use_proj": true,
        "task_specific_params": {"text-generation": {"do_sample": true, "max_length": 50}},
        "vocab_size": 50257})
}

fn with(mut config: Value, changes: Value) -> Value {
    for (name, value) in changes.as_object().expect("changes are an object") {
        config[name] = value.clone();
    }
    config
}

fn without(mut config: Value, field: &str) -> Value {
    config.as_object_mut().expect("an object").remove(field);
    config
}

#[test]
fn published_configurations() {
    let qwen = read(&qwen25_05b()).unwrap();
    assert_eq!(
        (qwen.head_dim, qwen.kv_heads, qwen.tied, qwen.windows.len()),
        (64, 2, true, 0)
    );
    assert_eq!(
        qwen.biases,
        Biases {
            qkv: true,
            attention_output: false,
            mlp: false
        }
    );
    assert_eq!(
        qwen.positions,
        Positions::Rope {
            theta: 1_000_000.0,
            scaling: RopeScaling::None
        }
    );

    let llama = read(&llama32_1b()).unwrap();
    let scaling = RopeScaling::Llama3 {
        factor: 32.0,
        low_frequency_factor: 1.0,
        high_frequency_factor: 4.0,
        original_context: 8192,
    };
    assert_eq!(
        llama.positions,
        Positions::Rope {
            theta: 500_000.0,
            scaling: scaling.clone()
        }
    );
    assert_eq!(llama.norm_epsilon.to_bits(), 1e-5_f32.to_bits());

    let mistral = read(&mistral_7b()).unwrap();
    assert_eq!(mistral.windows, vec![Some(4096); 32]);
    assert!(!mistral.tied);

    let qwen3 = read(&qwen3_06b()).unwrap();
    assert!(qwen3.qk_norm && qwen3.tied && !qwen3.biases.qkv);
    assert_eq!((qwen3.head_dim, qwen3.query_width()), (128, 2048));

    let gpt2 = read(&gpt2_config()).unwrap();
    assert!(gpt2.tied);
    assert_eq!(
        (gpt2.head_dim, gpt2.intermediate, gpt2.context),
        (64, 3072, 1024)
    );
    assert_eq!(gpt2.positions, Positions::Learned { count: 1024 });

    // The form of transformers 5 says the same.
    let rope = json!({"rope_theta": 500000.0, "rope_type": "llama3", "factor": 32.0,
        "high_freq_factor": 4.0, "low_freq_factor": 1.0,
        "original_max_position_embeddings": 8192});
    let new = without(without(llama32_1b(), "rope_scaling"), "rope_theta");
    let new = with(new, json!({"rope_parameters": rope, "dtype": "bfloat16"}));
    assert_eq!(read(&new), Ok(llama));
}

#[test]
fn defaults_of_absent_fields_are_those_of_the_family() {
    let base = |family: &str| read(&json!({"model_type": family})).unwrap();
    let llama = base("llama");
    assert_eq!(
        (llama.kv_heads, llama.context, llama.tied),
        (32, 2048, false)
    );
    let mistral = base("mistral");
    assert_eq!((mistral.kv_heads, mistral.window(31)), (8, Some(4096)));
    let qwen3 = base("qwen3");
    assert_eq!(
        (qwen3.head_dim, qwen3.kv_heads, qwen3.tied),
        (128, 32, false)
    );
    assert_eq!(base("qwen2").intermediate, 22_016);
    let gpt2 = base("gpt2");
    assert_eq!(
        (gpt2.vocabulary, gpt2.layers, gpt2.tied),
        (50_257, 12, true)
    );
    // Null and absent differ: null is "as many as query heads".
    let null = read(&json!({"model_type": "mistral", "num_key_value_heads": null})).unwrap();
    assert_eq!(null.kv_heads, 32);
    let null = read(&json!({"model_type": "mistral", "sliding_window": null})).unwrap();
    assert!(null.windows.is_empty());
}

#[test]
fn windows_of_qwen() {
    let small = with(
        qwen25_05b(),
        json!({"num_hidden_layers": 4, "max_window_layers": 3}),
    );
    let on = |changes| read(&with(small.clone(), changes)).map(|profile| profile.windows);
    assert_eq!(on(json!({})), Ok(vec![]));
    let window = Some(32_768);
    let used = json!({"use_sliding_window": true});
    assert_eq!(on(used), Ok(vec![None, None, None, window]));
    let types = json!({"use_sliding_window": true, "sliding_window": 7, "layer_types":
        ["sliding_attention", "full_attention", "sliding_attention", "full_attention"]});
    assert_eq!(on(types), Ok(vec![Some(7), None, Some(7), None]));
    let all = json!({"use_sliding_window": true, "max_window_layers": 0});
    assert_eq!(on(all), Ok(vec![window; 4]));
    for bad in [
        json!({"layer_types": ["full_attention"]}),
        json!({"layer_types": vec!["sliding_attention"; 4]}),
        json!({"layer_types": vec!["chunked_attention"; 4], "use_sliding_window": true}),
        json!({"use_sliding_window": true, "sliding_window": 0}),
    ] {
        assert!(on(bad.clone()).is_err(), "{bad}");
    }
}

/// Each change must be refused, in words that name the field.
#[test]
#[expect(
    clippy::too_many_lines,
    reason = "one table, one line of code per refused field"
)]
fn what_would_change_results_is_refused_by_name() {
    let llama = llama32_1b;
    for (config, field) in [
        (with(llama(), json!({"model_type": "gemma2"})), "gemma2"),
        (without(llama(), "model_type"), "model_type"),
        (
            with(
                llama(),
                json!({"architectures": ["LlamaForSequenceClassification"]}),
            ),
            "architectures",
        ),
        (with(llama(), json!({"hidden_act": "gelu"})), "hidden_act"),
        (
            with(llama(), json!({"quantization_config": {"bits": 4}})),
            "quantization_config",
        ),
        (
            with(llama(), json!({"final_logit_softcapping": 30.0})),
            "final_logit_softcapping",
        ),
        (
            with(llama(), json!({"attn_logit_softcapping": 50.0})),
            "attn_logit_softcapping",
        ),
        (
            with(llama(), json!({"embedding_multiplier": 12.0})),
            "embedding_multiplier",
        ),
        (
            with(llama(), json!({"residual_multiplier": 0.2})),
            "residual_multiplier",
        ),
        (
            with(llama(), json!({"logits_scaling": 8.0})),
            "logits_scaling",
        ),
        (
            with(llama(), json!({"attention_multiplier": 0.01})),
            "attention_multiplier",
        ),
        (
            with(llama(), json!({"query_pre_attn_scalar": 256})),
            "query_pre_attn_scalar",
        ),
        (
            with(llama(), json!({"no_rope_layers": [1, 0]})),
            "no_rope_layers",
        ),
        (
            with(llama(), json!({"attention_chunk_size": 8192})),
            "attention_chunk_size",
        ),
        (
            with(llama(), json!({"num_local_experts": 8})),
            "num_local_experts",
        ),
        (
            with(llama(), json!({"partial_rotary_factor": 0.5})),
            "partial_rotary_factor",
        ),
        (
            with(llama(), json!({"some_new_thing": 1})),
            "some_new_thing",
        ),
        (
            with(llama(), json!({"sliding_window": 4096})),
            "sliding_window",
        ),
        (with(llama(), json!({"hidden_size": "2048"})), "hidden_size"),
        (with(llama(), json!({"hidden_size": -1})), "hidden_size"),
        (
            with(llama(), json!({"num_hidden_layers": 0})),
            "num_hidden_layers",
        ),
        (
            with(
                llama(),
                json!({"rope_scaling": {"type": "dynamic", "factor": 2.0}}),
            ),
            "rope_scaling.type",
        ),
        (
            with(
                llama(),
                json!({"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}),
            ),
            "rope_type",
        ),
        (
            with(llama(), json!({"rope_scaling": {"rope_type": "longrope"}})),
            "rope_type",
        ),
        (
            with(llama(), json!({"rope_scaling": {"rope_type": "linear"}})),
            "rope_scaling.factor",
        ),
        (
            with(
                llama(),
                json!({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}),
            ),
            "low_freq_factor",
        ),
        (
            with(
                llama(),
                json!({"rope_scaling": {"rope_type": "default", "mrope_section": [1]}}),
            ),
            "mrope_section",
        ),
        (with(llama(), json!({"rope_scaling": 3})), "rope_scaling"),
        (
            with(mistral_7b(), json!({"attention_bias": true})),
            "attention_bias",
        ),
        (
            with(
                mistral_7b(),
                json!({"layer_types": vec!["full_attention"; 32]}),
            ),
            "layer_types",
        ),
        (
            with(gpt2_config(), json!({"scale_attn_weights": false})),
            "scale_attn_weights",
        ),
        (
            with(
                gpt2_config(),
                json!({"scale_attn_by_inverse_layer_idx": true}),
            ),
            "scale_attn_by_inverse",
        ),
        (
            with(gpt2_config(), json!({"reorder_and_upcast_attn": true})),
            "reorder_and_upcast_attn",
        ),
        (
            with(gpt2_config(), json!({"add_cross_attention": true})),
            "add_cross_attention",
        ),
        (
            with(gpt2_config(), json!({"activation_function": "relu"})),
            "activation_function",
        ),
        (with(gpt2_config(), json!({"n_head": 7})), "n_head"),
        (
            with(gpt2_config(), json!({"is_encoder_decoder": true})),
            "is_encoder_decoder",
        ),
    ] {
        let error = read(&config).expect_err(field);
        assert!(error.to_string().contains(field), "{field}: {error}");
    }
}

#[test]
fn dimensions_are_bounded() {
    for (changes, cause) in [
        (json!({"hidden_size": 4_000_000_000_u64}), "hidden"),
        (json!({"num_hidden_layers": 1_000_000_000}), "layers"),
        (json!({"vocab_size": 1_000_000_000}), "vocabulary"),
        (json!({"num_key_value_heads": 5}), "5 key heads"),
        (json!({"head_dim": 63}), "63"),
        (json!({"head_dim": 1_000_000}), "heads * head_dim"),
        (json!({"rms_norm_eps": 0.0}), "norm_epsilon"),
        (json!({"rope_theta": -1.0}), "theta"),
        (
            json!({"max_position_embeddings": 4_000_000_000_u64}),
            "context",
        ),
    ] {
        match read(&with(llama32_1b(), changes)).expect_err(cause) {
            ConfigError::Profile(error) => {
                assert!(error.to_string().contains(cause), "{cause}: {error}");
            }
            other => panic!("{cause}: {other}"),
        }
    }
}

#[test]
fn harmless_fields_of_old_dumps_are_ignored() {
    let extra = json!({"_name_or_path": "x", "output_attentions": false, "top_k": 50,
        "temperature": 1.0, "id2label": {"0": "LABEL_0"}, "pruned_heads": {}, "torchscript": false,
        "bad_words_ids": null, "use_mrope": false, "unsloth_version": "2024", "is_decoder": true,
        "chunk_size_feed_forward": 0, "auto_map": {"AutoConfig": "x"}});
    assert_eq!(read(&with(qwen25_05b(), extra)), read(&qwen25_05b()));
}

proptest! {
    /// Whatever a file says: a checked profile or a typed error.
    #[test]
    fn mutations_never_panic(
        which in 0_usize..5,
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        field in "[a-z_]{1,12}",
        number in prop_oneof![any::<u64>().prop_map(Value::from), any::<f64>().prop_map(Value::from)],
    ) {
        let configs = [qwen25_05b(), llama32_1b(), mistral_7b(), qwen3_06b(), gpt2_config()];
        let mut config = configs[which].clone();
        let names: Vec<String> = config.as_object().expect("an object").keys().cloned().collect();
        if let Some((index, _)) = edits.first() {
            config[index.get(&names).as_str()] = number;
        } else {
            config[field.as_str()] = number;
        }
        let mut bytes = config.to_string().into_bytes();
        for (index, byte) in edits.iter().skip(1) {
            let at = index.index(bytes.len());
            bytes[at] = *byte;
        }
        if let Ok(profile) = parse(&bytes) {
            prop_assert_eq!(profile.check(), Ok(()));
        }
    }
}
