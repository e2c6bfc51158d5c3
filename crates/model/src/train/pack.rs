//! Samples of many lengths into rows of one.

use crate::random::Random;

/// Rows that are open for more at a time: enough that little room is wasted.
const OPEN_MAX: usize = 64;

/// A run of one sample's tokens: `len` of them, each with the one after it as its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) sample: usize,
    pub(super) start: usize,
    pub(super) len: usize,
}

/// A row in the making.
#[derive(Debug, Default)]
struct Open {
    used: usize,
    pieces: Vec<Piece>,
}

/// Cuts samples of these lengths into pieces of at most `width` and puts each into the fullest of
/// the open rows that has room. The order of samples and of rows is drawn from `random`.
///
/// A sample of `n` tokens has `n - 1` targets, so that is what it takes. Pieces that are not
/// `wanted` are left out.
pub(super) fn pack(
    lengths: &[usize],
    width: usize,
    wanted: &dyn Fn(&Piece) -> bool,
    random: &mut Random,
) -> Vec<Vec<Piece>> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    random.shuffle(&mut order);
    let mut rows = Vec::new();
    let mut open: Vec<Open> = Vec::new();
    for sample in order {
        let tokens = lengths[sample].saturating_sub(1);
        for start in (0..tokens).step_by(width) {
            let len = width.min(tokens - start);
            let piece = Piece { sample, start, len };
            if wanted(&piece) {
                place(piece, width, &mut open, &mut rows);
            }
        }
    }
    rows.extend(open.into_iter().map(|row| row.pieces));
    random.shuffle(&mut rows);
    rows
}

fn place(piece: Piece, width: usize, open: &mut Vec<Open>, rows: &mut Vec<Vec<Piece>>) {
    let fits = |row: &Open| row.used + piece.len <= width;
    let fullest = (0..open.len())
        .filter(|&index| fits(&open[index]))
        .max_by_key(|&index| open[index].used);
    let index = fullest.unwrap_or_else(|| {
        if open.len() == OPEN_MAX {
            let fullest = (0..open.len()).max_by_key(|&index| open[index].used);
            let closed = open.swap_remove(fullest.expect("there are open rows"));
            rows.push(closed.pieces);
        }
        open.push(Open::default());
        open.len() - 1
    });
    open[index].used += piece.len;
    open[index].pieces.push(piece);
    if open[index].used == width {
        rows.push(open.swap_remove(index).pieces);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_target_is_in_one_row_once(
            lengths in proptest::collection::vec(0_usize..70, 0..200),
            width in 1_usize..40,
            seed: u64,
        ) {
            let all = |_: &Piece| true;
            let rows = pack(&lengths, width, &all, &mut Random::new(seed));
            let mut seen: Vec<Vec<bool>> =
                lengths.iter().map(|n| vec![false; n.saturating_sub(1)]).collect();
            for row in &rows {
                prop_assert!(!row.is_empty());
                prop_assert!(row.iter().map(|piece| piece.len).sum::<usize>() <= width);
                for piece in row {
                    let end = piece.start + piece.len;
                    for seen in &mut seen[piece.sample][piece.start..end] {
                        prop_assert!(!std::mem::replace(seen, true));
                    }
                }
            }
            prop_assert!(seen.into_iter().flatten().all(|seen| seen));
            prop_assert_eq!(rows, pack(&lengths, width, &all, &mut Random::new(seed)));
        }
    }

    #[test]
    fn little_room_is_wasted() {
        let mut random = Random::new(1);
        let lengths: Vec<usize> = (0..3000).map(|_| 20 + random.below(180) as usize).collect();
        let rows = pack(&lengths, 256, &|_| true, &mut random);
        let tokens: usize = lengths.iter().map(|n| n - 1).sum();
        let share = tokens as f64 / (rows.len() * 256) as f64;
        assert!(share > 0.97, "{share}");
    }
}
