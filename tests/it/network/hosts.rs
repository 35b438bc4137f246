//! Hosts of a simulated network: connecting, partitions, resets, and what is said about a deadlock.

use super::{SECOND, virtually};
use crate::util::within;
use fahrenheit::prelude::*;
use fahrenheit::sim::{Net, Options, SimStream};
use fahrenheit::{Builder, spawn, task, time};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::{Duration, Instant};

const HOUR: Duration = Duration::from_secs(3_600);

/// Sends back what it gets, over any stream.
async fn echo(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    let mut bytes = [0; 64];
    loop {
        let n = stream.read(&mut bytes).await?;
        if n == 0 {
            return Ok(());
        }
        stream.write_all(&bytes[..n]).await?;
    }
}

/// A network with an echo server, for which no `run` has to wait.
fn network(options: Options) -> Net {
    let net = Net::new(options);
    let listener = net.host("server").listen(7).unwrap();
    let daemon = || task::Builder::new().daemon(true);
    let accepts = async move {
        let mut incoming = std::pin::pin!(listener.incoming());
        while let Some(stream) = incoming.next().await {
            daemon().spawn(echo(stream.unwrap())).detach();
        }
    };
    daemon().spawn(accepts).detach();
    net
}

/// Says a byte and expects it back. Returns how long that takes.
async fn round_trip(stream: &mut SimStream) -> Duration {
    let start = time::now();
    stream.write_all(b"x").await.unwrap();
    stream.read_exact(&mut [0]).await.unwrap();
    time::now() - start
}

#[test]
fn connecting_takes_a_round_trip_and_both_ends_have_addresses() {
    virtually(0, async {
        let net = network(Options::new().latency(SECOND));
        let client = net.host("client");
        let start = time::now();
        let mut stream = client.connect("server:7").await.unwrap();
        assert_eq!(time::now() - start, 2 * SECOND);
        assert_eq!(stream.peer_addr(), "server:7");
        assert!(stream.local_addr().starts_with("client:"), "{stream:?}");
        assert_eq!(round_trip(&mut stream).await, 2 * SECOND);
        net.set_options("client", "server", Options::new().latency(5 * SECOND));
        let mut slow = client.connect("server:7").await.unwrap();
        assert_eq!(round_trip(&mut slow).await, 10 * SECOND);
        assert_eq!(round_trip(&mut stream).await, 2 * SECOND);
    });
}

#[test]
fn what_nobody_listens_for_is_refused_and_what_is_no_address_an_error() {
    virtually(0, async {
        let net = network(Options::new().latency(SECOND));
        let client = net.host("client");
        let kind = |result: io::Result<SimStream>| result.unwrap_err().kind();
        let start = time::now();
        let refused = client.connect("server:8").await;
        assert_eq!(kind(refused), ErrorKind::ConnectionRefused);
        assert_eq!(time::now() - start, 2 * SECOND);
        assert_eq!(kind(client.connect("sever:7").await), ErrorKind::NotFound);
        for text in ["server", "server:", "server:x", "server:70000"] {
            assert_eq!(
                kind(client.connect(text).await),
                ErrorKind::InvalidInput,
                "{text}"
            );
        }
        let error = net.host("server").listen(7).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        let one = client.listen(0).unwrap();
        let other = client.listen(0).unwrap();
        assert_ne!(one.local_addr(), other.local_addr());
        // A port is free again after its listener, and who waited there is told.
        let waits = net.host("server").connect(one.local_addr()).await.unwrap();
        let addr = one.local_addr().to_owned();
        drop(one);
        let mut waits = waits;
        assert_eq!(
            waits.read(&mut [0]).await.unwrap_err().kind(),
            ErrorKind::ConnectionReset
        );
        assert_eq!(
            kind(net.host("server").connect(&addr).await),
            ErrorKind::ConnectionRefused
        );
        assert!(
            client
                .listen(addr.rsplit(':').next().unwrap().parse().unwrap())
                .is_ok()
        );
    });
}

#[test]
fn what_is_sent_during_a_partition_arrives_after_it() {
    virtually(0, async {
        let net = network(Options::new().latency(SECOND));
        let client = net.host("client");
        let mut stream = client.connect("server:7").await.unwrap();
        net.partition("client", "server");
        let start = time::now();
        stream.write_all(b"x").await.unwrap();
        let late = time::timeout(HOUR, stream.read(&mut [0])).await;
        assert!(late.is_err(), "nothing arrives for as long as it lasts");
        let connects = spawn({
            let client = client.clone();
            async move { client.connect("server:7").await.map(|_| time::now()) }
        });
        time::sleep(HOUR).await;
        net.heal("client", "server");
        stream.read_exact(&mut [0]).await.unwrap();
        assert_eq!(time::now() - start, 2 * HOUR + 2 * SECOND);
        assert_eq!(connects.await.unwrap().unwrap(), time::now());

        // One direction: the request arrives, and the answer does not.
        net.partition_oneway("server", "client");
        stream.write_all(b"x").await.unwrap();
        assert!(time::timeout(HOUR, stream.read(&mut [0])).await.is_err());
        let start = time::now();
        net.heal_oneway("server", "client");
        stream.read_exact(&mut [0]).await.unwrap();
        assert_eq!(time::now() - start, SECOND);

        net.host("other");
        net.isolate("server");
        let others = net.host("other");
        let attempt = time::timeout(HOUR, others.connect("server:7")).await;
        assert!(attempt.is_err());
        net.heal_all();
        assert_eq!(round_trip(&mut stream).await, 2 * SECOND);
        others.connect("server:7").await.unwrap();
    });
}

#[test]
fn a_partition_that_comes_while_something_is_on_its_way_holds_it_up() {
    virtually(0, async {
        let net = network(Options::new().latency(SECOND));
        let client = net.host("client");
        let start = time::now();
        let connects = spawn({
            let client = client.clone();
            async move { client.connect("server:7").await }
        });
        time::sleep(SECOND / 2).await;
        net.partition("client", "server");
        time::sleep(HOUR).await;
        net.heal("client", "server");
        connects.await.unwrap().unwrap();
        assert_eq!(time::now() - start, HOUR + SECOND / 2 + 2 * SECOND);
    });
}

#[test]
fn connections_between_two_hosts_are_reset_and_others_are_not() {
    virtually(0, async {
        let net = network(Options::new());
        let (client, other) = (net.host("client"), net.host("other"));
        let mut breaks = client.connect("server:7").await.unwrap();
        let mut stays = other.connect("server:7").await.unwrap();
        net.reset("client", "server");
        let error = breaks.read(&mut [0]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        round_trip(&mut stays).await;
    });
}

#[test]
#[should_panic(expected = "the network has no host \"sever\"")]
fn a_misspelt_host_is_no_silent_success() {
    let net = Net::new(Options::new());
    net.host("server");
    net.partition("server", "sever");
}

#[test]
fn an_hour_of_heartbeats_over_a_simulated_network_takes_a_moment() {
    let real = Instant::now();
    let (n_beats, passed) = virtually(0, async {
        let ms = Duration::from_millis;
        let net = network(Options::new().latency(ms(20)).jitter(ms(20)));
        let start = time::now();
        let clients = [1, 2, 3].map(|n| {
            let host = net.host(&format!("client-{n}"));
            spawn(async move {
                let mut stream = host.connect("server:7").await.unwrap();
                let mut interval = time::interval(SECOND);
                let mut n_beats = 0;
                while time::now() - start < HOUR {
                    interval.tick().await;
                    let beat = round_trip(&mut stream);
                    let took = time::timeout(SECOND / 2, beat).await.unwrap();
                    assert!((ms(40)..=ms(80)).contains(&took), "{took:?}");
                    n_beats += 1;
                }
                n_beats
            })
        });
        let mut n_beats = 0;
        for client in clients {
            n_beats += client.await.unwrap();
        }
        (n_beats, time::now() - start)
    });
    let took = real.elapsed();
    println!("one virtual hour with {n_beats} heartbeats took {took:?}");
    assert!(
        n_beats > 3 * 3_590 && passed >= HOUR,
        "{n_beats} in {passed:?}"
    );
    // A busy machine gets its time, and the hour still does not pass.
    assert!(took < HOUR / 4, "{took:?}");
}

/// The order in which three hosts that send each other messages hear of them, and when.
fn trace(seed: u64) -> Vec<(usize, u8, Duration)> {
    let trace = Rc::new(RefCell::new(Vec::new()));
    virtually(seed, async {
        let ms = Duration::from_millis;
        let net = Net::new(Options::new().latency(ms(5)).jitter(ms(10)));
        let start = time::now();
        let hosts = [0, 1, 2].map(|n| net.host(&format!("host-{n}")));
        for (n, host) in hosts.iter().enumerate() {
            let (listener, trace) = (host.listen(1).unwrap(), Rc::clone(&trace));
            let hears = async move {
                loop {
                    let mut stream = listener.accept().await.unwrap();
                    let trace = Rc::clone(&trace);
                    spawn(async move {
                        let mut byte = [0];
                        while stream.read(&mut byte).await.unwrap() > 0 {
                            trace.borrow_mut().push((n, byte[0], time::now() - start));
                        }
                    })
                    .detach();
                }
            };
            task::Builder::new().daemon(true).spawn(hears).detach();
        }
        for (n, host) in hosts.iter().enumerate() {
            for other in (0..3).filter(|other| *other != n) {
                let host = host.clone();
                spawn(async move {
                    let addr = format!("host-{other}:1");
                    let mut stream = host.connect(&addr).await.unwrap();
                    for message in 0..4 {
                        stream.write_all(&[10 * n as u8 + message]).await.unwrap();
                        time::sleep(ms(3)).await;
                    }
                })
                .detach();
            }
        }
    });
    fahrenheit::drop_all_tasks();
    trace.take()
}

#[test]
fn a_thousand_seeds_give_the_same_trace_twice_over_simulated_links() {
    let (mut traces, mut orders) = (BTreeSet::new(), BTreeSet::new());
    for seed in 0..1_000 {
        let first = trace(seed);
        assert_eq!(first.len(), 24, "seed {seed}");
        assert_eq!(first, trace(seed), "seed {seed}");
        orders.insert(
            first
                .iter()
                .map(|(n, byte, _)| (*n, *byte))
                .collect::<Vec<_>>(),
        );
        traces.insert(first);
    }
    let (n_traces, n_orders) = (traces.len(), orders.len());
    println!("1,000 seeds, twice: {n_traces} traces, {n_orders} orders, 0 differences");
    assert!(n_traces >= 900 && n_orders >= 900, "{n_traces}, {n_orders}");
}

/// What the panic says if the loop is stuck.
fn report(main: impl Future) -> String {
    let run = || {
        let builder = Builder::new().virtual_clock(true).panic_when_stuck(true);
        builder.block_on(main).map(drop).unwrap();
    };
    let payload = catch_unwind(AssertUnwindSafe(run)).unwrap_err();
    fahrenheit::drop_all_tasks();
    *payload.downcast::<String>().unwrap()
}

#[test]
fn a_client_and_a_server_that_wait_for_each_other_are_reported_with_their_names() {
    // Without the report it would wait for ever.
    within(60, || {
        let text = report(async {
            let net = network(Options::new());
            let mut stream = net.host("client").connect("server:7").await.unwrap();
            stream.read(&mut [0]).await
        });
        for part in [
            "the main future awaits data from server:7 to client:49152 (simulated)",
            "awaits data from client:49152 to server:7 (simulated)",
            "awaits a connection to server:7 (simulated)",
        ] {
            assert!(text.contains(part), "{text}");
        }
        let text = report(async {
            let net = network(Options::new());
            let client = net.host("client");
            net.partition("client", "server");
            client.connect("server:7").await
        });
        assert!(
            text.contains("a partition to heal, from client to server"),
            "{text}"
        );
    });
}

#[test]
fn a_waker_elsewhere_is_not_overlooked_beside_a_simulated_connection() {
    // A channel has a waker of the task as well, which another thread calls after a while.
    let (sender, receiver) = futures_channel::oneshot::channel();
    let thread = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        sender.send(()).unwrap();
    });
    let builder = Builder::new().virtual_clock(true).panic_when_stuck(true);
    let main = async {
        let net = network(Options::new());
        let mut stream = net.host("client").connect("server:7").await.unwrap();
        // A read that has succeeded leaves nothing behind that counts as a waker.
        round_trip(&mut stream).await;
        let mut byte = [0];
        futures_util::future::select(stream.read(&mut byte), receiver).await;
    };
    builder.block_on(main).unwrap();
    thread.join().unwrap();
}
