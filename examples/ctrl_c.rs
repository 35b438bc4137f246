//! Ends in good order: at Ctrl-C or SIGTERM it finishes the job in hand; SIGHUP starts the count
//! again. A second Ctrl-C ends it at once, because the program no longer listens for it.
//!
//! Terminal 1: `cargo run --example ctrl_c`, then press Ctrl-C
//! (or `… --example ctrl_c 5` for a job of five seconds; two Ctrl-C then do not wait for its end)
//! Terminal 2: `pkill -HUP -f examples/ctrl_c`

use fahrenheit::prelude::*;
use fahrenheit::signal::{Signal, Signals};
use fahrenheit::time::sleep;
use futures_util::future::{Either, select};
use shared::{fail, print};
use std::cell::Cell;
use std::time::Duration;

mod shared;

fn main() {
    let seconds = match &shared::args()[..] {
        [] => Some(1),
        [seconds] => seconds.parse().ok(),
        _ => None,
    };
    let seconds = seconds.unwrap_or_else(|| fail(2, "usage: ctrl_c [SECONDS]"));
    if let Err(error) = fahrenheit::run(work(Duration::from_secs(seconds))) {
        fail(1, &format!("ctrl_c: cannot listen to signals: {error}"));
    }
}

async fn work(job: Duration) -> std::io::Result<()> {
    let n_jobs = Cell::new(0);
    let told = listen(&n_jobs)?;
    say("working; press Ctrl-C to end");
    let mut told = Box::pin(told);
    loop {
        match select(told, Box::pin(sleep(job))).await {
            Either::Left((signal, rest_of_the_job)) => {
                say(&format!("{signal}: finishing the job in hand"));
                rest_of_the_job.await;
                say(&format!("{} jobs done", n_jobs.get() + 1));
                return Ok(());
            }
            Either::Right(((), listening)) => told = listening,
        }
        n_jobs.set(n_jobs.get() + 1);
        say(&format!("job {} is done", n_jobs.get()));
    }
}

/// The signal that asks for the end. It is heard from the call on, until the future is ready.
fn listen(n_jobs: &Cell<u64>) -> std::io::Result<impl Future<Output = Signal>> {
    let mut signals = Signals::new([Signal::INT, Signal::TERM, Signal::HUP])?;
    Ok(async move {
        while let Some(signal) = signals.next().await {
            if signal != Signal::HUP {
                return signal;
            }
            n_jobs.set(0);
            say(&format!("{signal}: counting again"));
        }
        std::future::pending().await
    })
}

fn say(text: &str) {
    print(format!("ctrl_c: {text}\n").as_bytes());
}
