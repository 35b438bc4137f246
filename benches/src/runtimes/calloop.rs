//! calloop: callbacks first, with an executor as one of its sources.
//!
//! It has neither join handles nor timers as futures, so a channel stands in for the first, and
//! rows that need the second are left out.

use calloop::futures::{Scheduler, executor};
use calloop::io::Async;
use calloop::{EventLoop, LoopHandle};
use futures_channel::oneshot;
use futures_util::{AsyncReadExt, AsyncWriteExt};
use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::net::{TcpListener, TcpStream};
use std::pin::pin;

use super::{Executor, Net};
use crate::work::YieldOnce;

pub(crate) struct Calloop;

#[derive(Clone)]
struct Context {
    scheduler: Scheduler<()>,
    handle: LoopHandle<'static, ()>,
}

thread_local! {
    static CONTEXT: RefCell<Option<Context>> = const { RefCell::new(None) };
}

fn context() -> Context {
    let context = CONTEXT.with(|context| context.borrow().clone());
    context.expect("called from inside the loop")
}

impl Executor for Calloop {
    fn block_on<T: 'static>(main: impl Future<Output = T> + 'static) -> T {
        let mut event_loop = EventLoop::try_new().expect("calloop starts");
        let (source, scheduler) = executor().expect("calloop starts");
        let handle = event_loop.handle();
        let inserted = handle.insert_source(source, |(), (), ()| {});
        inserted.expect("calloop takes its own executor");
        CONTEXT.with(|context| context.replace(Some(Context { scheduler, handle })));
        let output = event_loop.block_on(main, &mut (), |()| {});
        let output = output.expect("calloop runs").expect("nobody stops it");
        // Tasks hold the loop, and the loop holds the tasks.
        std::mem::forget(event_loop);
        output
    }

    fn spawn<T: 'static>(
        future: impl Future<Output = T> + 'static,
    ) -> impl Future<Output = T> + 'static {
        let (done, joined) = oneshot::channel();
        Calloop::detach(async move {
            let _ = done.send(future.await);
        });
        async move {
            joined
                .await
                .expect("a task of the benchmark does not panic")
        }
    }

    fn detach(future: impl Future<Output = ()> + 'static) {
        let scheduled = context().scheduler.schedule(future);
        scheduled.expect("the executor lives as long as the loop");
    }

    fn yield_now() -> impl Future<Output = ()> {
        YieldOnce::default()
    }
}

impl Net for Calloop {
    type Listener = RefCell<Async<'static, TcpListener>>;
    type Stream = Async<'static, TcpStream>;

    fn listener(listener: TcpListener) -> io::Result<Self::Listener> {
        let listener = context().handle.adapt_io(listener);
        listener.map(RefCell::new).map_err(io::Error::other)
    }

    async fn accept(listener: &Self::Listener) -> io::Result<Self::Stream> {
        loop {
            let accepted = listener.borrow_mut().get_mut().accept();
            match accepted {
                Ok((stream, _)) => {
                    return context().handle.adapt_io(stream).map_err(io::Error::other);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            poll_fn(|cx| pin!(listener.borrow_mut().readable()).poll(cx)).await;
        }
    }

    async fn read(stream: &mut Self::Stream, mut buffer: Vec<u8>) -> (io::Result<usize>, Vec<u8>) {
        (stream.read(&mut buffer).await, buffer)
    }

    async fn write(
        stream: &mut Self::Stream,
        buffer: Vec<u8>,
        n: usize,
    ) -> (io::Result<()>, Vec<u8>) {
        (stream.write_all(&buffer[..n]).await, buffer)
    }
}
