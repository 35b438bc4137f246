//! A chat: the first line of a client is its name, and each further line goes to all others.
//!
//! Terminal 1: `cargo run --example chat` (or `cargo run --example chat 127.0.0.1:7000`)
//! Terminals 2, 3 and more: `nc 127.0.0.1 7878`; type a name, then lines.
//!
//! No client waits for a slow reader: when its short queue is full, it is cut off.

mod shared;

use fahrenheit::{AsyncTcpListener, AsyncTcpStream, prelude::*, signal::Signal};
use fahrenheit::{task::AbortHandle, time::timeout};
use futures_channel::mpsc::{Receiver, Sender, channel};
use futures_util::future::{Either, select};
use futures_util::io::BufReader;
use std::{cell::RefCell, collections::BTreeMap, io, pin::pin, rc::Rc, time::Duration};

/// The queue of each client, and how to cut it off.
type Room = Rc<RefCell<BTreeMap<u64, (Sender<Rc<str>>, AbortHandle)>>>;

fn main() {
    let _ = fahrenheit::signal::dump_on(Signal::USR1); // Prints what each client waits for.
    fahrenheit::run(serve(shared::listen("chat", "127.0.0.1:7878")));
}

async fn serve(listener: AsyncTcpListener) {
    let room = Room::default();
    for id in 0.. {
        match listener.accept().await {
            Ok((stream, _peer)) => {
                let (sender, queue) = channel(64);
                let task = fahrenheit::spawn(client(id, stream, queue, room.clone()));
                room.borrow_mut().insert(id, (sender, task.abort_handle()));
            }
            Err(error) => shared::say(&format!("chat: cannot accept: {error}")),
        }
    }
}

async fn client(id: u64, stream: AsyncTcpStream, queue: Receiver<Rc<str>>, room: Room) {
    let send = async |line: Rc<str>| (&stream).write_all(line.as_bytes()).await;
    let hear = pin!(queue.map(Ok).try_for_each(send));
    let speak = pin!(speak(&stream, &room));
    let ended = select(speak, hear).await;
    room.borrow_mut().remove(&id);
    if let Either::Left((_, hear)) = ended {
        // It has said all, and gets what is queued; the queue ends, as its sender is gone.
        let _ = timeout(Duration::from_secs(5), hear).await;
    }
}

async fn speak(stream: &AsyncTcpStream, room: &Room) -> io::Result<()> {
    let mut lines = BufReader::new(stream);
    let name = read_line(&mut lines).await?;
    broadcast(room, format!("* {name} is here\n"));
    while let Ok(line) = read_line(&mut lines).await {
        broadcast(room, format!("{name}: {line}\n"));
        // A long text must not fill the queues of those who would read at once.
        fahrenheit::yield_now().await;
    }
    broadcast(room, format!("* {name} has gone\n"));
    Ok(())
}

/// A line, or a piece of a long one, without what would disturb a terminal.
async fn read_line(lines: &mut BufReader<&AsyncTcpStream>) -> io::Result<String> {
    let mut line = Vec::new();
    match lines.take(1000).read_until(b'\n', &mut line).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(String::from_utf8_lossy(&line).replace(char::is_control, "")),
    }
}

fn broadcast(room: &Room, line: String) {
    let line = Rc::from(line);
    room.borrow_mut().retain(|_, (queue, task)| {
        let sent = queue.try_send(Rc::clone(&line));
        sent.map_err(|_full| task.abort()).is_ok()
    });
}
