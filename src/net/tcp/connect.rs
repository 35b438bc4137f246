//! Connecting to the first of several addresses that answers.
//!
//! Knows no socket: the caller says how one attempt is made. The algorithm is RFC 8305, "Happy
//! Eyeballs Version 2", from section 4 on. The two address families take turns, the resolver's
//! first choice goes first, and the next attempt starts when the last one has failed or has not
//! been answered for [`ATTEMPT_DELAY`]. So an address that swallows packets costs a quarter of a
//! second and not the minutes after which the system gives up.

use crate::net::addr;
use crate::time::sleep;
use futures_util::future::{Either, select};
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// How long an attempt is the only one before the next address is tried as well (RFC 8305,
/// section 5).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Returns what the first successful `attempt` to connect to one of `addrs` returns. The other
/// attempts are dropped, which closes their sockets.
pub(super) async fn first_to_connect<S, F>(
    addrs: Vec<SocketAddr>,
    attempt: impl Fn(SocketAddr) -> F,
) -> io::Result<S>
where
    F: Future<Output = io::Result<S>>,
{
    if let [addr] = addrs[..] {
        return attempt(addr).await;
    }
    let mut not_tried = interleave_families(addrs);
    let mut attempts = FuturesUnordered::new();
    let mut last_error = addr::no_address();
    while let Some(addr) = not_tried.pop_front() {
        attempts.push(attempt(addr));
        let mut delay = sleep(ATTEMPT_DELAY);
        // Until one succeeds, all have failed, or the next may start.
        while !attempts.is_empty() {
            let outcome = match select(attempts.next(), &mut delay).await {
                Either::Left((outcome, _)) => outcome,
                // No address is left to start with, so wait for those that are under way.
                Either::Right(_) if not_tried.is_empty() => attempts.next().await,
                Either::Right(_) => break,
            };
            match outcome {
                Some(Ok(stream)) => return Ok(stream),
                Some(Err(error)) => last_error = error,
                None => {}
            }
            // A failure starts the next attempt at once, before the delay is over.
            if !not_tried.is_empty() {
                break;
            }
        }
    }
    Err(last_error)
}

/// Puts `addrs` into the order in which they are tried: the resolver's, but with the two families
/// in turn, beginning with the family of the first address.
fn interleave_families(addrs: Vec<SocketAddr>) -> VecDeque<SocketAddr> {
    let first_is_v4 = addrs.first().is_some_and(SocketAddr::is_ipv4);
    let (mut preferred, mut others): (VecDeque<_>, VecDeque<_>) = addrs
        .into_iter()
        .partition(|addr| addr.is_ipv4() == first_is_v4);
    let mut order = VecDeque::new();
    while !preferred.is_empty() || !others.is_empty() {
        order.extend(preferred.pop_front());
        order.extend(others.pop_front());
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addrs(list: &[&str]) -> Vec<SocketAddr> {
        list.iter().map(|addr| addr.parse().unwrap()).collect()
    }

    #[test]
    fn families_take_turns_and_the_resolvers_first_choice_goes_first() {
        let given = addrs(&["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "1.1.1.2:1"]);
        let order = addrs(&["[::1]:1", "1.1.1.1:1", "[::2]:1", "1.1.1.2:1", "[::3]:1"]);
        assert_eq!(interleave_families(given), order);
        let one_family = addrs(&["1.1.1.1:1", "1.1.1.2:1"]);
        assert_eq!(interleave_families(one_family.clone()), one_family);
        assert!(interleave_families(Vec::new()).is_empty());
    }
}
