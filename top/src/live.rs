//! The live view: several futures that share an [`App`]. The first one to end ends the program.

use crate::app::{Action, App, DumpTo, Keys, Line};
use crate::client::Client;
use crate::options::Options;
use crate::snapshot::Snapshot;
use crate::terminal::{self, Terminal};
use fahrenheit::signal::{Signal, Signals};
use fahrenheit::time::{sleep, timeout};
use fahrenheit::{Event, prelude::*};
use futures_util::future::{LocalBoxFuture, select, select_all};
use nix::sys::signal::{Signal as Kind, raise};
use std::cell::{Cell, RefCell};
use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::pin::pin;
use std::time::{Duration, Instant};

/// A program that has not answered for this long is reported as silent.
const SILENCE: Duration = Duration::from_secs(2);
/// Maximum number of files that are tried for a dump.
const MAX_FILES: u32 = 1_000;

/// What the futures share.
struct Shared<'a> {
    app: RefCell<App>,
    /// The screen has to be drawn again.
    has_changed: Event,
    /// What is wanted from the program, before the next look is due.
    wanted: Cell<Action>,
    is_wanted: Event,
    terminal: &'a Terminal,
    /// The terminal has lost what was drawn.
    is_blank: Cell<bool>,
}

/// Why the program ends.
enum End {
    Quit,
    Signal(Kind),
}

/// Shows the tasks until the user has seen enough. The error is for the user.
pub(crate) async fn run(options: &Options) -> Result<String, String> {
    let client = Client::connect(&options.path).await?;
    let system = |error: io::Error| format!("the terminal: {error}");
    let end = {
        // Before the terminal is changed: each of them would leave it as it is then.
        let ends = Signals::new([Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT]);
        let (ends, stops) = (
            ends.map_err(system)?,
            Signals::new([Signal::TSTP]).map_err(system)?,
        );
        let terminal = Terminal::enter().map_err(system)?;
        let shared = Shared {
            app: RefCell::new(App::new(options.order, terminal::size().await)),
            has_changed: Event::new().map_err(system)?,
            wanted: Cell::new(Action::None),
            is_wanted: Event::new().map_err(system)?,
            terminal: &terminal,
            is_blank: Cell::new(true),
        };
        let futures: [LocalBoxFuture<'_, Result<End, String>>; 6] = [
            Box::pin(shared.look(client, options.interval)),
            Box::pin(async { shared.draw().await.map_err(system) }),
            Box::pin(async { shared.read_keys().await.map_err(system) }),
            Box::pin(async { shared.follow_size().await.map_err(system) }),
            Box::pin(async { shared.stop(stops).await.map_err(system) }),
            Box::pin(async { end_at_signal(ends).await.map_err(system) }),
        ];
        let (end, _, others) = select_all(futures).await;
        // Before the terminal, which must not get another line.
        drop(others);
        end
    };
    if let End::Signal(kind) = end? {
        // The listener is gone, so this ends the program, and its parent learns why.
        let _ = raise(kind);
    }
    Ok(String::new())
}

/// Notifies the future that waits for `event`. That fails only if other code has closed its
/// descriptor, which this program does not do.
fn notify(event: &Event) {
    let _ = event.notifier().notify();
}

/// Waits for a signal that asks for the end.
async fn end_at_signal(mut signals: Signals) -> io::Result<End> {
    Ok(match signals.next().await {
        // Ctrl-C is a way to quit.
        None | Some(Signal::INT) => End::Quit,
        Some(signal) => Kind::try_from(signal.as_raw()).map_or(End::Quit, End::Signal),
    })
}

impl Shared<'_> {
    fn changed(&self) {
        notify(&self.has_changed);
    }

    /// Asks the program again and again.
    async fn look(&self, mut client: Client, interval: Duration) -> Result<End, String> {
        loop {
            let order = self.app.borrow().order;
            let answer = self.ask(&mut client, order.request()).await?;
            let snapshot = Snapshot::parse(&answer)?;
            self.app.borrow_mut().update(snapshot);
            self.changed();
            let pause = pin!(sleep(interval));
            select(pause, pin!(self.is_wanted.wait())).await;
            if let Action::Dump(to) = self.wanted.replace(Action::None) {
                let text = self.ask(&mut client, "dump oldest").await?;
                match to {
                    DumpTo::Screen => self.app.borrow_mut().show(&text),
                    DumpTo::File => {
                        let message = self.write_dump(&text);
                        self.app.borrow_mut().set_message(message);
                    }
                }
                self.changed();
            }
        }
    }

    /// Sends a request, and shows it if the answer takes long.
    async fn ask(&self, client: &mut Client, request: &str) -> Result<String, String> {
        let mut answer = pin!(client.ask(request));
        let begin = Instant::now();
        loop {
            if let Ok(answer) = timeout(SILENCE, answer.as_mut()).await {
                return answer;
            }
            self.app.borrow_mut().set_silence(begin.elapsed());
            self.changed();
        }
    }

    /// Writes a dump to a new file, and returns what is to be said about it.
    fn write_dump(&self, text: &str) -> String {
        let app = self.app.borrow();
        let pid: String = app.pid().chars().filter(char::is_ascii_digit).collect();
        for n in 1..=MAX_FILES {
            let name = format!("fahrenheit-{pid}-{n}.dump");
            let file = OpenOptions::new().write(true).create_new(true).open(&name);
            let written = file.and_then(|mut file| file.write_all(format!("{text}\n").as_bytes()));
            match written {
                Ok(()) => return format!("written to {name}"),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return format!("cannot write {name}: {error}"),
            }
        }
        "there are too many dumps in this folder".to_owned()
    }

    /// Draws the screen whenever it has changed.
    async fn draw(&self) -> io::Result<End> {
        let mut stdout = fahrenheit::io::stdout()?;
        let mut drawn: Vec<Line> = Vec::new();
        loop {
            let frame = self.app.borrow_mut().frame();
            let mut text = String::new();
            if self.is_blank.replace(false) || frame.len() != drawn.len() {
                text.push_str("\x1b[2J");
                drawn.clear();
            }
            for (n, line) in frame
                .iter()
                .enumerate()
                .filter(|(n, l)| drawn.get(*n) != Some(l))
            {
                let mode = if line.is_inverse { "7" } else { "0" };
                // The line is as wide as the screen, so nothing is left of what was there.
                let _ = write!(text, "\x1b[{};1H\x1b[{mode}m{}\x1b[0m", n + 1, line.text);
            }
            stdout.write_all(text.as_bytes()).await?;
            drawn = frame;
            self.has_changed.wait().await?;
        }
    }

    async fn read_keys(&self) -> io::Result<End> {
        let mut stdin = fahrenheit::io::stdin()?;
        let mut keys = Keys::default();
        let mut bytes = [0; 64];
        loop {
            let n = match stdin.read(&mut bytes).await? {
                // The terminal is gone.
                0 => return Ok(End::Quit),
                n => n,
            };
            for key in bytes[..n].iter().filter_map(|byte| keys.take(*byte)) {
                let action = self.app.borrow_mut().press(key);
                match action {
                    Action::None => {}
                    Action::Quit => return Ok(End::Quit),
                    Action::Look | Action::Dump(_) => {
                        self.wanted.set(action);
                        notify(&self.is_wanted);
                    }
                }
                self.changed();
            }
        }
    }

    /// Follows the size of the terminal.
    async fn follow_size(&self) -> io::Result<End> {
        let mut signals = Signals::new([Signal::WINCH])?;
        while signals.next().await.is_some() {
            let size = terminal::size().await;
            self.app.borrow_mut().size = size;
            self.is_blank.set(true);
            self.changed();
        }
        Ok(End::Quit)
    }

    /// Stops at Ctrl-Z, with the terminal as it was, and goes on later.
    async fn stop(&self, mut signals: Signals) -> io::Result<End> {
        while signals.next().await.is_some() {
            self.terminal.suspend();
            raise(Kind::SIGSTOP)?;
            self.terminal.resume()?;
            // The window may have another size by now.
            let size = terminal::size().await;
            self.app.borrow_mut().size = size;
            self.is_blank.set(true);
            self.changed();
        }
        Ok(End::Quit)
    }
}
