//! How much one call may be asked to read or write.

/// Maximum number of bytes that one call is offered. macOS refuses more than `INT_MAX` with EINVAL,
/// in the sum of all slices, too.
pub(crate) const MAX_BYTES: usize = 1 << 30;

/// Maximum number of slices that one call is offered. POSIX promises only 16, but every system
/// here takes 1,024; more is EINVAL (EMSGSIZE for `sendmsg`).
const MAX_SLICES: usize = 1_024;

/// Number of slices that one call may be given, from the first on, if these are their lengths.
///
/// 0 for a first slice that is longer than one call takes: then a part of it is all.
pub(crate) fn n_fitting(lens: impl Iterator<Item = usize>) -> usize {
    let mut n_bytes = 0_usize;
    let fitting = lens.take(MAX_SLICES).take_while(|&len| {
        n_bytes = n_bytes.saturating_add(len);
        n_bytes <= MAX_BYTES
    });
    fitting.count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_fit_into_a_call_up_to_a_gibibyte_and_1024_of_them() {
        let n = |lens: &[usize]| n_fitting(lens.iter().copied());
        assert_eq!(n(&[]), 0);
        assert_eq!(n(&[1, 0, 2]), 3);
        assert_eq!(n(&[MAX_BYTES]), 1);
        assert_eq!(n(&[MAX_BYTES + 1]), 0);
        assert_eq!(n(&[1, MAX_BYTES, 1]), 1);
        assert_eq!(n(&[MAX_BYTES / 2, MAX_BYTES / 2, 0, 1]), 3);
        assert_eq!(n(&[1, usize::MAX]), 1);
        assert_eq!(n(&[1; 5_000]), MAX_SLICES);
    }
}
