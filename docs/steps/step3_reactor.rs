//! Step 3: a reactor. A future that meets `WouldBlock` leaves its waker beside the descriptor, and
//! the loop sleeps in `select` until one of the descriptors is ready. There is one future, so the
//! server has one client at a time.
//!
//! `cargo run --bin step3_reactor 127.0.0.1:7878`

#[path = "shared/echo.rs"]
mod echo;
#[path = "shared/reactor.rs"]
mod reactor;

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

/// Notes that the future was woken and should be polled.
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn main() -> io::Result<()> {
    let listener = echo::listen()?;
    block_on(async {
        loop {
            let stream = echo::accept(&listener).await?;
            // An error ends this connection and no other.
            let _ = echo::echo(stream).await;
        }
    })
}

/// Polls one future until it is ready, and sleeps in between.
fn block_on<T>(future: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let mut future = pin!(future);
    let flag = Arc::new(Flag(AtomicBool::new(true)));
    let waker = Waker::from(Arc::clone(&flag));
    loop {
        if flag.0.swap(false, Ordering::Relaxed) {
            let polled = future.as_mut().poll(&mut Context::from_waker(&waker));
            if let Poll::Ready(output) = polled {
                return output;
            }
        }
        reactor::wait(None)?;
    }
}
