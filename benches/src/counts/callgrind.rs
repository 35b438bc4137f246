//! Reads the sum of instructions from the log of `valgrind --tool=callgrind`.

use crate::sample::Sample;

/// The sum, as `cost`.
pub(super) fn parse(log: &str) -> Option<Sample> {
    let instructions = log.lines().find_map(|line| {
        let (_, rest) = line.split_once("Collected :")?;
        rest.trim().parse().ok()
    })?;
    let mut sample = Sample::default();
    sample.set("cost", instructions);
    Some(sample)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_read_from_the_log() {
        let log = "==7== Events    : Ir\n==7== Collected : 6602225\n==7==\n";
        assert_eq!(parse(log).unwrap().get("cost"), Some(6_602_225.0));
        assert_eq!(parse("==7== Events    : Ir\n"), None);
    }
}
