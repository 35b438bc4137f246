//! [`Options`]: how a simulated link behaves.

use crate::event_loop::shuffle;
use std::time::Duration;

/// How a link behaves, in both directions.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// let slow = fahrenheit::sim::Options::new()
///     .latency(Duration::from_millis(40))
///     .jitter(Duration::from_millis(10))
///     .bandwidth(125_000);
/// # drop(slow);
/// ```
///
/// ```
/// use fahrenheit::{Builder, prelude::*, sim::{Net, Options}};
/// use std::time::Duration;
///
/// Builder::new().virtual_clock(true).block_on(async {
///     let net = Net::new(Options::new());
///     let (a, b) = (net.host("a"), net.host("b"));
///     // A slow line with little memory, which breaks after 1,000 bytes.
///     let slow = Options::new().bandwidth(10_000).buffer(1_024).reset_after(1_000);
///     net.set_options("a", "b", slow.latency(Duration::from_millis(80)));
///     let listener = b.listen(80)?;
///     let mut client = a.connect("b:80").await?;
///     let mut incoming = std::pin::pin!(listener.incoming());
///     let mut server = incoming.next().await.expect("it never ends")?;
///     assert_eq!(client.peer_addr(), server.local_addr());
///
///     // Nothing of `b` arrives at `a`, while the other direction works.
///     net.partition_oneway("b", "a");
///     client.write_all(b"question").await?;
///     server.read_exact(&mut [0; 8]).await?;
///     net.heal_oneway("b", "a");
///
///     net.isolate("b");
///     net.heal_all();
///     server.stall(Duration::from_secs(1));
///     net.reset("a", "b");
///     assert!(server.read(&mut [0; 1]).await.is_err());
///     std::io::Result::Ok(())
/// })
/// # .unwrap().unwrap();
/// ```
#[derive(Debug, Clone)]
pub struct Options {
    latency: Duration,
    jitter: Duration,
    pub(super) bandwidth: Option<u64>,
    pub(super) buffer: usize,
    pub(super) cut_after: u64,
    pub(super) reset_after: u64,
}

impl Options {
    /// A link without latency that never breaks, and holds 64 KiB in each direction.
    pub fn new() -> Options {
        Options {
            latency: Duration::ZERO,
            jitter: Duration::ZERO,
            bandwidth: None,
            buffer: 64 * 1024,
            cut_after: u64::MAX,
            reset_after: u64::MAX,
        }
    }

    /// Sets how long each byte takes to arrive.
    pub fn latency(mut self, latency: Duration) -> Options {
        self.latency = latency;
        self
    }

    /// Sets by how much the latency of each write is longer, at most. The seed of the loop decides;
    /// without a seed there is no jitter. Bytes do not overtake each other.
    pub fn jitter(mut self, jitter: Duration) -> Options {
        self.jitter = jitter;
        self
    }

    /// Sets how many bytes can be sent in a second.
    pub fn bandwidth(mut self, bytes_per_second: u64) -> Options {
        self.bandwidth = Some(bytes_per_second.max(1));
        self
    }

    /// Sets how many bytes may be on their way in one direction, including those that have arrived
    /// and were not read, before writes wait. At least one.
    pub fn buffer(mut self, n_bytes: usize) -> Options {
        self.buffer = n_bytes.max(1);
        self
    }

    /// Has everything that one side sends after `n_bytes` get lost, without an error, as if a cable
    /// were cut.
    pub fn cut_after(mut self, n_bytes: u64) -> Options {
        self.cut_after = n_bytes;
        self
    }

    /// Has the connection reset once one side has sent `n_bytes`.
    pub fn reset_after(mut self, n_bytes: u64) -> Options {
        self.reset_after = n_bytes;
        self
    }

    /// Returns how long something takes that is sent now: the latency, and some of the jitter.
    pub(super) fn draw_delay(&self) -> Duration {
        let jitter = usize::try_from(self.jitter.as_nanos()).unwrap_or(usize::MAX);
        let jitter = shuffle::below(jitter.saturating_add(1)) as u64;
        self.latency + Duration::from_nanos(jitter)
    }
}

impl Default for Options {
    fn default() -> Options {
        Options::new()
    }
}
