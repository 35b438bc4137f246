//! Connecting past an address that swallows packets. The test runs in a process of its own, in a
//! network namespace of its own, which has such an address.
#![cfg(target_os = "linux")]

use crate::util::{again_through, alone, finish, is_alone, skip};
use fahrenheit::{AsyncTcpListener, AsyncTcpStream};
use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

/// A network in which packets to 192.0.2.1 go down a cable that nobody listens at.
const SETUP: &str = "ip link set lo up && ip link add hole type veth peer name end && \
                     ip addr add 192.0.2.2/24 dev hole && ip link set hole up && \
                     ip link set end up && \
                     ip neigh add 192.0.2.1 lladdr 02:00:00:00:00:01 dev hole && \
                     exec \"$0\" \"$@\"";

#[test]
fn a_black_holed_first_address_costs_a_quarter_of_a_second() {
    let name = test_name!();
    if is_alone(name) {
        alone(name, || fahrenheit::run(connect_past_the_hole()));
        return;
    }
    let works = Command::new("unshare").args(["-n", "ip", "link"]).output();
    if !works.is_ok_and(|output| output.status.success()) {
        return skip(name, "network namespaces need root, unshare and ip");
    }
    let mut wrapper = Command::new("unshare");
    wrapper.args(["-n", "timeout", "40", "sh", "-c", SETUP]);
    print!("{}", finish(name, again_through(wrapper, name)));
}

async fn connect_past_the_hole() {
    let listener = AsyncTcpListener::bind("127.0.0.1:0").expect("a port of the loopback is free");
    let good = listener.local_addr().expect("it is bound");
    let hole = SocketAddr::new([192, 0, 2, 1].into(), good.port());

    // The hole is one: alone, it does not answer.
    let alone = AsyncTcpStream::connect_timeout(hole, Duration::from_millis(600)).await;
    assert_eq!(alone.unwrap_err().kind(), std::io::ErrorKind::TimedOut);

    // A slow machine gets more attempts. A delay that is too long is so in each of them.
    let mut best = Duration::MAX;
    for _ in 0..4 {
        let start = Instant::now();
        let stream = AsyncTcpStream::connect([hole, good])
            .await
            .expect("the second answers");
        let elapsed = start.elapsed();
        println!("connected past a black hole in {elapsed:?}");
        assert_eq!(stream.peer_addr().expect("it is connected"), good);
        assert!(
            elapsed >= Duration::from_millis(250),
            "the first address gets its time: {elapsed:?}"
        );
        best = best.min(elapsed);
        if best < Duration::from_millis(500) {
            return;
        }
    }
    panic!("the first address costs {best:?}");
}
