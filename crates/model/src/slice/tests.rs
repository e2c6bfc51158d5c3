use super::*;
use crate::kv::{KvFormat, KvPages, PAGE_POSITIONS};
use crate::testing::{FAMILIES, Random, RandomModel, RandomTensor, digest, profile, same_bits};
use skein_weights::profile::Family;
use skein_weights::source::{CanonicalTensor, ReadError};
use skein_weights::{Part, WeightSource};

/// A model cut into slices, each with its own KV.
struct Cut {
    slices: Vec<(SliceModel, KvPages)>,
}

/// How to run: what must not matter.
#[derive(Debug, Clone, Copy)]
struct Way {
    slices: u32,
    threads: usize,
    chunk: usize,
    set: InstructionSet,
}

impl Cut {
    fn new(source: &dyn WeightSource, kv_format: KvFormat, way: Way) -> Self {
        let pool = Arc::new(Pool::new(way.threads));
        let cut = Slice::even(source.profile().layers, way.slices).expect("slices fit the layers");
        let load = |slice: Slice| {
            let kv = KvPages::new(source.profile(), &slice, kv_format, 64 << 20);
            let model = SliceModel::load(source, slice, None, Arc::clone(&pool)).expect("loads");
            (model.with_instruction_set(way.set), kv)
        };
        Self {
            slices: cut.into_iter().map(load).collect(),
        }
    }

    /// One batch of `(sequences, ids)` through all slices; scores of every row, all ids asked.
    fn step(&mut self, sequences: &mut [Vec<Sequence>], ids: &[Vec<u32>]) -> Vec<Scores> {
        let vocabulary = self.slices[0].0.profile().vocabulary;
        let asked: Vec<u32> = (0..vocabulary).collect();
        let all: Vec<u32> = ids.iter().flatten().copied().collect();
        let mut hidden = Vec::new();
        for (index, (model, kv)) in self.slices.iter_mut().enumerate() {
            let mut segments = Vec::new();
            for (sequences, ids) in sequences.iter_mut().zip(ids) {
                let sequence = &mut sequences[index];
                kv.reserve(sequence, sequence.len() + ids.len())
                    .expect("room");
                let scores = ScoreRows::All;
                segments.push(Segment {
                    sequence,
                    rows: ids.len(),
                    scores,
                    asked: &asked,
                });
            }
            let input = if index == 0 {
                Input::Ids(&all)
            } else {
                Input::Hidden(&hidden)
            };
            match model
                .forward(kv, &mut segments, input)
                .expect("a good batch")
            {
                Output::Scores(scores) => return scores,
                Output::Hidden(values) => hidden = values,
            }
        }
        unreachable!("the last slice gives scores")
    }

    fn sequences(&mut self, count: usize) -> Vec<Vec<Sequence>> {
        (0..count)
            .map(|_| {
                self.slices
                    .iter_mut()
                    .map(|(_, kv)| kv.sequence())
                    .collect()
            })
            .collect()
    }

    /// Logits of every position of `ids`, fed in chunks.
    fn logits(&mut self, ids: &[u32], chunk: usize) -> Vec<f32> {
        let mut sequences = self.sequences(1);
        let mut logits = Vec::new();
        for part in ids.chunks(chunk) {
            for scores in self.step(&mut sequences, &[part.to_vec()]) {
                logits.extend(scores.asked.iter().map(|(_, logit)| *logit));
                logits.push(scores.log_sum_exp);
            }
        }
        for (sequence, (_, kv)) in sequences.remove(0).into_iter().zip(&mut self.slices) {
            kv.release(sequence);
        }
        logits
    }
}

fn tokens(seed: u64, count: usize) -> Vec<u32> {
    let mut random = Random::new(seed);
    (0..count).map(|_| random.below(307) as u32).collect()
}

fn reference(source: &dyn WeightSource, kv: KvFormat, ids: &[u32]) -> Vec<f32> {
    let set = InstructionSet::detect();
    let way = Way {
        slices: 1,
        threads: 1,
        chunk: ids.len(),
        set,
    };
    Cut::new(source, kv, way).logits(ids, ids.len())
}

/// A model whose matrices have too many exponents for twelve bits a weight; perhaps with a weight that is no number.
#[derive(Debug)]
struct Wide {
    model: RandomModel,
    broken: bool,
}

impl WeightSource for Wide {
    fn profile(&self) -> &Profile {
        &self.model.profile
    }

    fn tensor(&self, part: Part, name: &str) -> Result<Box<dyn CanonicalTensor + '_>, ReadError> {
        let tensor = self.model.tensor(part, name)?;
        let shape = tensor.shape().to_vec();
        let rows = if shape.len() == 1 { 1 } else { shape[0] };
        let mut values = vec![0.0; shape.iter().product::<u64>() as usize];
        tensor.read_f32(0..rows, &mut values)?;
        if shape.len() == 2 {
            for (at, value) in values.iter_mut().enumerate() {
                *value *= f32::from_bits(((at * 37 % 61) as u32 + 80) << 23);
            }
            if self.broken && name == "mlp_down.weight" {
                *values.last_mut().expect("weights") = f32::INFINITY;
            }
        }
        let dtype = self.model.dtype;
        Ok(Box::new(RandomTensor {
            dtype,
            shape,
            values,
        }))
    }
}

#[test]
fn weights_with_many_exponents_stay_as_they_are() {
    let wide = |dtype, broken| Wide {
        model: RandomModel {
            profile: profile(Family::Llama),
            dtype,
        },
        broken,
    };
    let ids = tokens(9, 21);
    let kv = KvFormat::F32;
    let expected = reference(&wide(Dtype::F32, false), kv, &ids);
    let found = reference(&wide(Dtype::Bf16, false), kv, &ids);
    same_bits(&found, &expected, "plain bf16");
    let load = |source: &dyn WeightSource| {
        let slice = Slice::whole(source.profile().layers);
        SliceModel::load(source, slice, None, Arc::new(Pool::new(2)))
    };
    let bytes = |source: &dyn WeightSource| load(source).expect("loads").weight_bytes();
    let narrow = wide(Dtype::Bf16, false).model;
    assert!(bytes(&wide(Dtype::Bf16, false)) > bytes(&narrow));
    let refused = load(&wide(Dtype::Bf16, true)).map(drop);
    assert!(
        matches!(&refused, Err(LoadError::NotFinite { name, .. }) if name == "mlp_down.weight"),
        "{refused:?}"
    );
}

/// The same bits for any cut, chunking, thread count and instruction set.
#[test]
fn invariance_of_a_whole_model() {
    let held = [
        (Dtype::F32, KvFormat::F32),
        (Dtype::Bf16, KvFormat::F32),
        (Dtype::Q8, KvFormat::F32),
        (Dtype::Q4, KvFormat::F32),
        (Dtype::Bf16, KvFormat::Int8),
        (Dtype::Q4, KvFormat::Int8),
    ];
    for (family, (dtype, kv)) in FAMILIES
        .into_iter()
        .flat_map(|family| held.map(|held| (family, held)))
    {
        let source = RandomModel {
            profile: profile(family),
            dtype,
        };
        let ids = tokens(3, 75);
        let expected = reference(&source, kv, &ids);
        for way in ways() {
            let found = Cut::new(&source, kv, way).logits(&ids, way.chunk);
            let what = format!("{family:?} {dtype} {kv:?} {way:?}");
            same_bits(&found, &expected, &what);
        }
    }
}

/// A model whose matrices are not of one format: what goes up in a layer, and what comes down.
#[derive(Debug)]
struct Mixed {
    profile: Profile,
    up: Dtype,
    down: Dtype,
}

impl WeightSource for Mixed {
    fn profile(&self) -> &Profile {
        &self.profile
    }

    fn tensor(&self, part: Part, name: &str) -> Result<Box<dyn CanonicalTensor + '_>, ReadError> {
        let source = RandomModel {
            profile: self.profile.clone(),
            dtype: match name.split('.').next() {
                Some("mlp_gate" | "mlp_up") => self.up,
                Some("mlp_down") => self.down,
                _ => Dtype::F32,
            },
        };
        let tensor = source.tensor(part, name)?;
        let mut values = vec![0.0; tensor.shape().iter().product::<u64>() as usize];
        let rows = if tensor.shape().len() == 1 {
            1
        } else {
            tensor.shape()[0]
        };
        tensor.read_f32(0..rows, &mut values)?;
        Ok(Box::new(RandomTensor {
            dtype: tensor.dtype(),
            shape: tensor.shape().to_vec(),
            values,
        }))
    }
}

/// Activations are quantised while products of other formats are computed, or not at all; also by more threads than
/// there are shares.
#[test]
fn invariance_of_mixed_formats() {
    for family in [Family::Qwen2, Family::Gpt2] {
        for (up, down) in [
            (Dtype::Bf16, Dtype::Q8),
            (Dtype::Q4, Dtype::F32),
            (Dtype::Q8, Dtype::Q4),
            (Dtype::Q4, Dtype::Q8),
        ] {
            let profile = profile(family);
            let source = Mixed { profile, up, down };
            let ids = tokens(5, 75);
            let expected = reference(&source, KvFormat::F32, &ids);
            let many = Way {
                slices: 1,
                threads: 7,
                chunk: 17,
                set: InstructionSet::detect(),
            };
            for way in ways().into_iter().chain([many]) {
                let found = Cut::new(&source, KvFormat::F32, way).logits(&ids, way.chunk);
                same_bits(
                    &found,
                    &expected,
                    &format!("{family:?} {up} {down} {way:?}"),
                );
            }
        }
    }
}

/// No rows are no work, whatever the format.
#[test]
fn nothing_is_computed_for_nobody() {
    for dtype in [Dtype::F32, Dtype::Bf16, Dtype::Q8, Dtype::Q4] {
        let source = RandomModel {
            profile: profile(Family::Qwen2),
            dtype,
        };
        let layers = source.profile.layers;
        let cut = Slice::even(layers, 2).expect("slices fit the layers");
        let pool = Arc::new(Pool::new(2));
        let slice = cut.into_iter().next_back().expect("two slices");
        let mut kv = KvPages::new(&source.profile, &slice, KvFormat::F32, 1 << 20);
        let model = SliceModel::load(&source, slice, None, pool).expect("loads");
        let output = model.forward(&mut kv, &mut [], Input::Hidden(&[]));
        assert!(matches!(output, Ok(Output::Scores(scores)) if scores.is_empty()));
    }
}

/// Cuts, threads and chunks of a prompt of 75 tokens, then all instruction sets.
fn ways() -> Vec<Way> {
    let cuts = [
        (1, 2, 75),
        (1, 1, 1),
        (2, 1, 7),
        (3, 2, 32),
        (4, 1, 33),
        (4, 2, 75),
    ];
    let best = InstructionSet::detect();
    let cuts = cuts.map(|(slices, threads, chunk)| Way {
        slices,
        threads,
        chunk,
        set: best,
    });
    let sets = InstructionSet::available();
    let sets = sets.into_iter().map(|set| Way {
        slices: 1,
        threads: 1,
        chunk: 40,
        set,
    });
    cuts.into_iter().chain(sets).collect()
}

/// A row does not feel its neighbours in a batch, whoever they are.
#[test]
fn invariance_of_a_row_in_any_batch() {
    for (family, kv) in FAMILIES
        .into_iter()
        .flat_map(|family| KvFormat::ALL.map(|kv| (family, kv)))
    {
        let source = RandomModel {
            profile: profile(family),
            dtype: Dtype::F32,
        };
        let prompts: Vec<Vec<u32>> = (0..6).map(|i| tokens(i, 5 + 13 * i as usize)).collect();
        let alone: Vec<Vec<f32>> = prompts.iter().map(|p| reference(&source, kv, p)).collect();
        let way = Way {
            slices: 2,
            threads: 2,
            chunk: 0,
            set: InstructionSet::detect(),
        };
        let mut cut = Cut::new(&source, kv, way);
        let mut sequences = cut.sequences(prompts.len());
        let mut found: Vec<Vec<f32>> = vec![Vec::new(); prompts.len()];
        let mut random = Random::new(99);
        let mut fed = vec![0; prompts.len()];
        while fed.iter().zip(&prompts).any(|(fed, p)| *fed < p.len()) {
            let ids: Vec<Vec<u32>> = prompts
                .iter()
                .zip(&fed)
                .map(|(p, fed)| p[*fed..p.len().min(fed + random.below(9))].to_vec())
                .collect();
            let mut scores = cut.step(&mut sequences, &ids).into_iter();
            for (index, ids) in ids.iter().enumerate() {
                for scores in scores.by_ref().take(ids.len()) {
                    found[index].extend(scores.asked.iter().map(|(_, logit)| *logit));
                    found[index].push(scores.log_sum_exp);
                }
                fed[index] += ids.len();
            }
        }
        for (found, alone) in found.iter().zip(&alone) {
            same_bits(found, alone, &format!("{family:?} {kv:?}"));
        }
    }
}

/// What two sessions share, and what one of them did before, leaves no trace.
#[test]
fn invariance_over_forks_and_reuse_of_pages() {
    let source = RandomModel {
        profile: profile(Family::Qwen2),
        dtype: Dtype::F32,
    };
    let way = Way {
        slices: 1,
        threads: 1,
        chunk: 0,
        set: InstructionSet::detect(),
    };
    for kv in KvFormat::ALL {
        forks_and_reuse(&source, kv, way);
    }
}

fn forks_and_reuse(source: &RandomModel, kv: KvFormat, way: Way) {
    let mut cut = Cut::new(source, kv, way);
    let base = tokens(1, 50);
    let mut sequences = cut.sequences(1);
    cut.step(&mut sequences, std::slice::from_ref(&base));
    for len in [0, 1, 31, 32, 33, 49] {
        let mut other = base[..len].to_vec();
        other.extend(tokens(len as u64 + 70, 20));
        let fork = cut.slices[0].1.fork(&sequences[0][0], len);
        let mut fork = vec![vec![fork]];
        let scores = cut.step(&mut fork, &[other[len..].to_vec()]);
        let expected = reference(source, kv, &other);
        let width = 308;
        let found: Vec<f32> = scores
            .iter()
            .flat_map(|s| s.asked.iter().map(|a| a.1).chain([s.log_sum_exp]))
            .collect();
        same_bits(
            &found,
            &expected[len * width..],
            &format!("{kv:?}, fork at {len}"),
        );
        cut.slices[0].1.release(fork.remove(0).remove(0));
    }
}

/// The numerics of every release: if a digest changes, answers change, and
/// [`KERNEL_REVISION`] must change with it.
#[test]
fn golden_digests_of_every_family() {
    let golden = [
        "30e2d0d392809813",
        "30adc609db8557ea",
        "2b0a536f25c6f283",
        "6a8765f71d4d9667",
        "cdda5dd7c33394a0",
    ];
    let golden_int8 = [
        "5fefea59ffbf5c4e",
        "4171e71e00b61091",
        "cf3d3758342058e1",
        "5c295862257c691a",
        "cf30288d12ec124c",
    ];
    let digests = |kv| {
        FAMILIES.map(|family| {
            let source = RandomModel {
                profile: profile(family),
                dtype: Dtype::Bf16,
            };
            digest(&reference(&source, kv, &tokens(5, 70)))
        })
    };
    assert_eq!(digests(KvFormat::F32), golden, "{FAMILIES:?}");
    assert_eq!(digests(KvFormat::Int8), golden_int8, "{FAMILIES:?}");
}

#[test]
fn bad_batches_are_refused_by_name_and_change_nothing() {
    let source = RandomModel {
        profile: profile(Family::Llama),
        dtype: Dtype::F32,
    };
    let pool = Arc::new(Pool::new(1));
    let whole = Slice::whole(4);
    let mut kv = KvPages::new(&source.profile, &whole, KvFormat::F32, 64 << 20);
    let model = SliceModel::load(&source, whole, None, pool).expect("loads");
    let mut sequence = kv.sequence();
    let mut run =
        |kv: &mut KvPages, reserve: usize, rows: usize, asked: &[u32], input: Input<'_>| {
            kv.reserve(&mut sequence, reserve).expect("room");
            let scores = ScoreRows::Last;
            let segment = Segment {
                sequence: &mut sequence,
                rows,
                scores,
                asked,
            };
            let result = model.forward(kv, &mut [segment], input);
            assert_eq!(sequence.len(), 0, "nothing changed");
            result.expect_err("refused")
        };
    let shape = |found, expected| ForwardError::InputShape { found, expected };
    let range = |id| ForwardError::TokenOutOfRange {
        id,
        vocabulary: 307,
    };
    assert_eq!(run(&mut kv, 4, 2, &[], Input::Ids(&[1])), shape(1, 2));
    assert_eq!(run(&mut kv, 4, 1, &[], Input::Ids(&[307])), range(307));
    assert_eq!(
        run(&mut kv, 4, 1, &[u32::MAX], Input::Ids(&[1])),
        range(u32::MAX)
    );
    let not_reserved = ForwardError::NotReserved {
        len: 33,
        reserved: 32,
    };
    assert_eq!(run(&mut kv, 4, 33, &[], Input::Ids(&[1; 33])), not_reserved);
    let exceeded = ForwardError::ContextExceeded {
        position: 512,
        context: 512,
    };
    assert_eq!(run(&mut kv, 4, 513, &[], Input::Ids(&[1; 513])), exceeded);
    assert!(matches!(
        run(&mut kv, 4, 1, &[], Input::Hidden(&[0.0; 40])),
        ForwardError::InputShape { .. }
    ));
    let second = Slice::new(1..4, 4).expect("in range");
    let mut kv = KvPages::new(&source.profile, &second, KvFormat::F32, 64 << 20);
    let model = SliceModel::load(&source, second, None, Arc::new(Pool::new(1))).expect("loads");
    let mut sequence = kv.sequence();
    kv.reserve(&mut sequence, 2).expect("room");
    let mut hidden = [0.5; 80];
    hidden[41] = f32::NAN;
    let scores = ScoreRows::None;
    let segment = Segment {
        sequence: &mut sequence,
        rows: 2,
        scores,
        asked: &[],
    };
    let result = model.forward(&mut kv, &mut [segment], Input::Hidden(&hidden));
    assert_eq!(result, Err(ForwardError::NotFinite { row: 1 }));
}

/// A sequence whose pages went elsewhere and came back, into other memory, goes on with the same bits.
#[test]
fn pages_that_left_and_came_back_change_no_bit() {
    let set = InstructionSet::detect();
    for (family, format) in FAMILIES
        .into_iter()
        .flat_map(|family| KvFormat::ALL.map(|format| (family, format)))
    {
        let source = RandomModel {
            profile: profile(family),
            dtype: Dtype::F32,
        };
        let ids = tokens(5, 100);
        let expected = reference(&source, format, &ids);
        let way = Way {
            slices: 2,
            threads: 1,
            chunk: 1,
            set,
        };
        let mut cut = Cut::new(&source, format, way);
        let mut sequences = cut.sequences(1);
        let mut logits = Vec::new();
        // Lengths in the middle of a page, at its end, and one behind it.
        for part in [
            &ids[..40],
            &ids[40..64],
            &ids[64..65],
            &ids[65..96],
            &ids[96..],
        ] {
            for scores in cut.step(&mut sequences, &[part.to_vec()]) {
                logits.extend(scores.asked.iter().map(|(_, logit)| *logit));
                logits.push(scores.log_sum_exp);
            }
            for (sequence, (_, kv)) in sequences[0].iter_mut().zip(&mut cut.slices) {
                *sequence = moved(kv, sequence);
            }
        }
        same_bits(&logits, &expected, &format!("{family:?} {format:?}"));
    }
}

/// A copy of a sequence, page by page through bytes; what it was copied from is given back.
fn moved(kv: &mut KvPages, of: &mut Sequence) -> Sequence {
    let len = of.len();
    let pages: Vec<_> = (0..len.div_ceil(PAGE_POSITIONS))
        .map(|index| kv.page(of, index).expect("filled").to_vec())
        .collect();
    // Somebody else has the old pages meanwhile.
    kv.truncate(of, 0);
    let mut other = kv.sequence();
    kv.reserve(&mut other, len).expect("room");
    let mut back = kv.sequence();
    kv.reserve(&mut back, len).expect("room");
    for bytes in &pages {
        let rows = PAGE_POSITIONS.min(len - back.len());
        let read = |memory: &mut [u8]| {
            memory.copy_from_slice(bytes);
            Ok::<_, ()>(())
        };
        kv.fill_page(&mut back, rows, read).expect("copied");
    }
    kv.release(other);
    back
}

#[test]
fn pages_of_another_slice_are_refused() {
    let source = RandomModel {
        profile: profile(Family::Llama),
        dtype: Dtype::F32,
    };
    let half = Slice::new(0..2, 4).expect("in range");
    let mut kv = KvPages::new(&source.profile, &half, KvFormat::F32, 64 << 20);
    let model = SliceModel::load(&source, Slice::whole(4), None, Arc::new(Pool::new(1)));
    let mut sequence = kv.sequence();
    kv.reserve(&mut sequence, 1).expect("room");
    let segment = Segment {
        sequence: &mut sequence,
        rows: 1,
        scores: ScoreRows::Last,
        asked: &[],
    };
    let model = model.expect("loads");
    let result = model.forward(&mut kv, &mut [segment], Input::Ids(&[1]));
    assert_eq!(result, Err(ForwardError::OtherPages));
}

/// Stages of one model find each other by it: what was the same before stays the same.
#[test]
fn every_format_has_a_numerics_id_of_its_own() {
    let weights = [
        None,
        Some(Dtype::F32),
        Some(Dtype::Bf16),
        Some(Dtype::Q8),
        Some(Dtype::Q4),
    ];
    let ids: std::collections::BTreeSet<String> = weights
        .into_iter()
        .flat_map(|weights| KvFormat::ALL.map(|kv| numerics_id(weights, kv).to_string()))
        .collect();
    assert_eq!(ids.len(), 10);
}
