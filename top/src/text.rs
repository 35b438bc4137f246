//! Texts from elsewhere, made fit for a terminal; and numbers in few columns.

use std::time::Duration;

/// The number of columns that a terminal gives to `c`.
fn width(c: char) -> usize {
    match u32::from(c) {
        // The scripts of East Asia, and pictures.
        0x1100..=0x115f
        | 0x2e80..=0xa4cf
        | 0xac00..=0xd7a3
        | 0xf900..=0xfaff
        | 0xfe30..=0xfe6f
        | 0xff00..=0xff60
        | 0xffe0..=0xffe6
        | 0x1f300..=0x1faff
        | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

/// Whether a terminal shows `c` as something of its own. Other characters move the cursor, begin a
/// command, turn the direction of the text, or change their neighbours.
fn is_visible(c: char) -> bool {
    !c.is_control()
        && !matches!(
            u32::from(c),
            0xad | 0x300..=0x36f
                | 0x61c
                | 0x180b..=0x180f
                | 0x200b..=0x200f
                | 0x2028..=0x202e
                | 0x2060..=0x206f
                | 0x20d0..=0x20ff
                | 0xfe00..=0xfe0f
                | 0xfe20..=0xfe2f
                | 0xfeff
                | 0xfff9..=0xfffb
                | 0x1f3fb..=0x1f3ff
                | 0xe0000..=0xe0fff
        )
}

/// Replaces what could disturb a terminal by question marks.
pub(crate) fn clean(text: &str) -> String {
    text.replace(|c| !is_visible(c), "?")
}

/// Cuts `text` to `columns`, at the end or at the beginning, and fills it up with spaces.
pub(crate) fn fit(text: &str, columns: usize, keeps_end: bool) -> String {
    let total: usize = text.chars().map(width).sum();
    let mut kept = String::new();
    let mut used = 0;
    if total <= columns {
        kept.push_str(text);
        used = total;
    } else if columns > 0 {
        // One column is for the mark that something is missing.
        let mut take = |c: char| {
            let fits = used + width(c) < columns;
            used += if fits { width(c) } else { 0 };
            fits
        };
        if keeps_end {
            let end = text
                .chars()
                .rev()
                .take_while(|c| take(*c))
                .collect::<Vec<_>>();
            kept.push('~');
            kept.extend(end.into_iter().rev());
        } else {
            kept.extend(text.chars().take_while(|c| take(*c)));
            kept.push('~');
        }
        used += 1;
    }
    kept.extend(std::iter::repeat_n(' ', columns - used));
    kept
}

/// A time in at most seven columns.
pub(crate) fn time(time: Duration) -> String {
    let (nanos, seconds) = (time.as_nanos(), time.as_secs());
    // Cut and not rounded: 999.96us must not become 1000.0us, which is longer.
    let tenths = |unit: u128| format!("{}.{}", nanos / unit, nanos / (unit / 10) % 10);
    match (nanos, seconds) {
        (0..1_000_000, _) => tenths(1_000) + "us",
        (0..1_000_000_000, _) => tenths(1_000_000) + "ms",
        (_, 0..600) => tenths(1_000_000_000) + "s",
        (_, 600..36_000) => format!("{}min", seconds / 60),
        (_, 36_000..864_000) => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// A count in at most seven columns.
pub(crate) fn count(count: u32) -> String {
    match count {
        0..10_000_000 => count.to_string(),
        _ => number(count.into()),
    }
}

/// A rate in at most seven columns.
pub(crate) fn number(number: f64) -> String {
    match number {
        n if n < 99.95 => format!("{n:.1}"),
        n if n < 999_999.5 => format!("{n:.0}"),
        n if n < 999_999_500.0 => format!("{:.1}M", n / 1e6),
        n => format!("{:.0}G", n / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_disturbs_a_terminal_is_replaced() {
        let hostile = "a\u{1b}[2J\u{7}\u{9b}1m\u{202e}b\u{301}\u{200b}é漢";
        assert_eq!(clean(hostile), "a?[2J??1m?b??é漢");
    }

    #[test]
    fn texts_fill_their_columns() {
        assert_eq!(fit("abc", 5, false), "abc  ");
        assert_eq!(fit("abcdef", 5, false), "abcd~");
        assert_eq!(fit("abcdef", 5, true), "~cdef");
        assert_eq!(fit("漢漢漢", 5, false), "漢漢~");
        assert_eq!(fit("漢漢漢", 4, false), "漢~ ");
        assert_eq!(fit("漢漢漢", 4, true), "~漢 ");
        for columns in 0..5 {
            assert_eq!(fit("abcdef", columns, columns % 2 == 0).len(), columns);
        }
    }

    #[test]
    fn numbers_and_times_take_at_most_seven_columns() {
        for power in 0..19 {
            for factor in [1, 9_999, 999_960] {
                let n = 10_u64.pow(power).saturating_mul(factor);
                let text = time(Duration::from_nanos(n));
                assert!(text.len() <= 7, "{text}");
                let text = number(n as f64 / 10.0);
                assert!(text.len() <= 7 || n > 1_000_000_000_000_000, "{text}");
            }
        }
        assert_eq!(time(Duration::from_millis(1_500)), "1.5s");
        assert_eq!(number(12_345.6), "12346");
    }
}
