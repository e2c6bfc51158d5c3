use proptest::prelude::*;
use serde::Deserialize;

use super::*;

/// Scores of a whole small vocabulary, as the last stage makes them.
fn scores(logits: &[f32], keep: usize, asked: &[u32]) -> Scores {
    let mut top: Vec<(u32, f32)> = (0u32..).zip(logits.iter().copied()).collect();
    top.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    top.truncate(keep);
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&l| f64::from(l - highest).exp()).sum();
    let asked = asked.iter().map(|&id| (id, logits[id as usize])).collect();
    Scores {
        top,
        log_sum_exp: highest + sum.ln() as f32,
        asked,
    }
}

fn distribution(params: &SamplingParams, prompt: &[u32], logits: &[f32]) -> Vec<(u32, f64)> {
    let sampler = Sampler::new(params.clone(), prompt);
    let raw = sampler
        .candidates(&scores(logits, 256, &sampler.asked()))
        .expect("valid");
    let mut list: Vec<(u32, f64)> = raw
        .iter()
        .map(|(&id, &l)| (id, sampler.adjusted(id, f64::from(l))))
        .collect();
    list.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let kept = sampler.kept(&list, list[0].1);
    let total: f64 = kept.iter().map(|k| k.1).sum();
    kept.into_iter()
        .map(|(id, weight)| (id, weight / total))
        .collect()
}

#[derive(Deserialize)]
struct Case {
    temperature: f32,
    top_k: u32,
    top_p: f32,
    min_p: f32,
    repetition_penalty: f32,
    prompt: Vec<u32>,
    logits: Vec<f32>,
    probabilities: Vec<(u32, f64)>,
}

/// Probabilities computed with the logits processors of transformers.
#[test]
fn filtered_distributions_equal_those_of_transformers() {
    let cases: Vec<Case> =
        serde_json::from_str(include_str!("../../tests/data/sampling.json")).expect("valid");
    assert!(cases.len() >= 20);
    for (index, case) in cases.iter().enumerate() {
        let params = SamplingParams {
            temperature: case.temperature,
            top_k: case.top_k,
            top_p: case.top_p,
            min_p: case.min_p,
            repetition_penalty: case.repetition_penalty,
            ..SamplingParams::default()
        };
        let mut found = distribution(&params, &case.prompt, &case.logits);
        found.sort_by_key(|&(id, _)| id);
        let ids: Vec<u32> = found.iter().map(|f| f.0).collect();
        let wanted: Vec<u32> = case.probabilities.iter().map(|p| p.0).collect();
        assert_eq!(ids, wanted, "case {index}");
        for (found, wanted) in found.iter().zip(&case.probabilities) {
            assert!(
                (found.1 - wanted.1).abs() < 1e-5,
                "case {index}: {found:?} {wanted:?}"
            );
        }
    }
}

#[test]
fn penalties_and_bias_follow_the_formula_on_the_whole_distribution() {
    let logits = [2.0, -1.0, 0.5, 3.0, -2.5, 1.5];
    let mut params = SamplingParams {
        repetition_penalty: 1.3,
        presence_penalty: 0.7,
        frequency_penalty: 0.4,
        ..SamplingParams::default()
    };
    params.logit_bias.insert(4, 5.0);
    let mut sampler = Sampler::new(params, &[1, 3]);
    for id in [0, 0, 4] {
        sampler.accept(id);
    }
    let adjusted: Vec<f64> = (0u32..)
        .zip(logits)
        .map(|(id, l)| sampler.adjusted(id, l))
        .collect();
    let r = f64::from(1.3f32);
    let (p, f) = (f64::from(0.7f32), f64::from(0.4f32));
    let wanted = [
        2.0 / r - (p + 2.0 * f),
        -r,
        0.5,
        3.0 / r,
        2.5 / r - (p + f),
        1.5,
    ];
    assert_eq!(adjusted, wanted);
}

/// The counts of many draws against the exact probabilities: chi-square with 5 degrees of freedom
/// stays under 25 with probability 0.99986; seeds are fixed.
#[test]
fn draws_follow_the_distribution() {
    let logits = [1.0, 0.0, -0.5, 2.0, 0.3, -1.0];
    for (temperature, first_seed) in [(1.0, 0u64), (0.5, 1 << 40), (1.7, u64::MAX - 5)] {
        let params = SamplingParams {
            temperature,
            ..SamplingParams::default()
        };
        let wanted = distribution(&params, &[], &logits);
        let mut counts = BTreeMap::new();
        let (seeds, steps) = (200u64, 50);
        for seed in 0..seeds {
            let seed = first_seed.wrapping_add(seed);
            let mut sampler = Sampler::new(
                SamplingParams {
                    seed,
                    ..params.clone()
                },
                &[],
            );
            for _ in 0..steps {
                let id = sampler
                    .sample(&scores(&logits, 256, &[]))
                    .expect("valid")
                    .id;
                *counts.entry(id).or_insert(0.0) += 1.0;
            }
        }
        let n = (seeds * steps) as f64;
        let chi: f64 = wanted
            .iter()
            .map(|(id, p)| (counts.get(id).unwrap_or(&0.0) - n * p).powi(2) / (n * p))
            .sum();
        assert!(chi < 25.0, "temperature {temperature}: chi-square {chi}");
    }
}

/// The sequence is part of what a seed promises: it may never change.
#[test]
fn random_numbers_are_as_specified() {
    let key = |seed: u64| mix(seed.wrapping_add(GAMMA));
    // SplitMix64 from state 0 begins with this word.
    assert_eq!(key(0), 0xe220_a839_7b1d_cdaf);
    let mut state = key(7);
    for step in 0..4 {
        state = state.wrapping_add(GAMMA);
        assert_eq!(
            uniform(key(7), step),
            (mix(state) >> 11) as f64 / 9_007_199_254_740_992.0
        );
    }
    assert_ne!(seed_of_choice(7, 1), seed_of_choice(7, 2));
    assert_eq!(seed_of_choice(7, 0), 7);
}

#[test]
fn a_step_depends_on_seed_and_number_only() {
    let logits: Vec<f32> = (0..300).map(|i| (i as f32 * 0.37).sin() * 3.0).collect();
    let params = SamplingParams {
        seed: 99,
        ..SamplingParams::default()
    };
    let mut whole = Sampler::new(params.clone(), &[5]);
    let ids: Vec<u32> = (0..20)
        .map(|_| whole.sample(&scores(&logits, 256, &[])).expect("valid").id)
        .collect();
    let mut resumed = Sampler::new(params, &[5]);
    ids[..13].iter().for_each(|&id| resumed.accept(id));
    for &id in &ids[13..] {
        assert_eq!(
            resumed
                .sample(&scores(&logits, 256, &[]))
                .expect("valid")
                .id,
            id
        );
    }
    assert_eq!(resumed.step(), 20);
}

#[test]
fn bias_bans_and_forces() {
    let logits = [5.0, 4.0, 3.0, 2.0, 1.0, 0.0];
    let with = |id: u32, bias: f32, temperature: f32| {
        let logit_bias = BTreeMap::from([(id, bias)]);
        let params = SamplingParams {
            logit_bias,
            temperature,
            ..SamplingParams::default()
        };
        let mut sampler = Sampler::new(params, &[]);
        assert_eq!(sampler.asked(), [id]);
        // Only two are among the best: the forced one comes because it was asked for.
        (0..20)
            .map(|_| {
                sampler
                    .sample(&scores(&logits, 2, &[id]))
                    .expect("valid")
                    .id
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(with(5, 100.0, 1.0), [5; 20]);
    assert_eq!(with(5, 100.0, 0.0), [5; 20]);
    assert_eq!(with(0, -100.0, 1.0), [1; 20]);
    assert_eq!(with(0, -100.0, 0.0), [1; 20]);
}

#[test]
fn raising_penalties_ask_for_what_they_raise() {
    let params = SamplingParams {
        presence_penalty: -2.0,
        ..SamplingParams::default()
    };
    let mut sampler = Sampler::new(params, &[8, 9]);
    sampler.accept(3);
    assert_eq!(sampler.asked(), [3, 8, 9]);
    (0..2000).for_each(|id| sampler.accept(id));
    let asked = sampler.asked();
    assert_eq!(
        (asked.len(), asked[0]),
        (ASKED_SCORES_MAX, 2000 - ASKED_SCORES_MAX as u32)
    );
    let lowering = SamplingParams {
        presence_penalty: 1.0,
        ..SamplingParams::default()
    };
    assert!(Sampler::new(lowering, &[8, 9]).asked().is_empty());
}

#[test]
fn edges_of_the_filters() {
    let logits = [0.0, 0.0, 0.0, 0.0];
    let ids = |params: SamplingParams| {
        distribution(&params, &[], &logits)
            .iter()
            .map(|k| k.0)
            .collect::<Vec<_>>()
    };
    let base = SamplingParams::default();
    assert_eq!(
        ids(SamplingParams {
            top_p: 0.0,
            ..base.clone()
        }),
        [0]
    );
    assert_eq!(
        ids(SamplingParams {
            top_p: 0.5,
            ..base.clone()
        }),
        [0, 1]
    );
    assert_eq!(
        ids(SamplingParams {
            top_p: 0.50001,
            ..base.clone()
        }),
        [0, 1, 2]
    );
    assert_eq!(
        ids(SamplingParams {
            top_k: 3,
            ..base.clone()
        }),
        [0, 1, 2]
    );
    assert_eq!(
        ids(SamplingParams {
            top_k: 9,
            min_p: 1.0,
            ..base.clone()
        }),
        [0, 1, 2, 3]
    );
    let cold = SamplingParams {
        temperature: 1e-6,
        ..base
    };
    let mut sampler = Sampler::new(cold, &[]);
    assert_eq!(
        sampler
            .sample(&scores(&[0.0, 30.0, 29.9], 3, &[]))
            .expect("valid")
            .id,
        1
    );
}

#[test]
fn logprobs_are_of_the_unmodified_distribution() {
    let logits = [0.0, 1.0, 2.0];
    let params = SamplingParams {
        temperature: 0.0,
        top_logprobs: 2,
        logit_bias: BTreeMap::from([(0, 50.0)]),
        ..SamplingParams::default()
    };
    let sampled = Sampler::new(params, &[])
        .sample(&scores(&logits, 3, &[0]))
        .expect("valid");
    let sum = (1.0f64 + 1f64.exp() + 2f64.exp()).ln();
    assert_eq!(sampled.id, 0);
    assert!((f64::from(sampled.logprob) + sum).abs() < 1e-6);
    assert_eq!(sampled.top.iter().map(|t| t.0).collect::<Vec<_>>(), [2, 1]);
    assert!((f64::from(sampled.top[0].1) - (2.0 - sum)).abs() < 1e-6);
}

#[test]
fn the_mass_outside_is_known() {
    let scores = scores(&[0.0; 8], 2, &[5]);
    assert!((mass_outside(&scores) - 5.0 / 8.0).abs() < 1e-6);
}

#[test]
fn bad_scores_are_refused() {
    let good = || scores(&[1.0, 2.0, 3.0], 3, &[]);
    let refused = |change: &dyn Fn(&mut Scores)| {
        let mut scores = good();
        change(&mut scores);
        let mut sampler = Sampler::new(SamplingParams::default(), &[]);
        let error = sampler.sample(&scores).expect_err("bad");
        assert_eq!(sampler.step(), 0, "a refused step does not count");
        error
    };
    assert!(matches!(
        refused(&|s| s.top.clear()),
        SampleError::Empty { step: 0 }
    ));
    assert!(matches!(
        refused(&|s| s.top[1].1 = f32::NAN),
        SampleError::NotFinite { .. }
    ));
    assert!(matches!(
        refused(&|s| s.top[1].1 = f32::INFINITY),
        SampleError::NotFinite { .. }
    ));
    assert!(matches!(
        refused(&|s| s.log_sum_exp = f32::NAN),
        SampleError::NotFinite { .. }
    ));
    assert!(matches!(
        refused(&|s| s.top[1].0 = s.top[0].0),
        SampleError::Conflict { .. }
    ));
    assert!(matches!(
        refused(&|s| s.asked.push((0, 9.0))),
        SampleError::Conflict { id: 0, .. }
    ));
    assert!(matches!(
        refused(&|s| s.top = vec![(0, 0.0); 257]),
        SampleError::TooMany { .. }
    ));
    let nothing = |s: &mut Scores| s.top.iter_mut().for_each(|t| t.1 = f32::NEG_INFINITY);
    assert!(matches!(refused(&nothing), SampleError::Empty { .. }));
    let logit_bias = BTreeMap::from([(2000, 1.0)]);
    let params = SamplingParams {
        logit_bias,
        ..SamplingParams::default()
    };
    let missing = Sampler::new(params, &[]).sample(&good());
    assert_eq!(missing, Err(SampleError::Missing { step: 0, id: 2000 }));
}

#[test]
fn bad_settings_are_named() {
    let base = SamplingParams::default();
    let check = |params: SamplingParams, text: &str| {
        assert_eq!(params.validate(100).expect_err("bad").to_string(), text);
    };
    assert_eq!(base.validate(100), Ok(()));
    assert_eq!(SamplingParams::greedy().validate(100), Ok(()));
    let bad = SamplingParams {
        temperature: 2.5,
        ..base.clone()
    };
    check(bad, "temperature must be between 0 and 2, not 2.5");
    let bad = SamplingParams {
        top_p: f32::NAN,
        ..base.clone()
    };
    check(bad, "top_p must be between 0 and 1, not NaN");
    let bad = SamplingParams {
        repetition_penalty: 0.0,
        ..base.clone()
    };
    assert!(matches!(
        bad.validate(1),
        Err(ParamsError::Range {
            field: "repetition_penalty",
            ..
        })
    ));
    let bad = SamplingParams {
        top_logprobs: 21,
        ..base.clone()
    };
    check(bad, "top_logprobs must be between 0 and 20, not 21");
    let bad = SamplingParams {
        logit_bias: BTreeMap::from([(100, 1.0)]),
        ..base.clone()
    };
    check(
        bad,
        "logit_bias names token 100, but the vocabulary ends at 100",
    );
    let bad = SamplingParams {
        logit_bias: BTreeMap::from([(1, -101.0)]),
        ..base.clone()
    };
    check(bad, "logit_bias must be between -100 and 100, not -101");
    let many = (0..=BIASES_MAX as u32).map(|id| (id, 0.0)).collect();
    let bad = SamplingParams {
        logit_bias: many,
        ..base
    };
    assert!(matches!(
        bad.validate(10_000),
        Err(ParamsError::TooManyBiases { .. })
    ));
}

proptest! {
    #[test]
    fn greedy_is_the_first_of_the_greatest(logits in prop::collection::vec(-5i8..5, 1..300)) {
        let logits: Vec<f32> = logits.into_iter().map(f32::from).collect();
        let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let wanted = logits.iter().position(|&l| l == highest).expect("some") as u32;
        let mut sampler = Sampler::new(SamplingParams::greedy(), &[]);
        prop_assert_eq!(sampler.sample(&scores(&logits, 256, &[])).expect("valid").id, wanted);
    }

    #[test]
    fn any_valid_settings_choose_a_candidate(
        logits in prop::collection::vec(-40.0f32..40.0, 1..300),
        (temperature, top_k, top_p, min_p) in (0.0f32..2.0, 0u32..300, 0.0f32..=1.0, 0.0f32..=1.0),
        (repetition, presence, frequency) in (0.01f32..100.0, -2.0f32..2.0, -2.0f32..2.0),
        seed: u64,
    ) {
        let params = SamplingParams {
            temperature, top_k, top_p, min_p, repetition_penalty: repetition,
            presence_penalty: presence, frequency_penalty: frequency, seed,
            ..SamplingParams::default()
        };
        prop_assert_eq!(params.validate(300), Ok(()));
        let mut sampler = Sampler::new(params, &[0]);
        for _ in 0..5 {
            let sampled = sampler.sample(&scores(&logits, 256, &sampler.asked())).expect("valid");
            prop_assert!((sampled.id as usize) < logits.len());
            prop_assert!(sampled.logprob <= 1e-3);
        }
    }
}
