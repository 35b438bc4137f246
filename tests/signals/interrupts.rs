//! Signals and faults in the midst of system calls. Handlers belong to the process, and the faults
//! are injected by strace into a process of their own.
#![allow(
    unsafe_code,
    reason = "to install a signal handler, and to signal one thread"
)]

use crate::util::{alone, connected_pair, go};
use fahrenheit::prelude::*;
use fahrenheit::time::sleep;
use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use std::os::unix::thread::JoinHandleExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

static N_SIGNALS: AtomicUsize = AtomicUsize::new(0);

extern "C" fn count(_: libc::c_int) {
    N_SIGNALS.fetch_add(1, Ordering::Relaxed);
}

/// Counts what is logged as more than a matter of course.
struct Complaints;

static N_COMPLAINTS: AtomicUsize = AtomicUsize::new(0);

impl log::Log for Complaints {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.target().starts_with("fahrenheit")
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            N_COMPLAINTS.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn flush(&self) {}
}

/// Runs `body` on a thread that gets a signal about every 700 us, and does so again until there
/// were a hundred signals: a busy machine delivers fewer of them.
fn under_fire(mut body: impl FnMut() + Send + 'static) {
    let action = SigAction::new(
        SigHandler::Handler(count),
        SaFlags::empty(),
        SigSet::empty(),
    );
    // SAFETY: the handler does nothing but add to an atomic, which any handler may.
    unsafe { sigaction(Signal::SIGALRM, &action) }.unwrap();
    log::set_logger(&Complaints).unwrap();
    log::set_max_level(log::LevelFilter::Warn);
    let thread = std::thread::spawn(move || {
        let start = Instant::now();
        body();
        while N_SIGNALS.load(Ordering::Relaxed) <= 100 && start.elapsed().as_secs() < 20 {
            body();
        }
    });
    while !thread.is_finished() {
        // SAFETY: the thread has not been joined, so its name is valid.
        let sent = unsafe { libc::pthread_kill(thread.as_pthread_t() as _, libc::SIGALRM) };
        assert!(sent == 0 || sent == libc::ESRCH);
        std::thread::sleep(Duration::from_micros(700));
    }
    thread.join().unwrap();
    let n = N_SIGNALS.load(Ordering::Relaxed);
    assert!(n > 100, "only {n} signals were delivered");
    // A signal is no trouble: nothing is paused for it, and nobody is warned.
    assert_eq!(N_COMPLAINTS.load(Ordering::Relaxed), 0);
}

#[test]
fn fifty_reads_and_sleeps_are_in_time_under_a_thousand_signals_a_second() {
    let name = test_name!();
    alone(name, || {
        under_fire(|| {
            go(async {
                let (mut a, mut b) = connected_pair().await;
                let writer = fahrenheit::spawn(async move {
                    for number in 0..50_u8 {
                        let start = Instant::now();
                        sleep(Duration::from_millis(5)).await;
                        assert!(start.elapsed() >= Duration::from_millis(5), "early");
                        b.write_all(&[number]).await.unwrap();
                    }
                    b
                });
                for number in 0..50 {
                    let mut byte = [0];
                    a.read_exact(&mut byte).await.unwrap();
                    assert_eq!(byte[0], number);
                }
                writer.await.unwrap();
            });
        });
    });
}

#[test]
fn a_wait_is_not_restarted_by_signals() {
    alone(test_name!(), || {
        under_fire(|| {
            let start = Instant::now();
            go(sleep(Duration::from_millis(400)));
            let took = start.elapsed();
            // If each signal began the wait anew, it would never end; the limit is for busy
            // machines.
            assert!(took >= Duration::from_millis(400) && took < Duration::from_secs(20));
        });
    });
}

#[cfg(target_os = "linux")]
mod injected {
    use crate::util::{exchange, go, traced};
    use fahrenheit::prelude::*;
    use futures_channel::mpsc;

    /// The wait of the loop, whatever the C library and the loop call it.
    ///
    /// The stand-in for kqueue waits by `epoll_pwait2`, and then fetches events by `epoll_wait`. A
    /// kqueue does both in one call, which fails as a whole, so only the former shall fail.
    const WAIT: &str = if cfg!(fahrenheit_kqueue) {
        "?select,pselect6,epoll_pwait2"
    } else {
        "?select,pselect6,?epoll_wait,?epoll_pwait,?epoll_pwait2"
    };

    /// Reads and writes of sockets; 32-bit x86 has the shorter ones.
    const READ: &str = "?recv,recvfrom";
    const WRITE: &str = "?send,sendto";

    /// Connections come by the first where flags are set afterwards.
    const ACCEPT: &str = "?accept,accept4";

    /// Runs `body` with `calls` failing as `fault` says, and checks that they did. A fault must not
    /// make it spin: `n_most` calls have to do.
    fn injecting(name: &str, calls: &str, fault: &str, n_most: usize, body: impl FnOnce()) {
        let trace = format!("trace={calls}");
        let inject = format!("inject={calls}:error={fault}");
        let log = traced(name, &["-e", &trace, "-e", &inject], body);
        let Some(log) = log else { return };
        let n = log.lines().filter(|line| line.contains("INJECTED")).count();
        assert!(n > 0, "nothing was injected");
        let n_calls = log.lines().count();
        eprintln!("{name}: {n} faults in {n_calls} calls");
        assert!(n_calls <= n_most, "{n_calls} calls");
    }

    fn echoes() {
        go(exchange(20, 30)).unwrap();
    }

    /// One test for each call and errno: `NAME CALLS FAULT`, of which 20 connections with 30 echoes
    /// each must not notice anything.
    macro_rules! unnoticed {
        ($($name:ident $calls:expr, $fault:expr;)*) => {$(
            #[test]
            fn $name() {
                injecting(test_name!(), $calls, $fault, 5_000, echoes);
            }
        )*};
    }

    unnoticed! {
        eintr_on_every_second_wait_is_not_noticed WAIT, "EINTR:when=2+2";
        enomem_on_every_second_wait_is_not_noticed WAIT, "ENOMEM:when=2+2";
        eagain_on_every_second_wait_is_not_noticed WAIT, "EAGAIN:when=2+2";
        eagain_on_every_third_read_is_not_noticed READ, "EAGAIN:when=3+3";
        eagain_on_every_third_write_is_not_noticed WRITE, "EAGAIN:when=3+3";
        eagain_on_every_third_accept_is_not_noticed ACCEPT, "EAGAIN:when=3+3";
        econnaborted_on_every_second_accept_is_not_noticed ACCEPT, "ECONNABORTED:when=2+2";
        eproto_on_every_second_accept_is_not_noticed ACCEPT, "EPROTO:when=2+2";
        enetdown_on_every_second_accept_is_not_noticed ACCEPT, "ENETDOWN:when=2+2";
        ehostunreach_on_every_second_accept_is_not_noticed ACCEPT, "EHOSTUNREACH:when=2+2";
        eintr_on_every_second_accept_is_not_noticed ACCEPT, "EINTR:when=2+2";
        eintr_on_every_third_read_is_not_noticed READ, "EINTR:when=3+3";
        eintr_on_every_third_write_is_not_noticed WRITE, "EINTR:when=3+3";
    }

    /// Before a loop that seems stuck is reported, it looks once more at the event, and the second
    /// wait of this process is that look. If it fails, it has to be repeated.
    #[cfg(feature = "dump")]
    #[test]
    fn eagain_on_the_look_before_a_report_makes_no_loop_seem_stuck() {
        use fahrenheit::{Event, Local};
        use std::rc::Rc;

        struct SignalsAtEnd(Rc<Event>);

        impl Drop for SignalsAtEnd {
            fn drop(&mut self) {
                self.0.notify().unwrap();
            }
        }

        injecting(test_name!(), WAIT, "EAGAIN:when=2+2", 20, || {
            let event = Rc::new(Event::new().unwrap());
            let local = Local::new(SignalsAtEnd(Rc::clone(&event)));
            let thread = std::thread::spawn(move || {
                std::thread::sleep(std::time::Duration::from_millis(250));
                drop(local);
            });
            let builder = fahrenheit::Builder::new().panic_when_stuck(true);
            builder.block_on(event.wait()).unwrap().unwrap();
            thread.join().unwrap();
        });
    }

    /// Has every accept fail by `errno`, as a sandbox or a network that is down does.
    fn accept_says_always(name: &str, errno: nix::Error) {
        injecting(name, ACCEPT, &format!("{errno:?}"), 100, || {
            go(async {
                let listener = fahrenheit::AsyncTcpListener::bind("127.0.0.1:0").unwrap();
                let _client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
                let limit = std::time::Duration::from_secs(5);
                let accepted = fahrenheit::time::timeout(limit, listener.accept()).await;
                let error = accepted.expect("it is not tried for ever").unwrap_err();
                assert_eq!(error.raw_os_error(), Some(errno as i32));
            });
        });
    }

    #[test]
    fn an_accept_that_is_never_permitted_is_an_error() {
        accept_says_always(test_name!(), nix::Error::EPERM);
    }

    #[test]
    fn an_accept_whose_network_stays_down_is_an_error() {
        accept_says_always(test_name!(), nix::Error::ENETDOWN);
    }

    #[test]
    fn eintr_on_every_second_connect_is_not_noticed() {
        let name = test_name!();
        injecting(name, "connect", "EINTR:when=2+2", 30, || {
            go(async {
                let listener = fahrenheit::AsyncTcpListener::bind("127.0.0.1:0").unwrap();
                let addr = listener.local_addr().unwrap();
                for _ in 0..10 {
                    fahrenheit::AsyncTcpStream::connect(addr).await.unwrap();
                }
            });
        });
    }

    /// So many wakes from another thread, one at a time.
    const N_PINGS: u32 = 20_000;

    /// The 500th write of the partner is a wake; no other thread here writes as often.
    fn ping_pong() {
        let (ping, pings) = std::sync::mpsc::channel();
        let (pong, mut pongs) = mpsc::unbounded();
        let partner = std::thread::spawn(move || {
            for n in pings {
                pong.unbounded_send(n).unwrap();
            }
        });
        go(async {
            for n in 0..N_PINGS {
                ping.send(n).unwrap();
                assert_eq!(pongs.next().await, Some(n));
            }
        });
        drop(ping);
        partner.join().unwrap();
    }

    #[test]
    fn a_wake_that_is_interrupted_is_repeated() {
        injecting(test_name!(), "write", "EINTR:when=500", 30_000, ping_pong);
    }

    #[test]
    fn a_wake_through_a_pipe_that_says_it_is_full_is_not_lost() {
        let name = test_name!();
        injecting(name, "write", "EAGAIN:when=500", 30_000, ping_pong);
    }

    #[test]
    fn a_wake_that_fails_for_lack_of_space_is_not_lost() {
        let name = test_name!();
        injecting(name, "write", "ENOSPC:when=500", 30_000, ping_pong);
    }
}
