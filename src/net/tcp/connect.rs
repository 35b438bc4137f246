//! Connecting to the first of several addresses that answers.
//!
//! The algorithm is RFC 8305, "Happy Eyeballs Version 2", from section 4 on: the two families take
//! turns, the resolver's first choice goes first, and the next attempt starts when the last one has
//! failed or has been silent for [`ATTEMPT_DELAY`]. So an address that swallows packets costs a
//! quarter of a second, and not the minutes after which the system gives up.

use super::AsyncTcpStream;
use crate::net::addr;
use crate::time::sleep;
use futures_util::future::{Either, select};
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// How long one address is left alone before the next is tried beside it (RFC 8305, section 5).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Connects to one of `addrs`. The other attempts are dropped, and so closed.
pub(super) async fn connect(addrs: Vec<SocketAddr>) -> io::Result<AsyncTcpStream> {
    if let [addr] = addrs[..] {
        return AsyncTcpStream::connect_one(addr).await;
    }
    let mut waiting = by_turns(addrs);
    let mut attempts = FuturesUnordered::new();
    let mut last = addr::none();
    while let Some(addr) = waiting.pop_front() {
        attempts.push(AsyncTcpStream::connect_one(addr));
        let mut delay = sleep(ATTEMPT_DELAY);
        // Until one succeeds, all have failed, or the next may start.
        while !attempts.is_empty() {
            let outcome = match select(attempts.next(), &mut delay).await {
                Either::Left((outcome, _)) => outcome,
                Either::Right(_) if waiting.is_empty() => attempts.next().await,
                Either::Right(_) => break,
            };
            match outcome {
                Some(Ok(stream)) => return Ok(stream),
                Some(Err(error)) => last = error,
                None => {}
            }
            if !waiting.is_empty() {
                break;
            }
        }
    }
    Err(last)
}

/// The addresses in the resolver's order, but the families in turn, beginning with the first's.
fn by_turns(addrs: Vec<SocketAddr>) -> VecDeque<SocketAddr> {
    let first_is_v4 = addrs.first().is_some_and(SocketAddr::is_ipv4);
    let (mut these, mut others): (VecDeque<_>, VecDeque<_>) = addrs
        .into_iter()
        .partition(|addr| addr.is_ipv4() == first_is_v4);
    let mut order = VecDeque::new();
    while !these.is_empty() || !others.is_empty() {
        order.extend(these.pop_front());
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
        assert_eq!(by_turns(given), order);
        let one_family = addrs(&["1.1.1.1:1", "1.1.1.2:1"]);
        assert_eq!(by_turns(one_family.clone()), one_family);
        assert!(by_turns(Vec::new()).is_empty());
    }
}
