//! Other programs' loops as hosts, which wait for one descriptor:
//! `with-hosts poll|glib|calloop|tokio`.
#![forbid(unsafe_code)]

use calloop::generic::Generic;
use calloop::{EventLoop, Interest, Mode, PostAction};
use fahrenheit::prelude::*;
use fahrenheit::{AsyncTcpListener, AsyncTcpStream, interest_fd, spawn, task::JoinHandle, turn};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::error::Error;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;
use tokio::io::unix::AsyncFd;

fn main() -> Result<(), Box<dyn Error>> {
    let task = spawn(echoes());
    let host = std::env::args().nth(1).unwrap_or_default();
    match host.as_str() {
        "poll" => with_poll(&task)?,
        "glib" => with_glib(&task)?,
        "calloop" => with_calloop(&task)?,
        "tokio" => with_tokio(&task)?,
        _ => return Err("usage: with-hosts poll|glib|calloop|tokio".into()),
    }
    println!("{} echoes", fahrenheit::block_on(task)??);
    Ok(())
}

/// A loop by hand, in which descriptors of its own would stand beside that of the guest.
fn with_poll(task: &JoinHandle<impl Sized>) -> Result<(), Box<dyn Error>> {
    while !task.is_finished() {
        let guest = interest_fd()?;
        let mut fds = [PollFd::new(guest.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::NONE)?;
        turn(Some(Duration::ZERO))?;
    }
    Ok(())
}

/// The loop of GTK and GNOME programs. A GTK program has a source like this one, and no loop.
fn with_glib(task: &JoinHandle<impl Sized>) -> Result<(), Box<dyn Error>> {
    let guest = interest_fd()?;
    glib::unix_fd_add_local(guest.as_raw_fd(), glib::IOCondition::IN, |_, _| {
        match turn(Some(Duration::ZERO)).and_then(|_| interest_fd()) {
            Ok(_) => glib::ControlFlow::Continue,
            Err(_) => glib::ControlFlow::Break,
        }
    });
    while !task.is_finished() {
        glib::MainContext::default().iteration(true);
    }
    Ok(())
}

/// calloop waits level-triggered, which is the simple case.
fn with_calloop(task: &JoinHandle<impl Sized>) -> Result<(), Box<dyn Error>> {
    let mut host: EventLoop<'_, ()> = EventLoop::try_new()?;
    let guest = Generic::new(interest_fd()?, Interest::READ, Mode::Level);
    host.handle().insert_source(guest, |_, _, ()| {
        turn(Some(Duration::ZERO))?;
        interest_fd().map(|_| PostAction::Continue)
    })?;
    while !task.is_finished() {
        host.dispatch(None, &mut ())?;
    }
    Ok(())
}

/// tokio is told of changes only, so the loop is turned until nothing is left to do.
fn with_tokio(task: &JoinHandle<impl Sized>) -> Result<(), Box<dyn Error>> {
    let host = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    host.block_on(async {
        // tokio would rather have this unsafe, because a type may change its descriptor while it is
        // registered. The guest's stays open and its own for as long as `guest` lives.
        #[expect(deprecated, reason = "the replacement is unsafe")]
        let guest = AsyncFd::with_interest(interest_fd()?, tokio::io::Interest::READABLE)?;
        while !task.is_finished() {
            let mut ready = guest.readable().await?;
            while turn(Some(Duration::ZERO))? > 0 {}
            interest_fd()?;
            ready.clear_ready();
        }
        Ok(())
    })
}

/// The guest: twenty clients and their server, with pauses. Returns the number of echoes.
async fn echoes() -> std::io::Result<usize> {
    let listener = AsyncTcpListener::bind("127.0.0.1:0")?;
    let addr = listener.local_addr()?;
    spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            spawn(async move { futures_util::io::copy(&stream, &mut &stream).await }).detach();
        }
    })
    .detach();
    let client = |n: u64| async move {
        let mut stream = AsyncTcpStream::connect(addr).await?;
        for round in 0..100_u8 {
            stream.write_all(&[round]).await?;
            let mut byte = [0];
            stream.read_exact(&mut byte).await?;
            assert_eq!(byte, [round]);
            if u64::from(round) % 20 == n {
                fahrenheit::time::sleep(Duration::from_millis(1)).await;
            }
        }
        std::io::Result::Ok(100)
    };
    let clients = futures_util::future::try_join_all((0..20).map(client)).await?;
    Ok(clients.into_iter().sum())
}
