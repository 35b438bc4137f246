//! Reads the table of `strace -c` with the columns `calls` and `name`.

use crate::sample::Sample;

/// The number of calls by name, and of all calls as `cost`.
pub(super) fn parse(table: &str) -> Option<Sample> {
    let mut sample = Sample::default();
    let mut all = 0.0;
    for line in table.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        let [calls, name] = words[..] else { continue };
        // The head and the rulers are no numbers. The last line is the sum.
        let Ok(calls) = calls.parse::<f64>() else {
            continue;
        };
        if name != "total" {
            sample.set(name, calls);
            all += calls;
        }
    }
    sample.set("cost", all);
    (all > 0.0).then_some(sample)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_read_by_name() {
        let table = "    calls syscall\n--------- ----------------\n      120 recvfrom\n\
                     \x20       1 exit_group\n--------- ----------------\n      121 total\n";
        let sample = parse(table).unwrap();
        assert_eq!(sample.get("recvfrom"), Some(120.0));
        assert_eq!(sample.get("cost"), Some(121.0));
        assert_eq!(sample.get("total"), None);
        assert_eq!(parse("strace: attach failed\n"), None);
    }
}
