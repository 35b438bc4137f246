//! Step 5: timers and threads. A table of deadlines limits the sleep, and a thread that has done
//! its job wakes a task of the loop by a byte in a pipe. The server looks up every second how many
//! clients it has had, on a thread, as a program would do that has to read a slow file.
//!
//! `cargo run --bin step5_timers_threads 127.0.0.1:7878`

#[path = "shared/echo.rs"]
mod echo;
#[path = "shared/reactor.rs"]
mod reactor;

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::future::{Future, poll_fn};
use std::io::{self, Read, Write};
use std::mem;
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{TryRecvError, sync_channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

thread_local! {
    static EXECUTOR: RefCell<Executor> = RefCell::new(Executor::new());
}

struct Executor {
    tasks: BTreeMap<u64, Pin<Box<dyn Future<Output = ()>>>>,
    /// By deadline. The number tells timers with the same deadline apart.
    timers: BTreeMap<(Instant, u64), Waker>,
    next_id: u64,
    inbox: Arc<Inbox>,
}

/// What other threads may use: the woken tasks, and the end of a pipe that ends the sleep.
struct Inbox {
    woken: Mutex<VecDeque<u64>>,
    pipe: UnixStream,
}

struct TaskWaker {
    id: u64,
    inbox: Arc<Inbox>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.inbox
            .woken
            .lock()
            .expect("no code panics with the lock")
            .push_back(self.id);
        // If the pipe is full, there are bytes enough to end the sleep. A better loop writes only
        // while it is asleep, and not for wakes on its own thread.
        let _ = (&self.inbox.pipe).write(&[0]);
    }
}

fn main() -> io::Result<()> {
    let listener = echo::listen()?;
    let n_clients = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&n_clients);
    spawn(async move {
        while let Ok(stream) = echo::accept(&listener).await {
            counter.fetch_add(1, Ordering::Relaxed);
            spawn(async move {
                let _ = echo::echo(stream).await;
            });
        }
    });
    spawn(async move {
        loop {
            sleep(Duration::from_secs(1)).await;
            let n_clients = Arc::clone(&n_clients);
            let n = on_a_thread(move || n_clients.load(Ordering::Relaxed)).await;
            eprintln!("{n} clients so far");
        }
    });
    run()
}

/// Waits for `duration`.
async fn sleep(duration: Duration) {
    let deadline = Instant::now() + duration;
    poll_fn(|cx| {
        if Instant::now() >= deadline {
            return Poll::Ready(());
        }
        EXECUTOR.with_borrow_mut(|executor| {
            let id = executor.next_id;
            executor.next_id += 1;
            executor.timers.insert((deadline, id), cx.waker().clone());
        });
        Poll::Pending
    })
    .await;
}

/// Runs a job that blocks on a thread of its own, and waits for its result.
async fn on_a_thread<T: Send + 'static>(job: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = sync_channel(1);
    let mut job = Some(job);
    poll_fn(|cx| {
        if let Some(job) = job.take() {
            let (sender, waker) = (sender.clone(), cx.waker().clone());
            thread::spawn(move || {
                // The result first: the task looks for it as soon as it is woken.
                let _ = sender.send(job());
                waker.wake();
            });
        }
        match receiver.try_recv() {
            Ok(result) => Poll::Ready(result),
            Err(TryRecvError::Empty) => Poll::Pending,
            Err(TryRecvError::Disconnected) => unreachable!("this future holds a sender"),
        }
    })
    .await
}

impl Executor {
    fn new() -> Executor {
        let (reader, writer) = UnixStream::pair().expect("two free descriptors");
        for end in [&reader, &writer] {
            end.set_nonblocking(true)
                .expect("a socket can be non-blocking");
        }
        let inbox = Arc::new(Inbox {
            woken: Mutex::default(),
            pipe: writer,
        });
        let mut executor = Executor {
            tasks: BTreeMap::new(),
            timers: BTreeMap::new(),
            next_id: 0,
            inbox,
        };
        // The pipe is read by a task like any other.
        executor.spawn(async move {
            let reader = Rc::new(reader);
            let mut bytes = [0; 64];
            while reactor::readable(&reader, || (&*reader).read(&mut bytes))
                .await
                .is_ok()
            {}
        });
        executor
    }

    fn spawn(&mut self, future: impl Future<Output = ()> + 'static) {
        let id = self.next_id;
        self.next_id += 1;
        self.tasks.insert(id, Box::pin(future));
        self.inbox
            .woken
            .lock()
            .expect("no code panics with the lock")
            .push_back(id);
    }
}

fn spawn(future: impl Future<Output = ()> + 'static) {
    EXECUTOR.with_borrow_mut(|executor| executor.spawn(future));
}

fn run() -> io::Result<()> {
    let inbox = EXECUTOR.with_borrow(|executor| Arc::clone(&executor.inbox));
    loop {
        let batch = mem::take(&mut *inbox.woken.lock().expect("no code panics with the lock"));
        let is_idle = batch.is_empty();
        for id in batch {
            poll(id, &inbox);
        }
        if is_idle {
            let next = EXECUTOR.with_borrow(|executor| {
                executor
                    .timers
                    .first_key_value()
                    .map(|(&(deadline, _id), _waker)| deadline)
            });
            reactor::wait(next.map(|next| next.saturating_duration_since(Instant::now())))?;
            fire_timers();
        }
    }
}

fn fire_timers() {
    let now = Instant::now();
    let due = EXECUTOR.with_borrow_mut(|executor| {
        let later = executor.timers.split_off(&(now, u64::MAX));
        mem::replace(&mut executor.timers, later)
    });
    due.into_values().for_each(Waker::wake);
}

fn poll(id: u64, inbox: &Arc<Inbox>) {
    let Some(mut task) = EXECUTOR.with_borrow_mut(|executor| executor.tasks.remove(&id)) else {
        return;
    };
    let waker = Waker::from(Arc::new(TaskWaker {
        id,
        inbox: Arc::clone(inbox),
    }));
    if task
        .as_mut()
        .poll(&mut Context::from_waker(&waker))
        .is_pending()
    {
        EXECUTOR.with_borrow_mut(|executor| executor.tasks.insert(id, task));
    }
}
