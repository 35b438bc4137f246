//! Ends in good order: at Ctrl-C or SIGTERM it finishes the job in hand; SIGHUP starts the count
//! again. A second Ctrl-C ends it at once, because nobody listens any more.
//!
//! Terminal 1: `cargo run --example ctrl_c`, then press Ctrl-C
//! (or `… --example ctrl_c 5` for a job of five seconds; two Ctrl-C then do not wait for its end)
//! Terminal 2: `pkill -HUP -f examples/ctrl_c`

use fahrenheit::prelude::*;
use fahrenheit::signal::{Signal, Signals};
use fahrenheit::time::sleep;
use futures_util::future::{Either, select};
use std::cell::Cell;
use std::process::exit;
use std::time::Duration;

fn main() {
    let mut args = std::env::args().skip(1);
    let seconds = args.next().map_or(Ok(1), |word| word.parse());
    let (Ok(seconds), None) = (seconds, args.next()) else {
        eprintln!("usage: ctrl_c [SECONDS]");
        exit(2);
    };
    if let Err(error) = fahrenheit::run(work(Duration::from_secs(seconds))) {
        eprintln!("ctrl_c: cannot listen to signals: {error}");
        exit(1);
    }
}

async fn work(job: Duration) -> std::io::Result<()> {
    let n_jobs = Cell::new(0);
    let told = listen(&n_jobs)?;
    println!("ctrl_c: working; press Ctrl-C to end");
    let mut told = Box::pin(told);
    loop {
        match select(told, Box::pin(sleep(job))).await {
            Either::Left((signal, rest_of_the_job)) => {
                println!("ctrl_c: {signal}: finishing the job in hand");
                rest_of_the_job.await;
                println!("ctrl_c: {} jobs done", n_jobs.get() + 1);
                return Ok(());
            }
            Either::Right(((), listening)) => told = listening,
        }
        n_jobs.set(n_jobs.get() + 1);
        println!("ctrl_c: job {} is done", n_jobs.get());
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
            println!("ctrl_c: {signal}: counting again");
        }
        std::future::pending().await
    })
}
