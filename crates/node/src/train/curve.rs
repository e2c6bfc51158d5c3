//! Losses as a picture of characters.

/// Columns and rows of the picture.
const WIDTH: usize = 64;
const HEIGHT: usize = 8;
/// Eighths of a character, from none to all.
const EIGHTHS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The losses of all steps as bars, each the mean of a share of the steps; the highest and lowest
/// are written beside them. `None` if there are fewer than two.
pub fn curve(losses: &[f64]) -> Option<String> {
    let columns = means(losses, WIDTH);
    if columns.len() < 2 {
        return None;
    }
    let most = columns.iter().copied().fold(f64::MIN, f64::max);
    let least = columns.iter().copied().fold(f64::MAX, f64::min);
    let span = (most - least).max(f64::MIN_POSITIVE);
    let eighths =
        |loss: f64| 1 + ((loss - least) / span * (HEIGHT * 8 - 1) as f64).round() as usize;
    let mut text = String::new();
    for row in (0..HEIGHT).rev() {
        let label = match row {
            0 => format!("{least:8.4}"),
            _ if row == HEIGHT - 1 => format!("{most:8.4}"),
            _ => " ".repeat(8),
        };
        let bar = |&loss: &f64| EIGHTHS[eighths(loss).saturating_sub(row * 8).min(8)];
        let bars: String = columns.iter().map(bar).collect();
        text.push_str(&format!("{label} {}\n", bars.trim_end()));
    }
    text.push_str(&format!("{:8} step 1 to {}", "", losses.len()));
    Some(text)
}

/// Means of at most `count` shares, as even as can be.
fn means(values: &[f64], count: usize) -> Vec<f64> {
    let count = count.min(values.len());
    let share = |index: usize| {
        let share = &values[values.len() * index / count..values.len() * (index + 1) / count];
        share.iter().sum::<f64>() / share.len() as f64
    };
    (0..count).map(share).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn falls_from_left_to_right() {
        let losses: Vec<f64> = (0..1000)
            .map(|step| 8.0 - f64::from(step) / 200.0)
            .collect();
        let text = curve(&losses).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), HEIGHT + 1);
        assert!(
            lines[0].starts_with("  7.96") && lines[7].starts_with("  3.04"),
            "{text}"
        );
        assert!(lines[0].chars().count() < lines[7].chars().count());
        assert!(lines[8].ends_with("step 1 to 1000"));
    }

    #[test]
    fn few_or_equal_losses_are_no_trouble() {
        assert_eq!(curve(&[]), None);
        assert_eq!(curve(&[1.0]), None);
        assert!(curve(&[2.0, 2.0]).is_some());
    }
}
