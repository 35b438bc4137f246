//! The terminal: its modes, its size, and that it is left as it was found, whatever happens.

use fahrenheit::process::AsyncCommand;
use nix::sys::termios::{self, FlowArg, LocalFlags, SetArg, SpecialCharacterIndices, Termios};
use std::io::{self, Write};
use std::process::Stdio;
use std::sync::{Mutex, Once};

/// Switches to the second screen, which has no history, and hides the cursor.
const ENTER: &[u8] = b"\x1b[?1049h\x1b[?25l\x1b[2J";
/// Ends all of it.
const LEAVE: &[u8] = b"\x1b[0m\x1b[?25h\x1b[?1049l";

/// The size of a terminal that does not say how large it is, and the largest that is believed.
const DEFAULT_SIZE: (usize, usize) = (24, 80);
const MAX_SIZE: usize = 1_000;

/// The modes as they were found, while they are changed. Global, because the hook for panics needs
/// them as well.
static FOUND: Mutex<Option<Termios>> = Mutex::new(None);

/// A terminal whose keys come one by one, without being shown. Dropping it restores the modes.
pub(crate) struct Terminal(());

impl Terminal {
    /// Changes the modes of the terminal. Ctrl-C and Ctrl-Z still send signals.
    pub(crate) fn enter() -> io::Result<Terminal> {
        static HOOK: Once = Once::new();
        // A message about a panic would be lost with the second screen.
        HOOK.call_once(|| {
            let previous = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |info| {
                restore();
                previous(info);
            }));
        });
        let terminal = Terminal(());
        terminal.resume()?;
        Ok(terminal)
    }

    /// Restores the modes for the time in which this process is stopped.
    pub(crate) fn suspend(&self) {
        restore();
    }

    /// Changes the modes again.
    pub(crate) fn resume(&self) -> io::Result<()> {
        let found = termios::tcgetattr(io::stdin())?;
        let mut wanted = found.clone();
        wanted
            .local_flags
            .remove(LocalFlags::ICANON | LocalFlags::ECHO);
        wanted.control_chars[SpecialCharacterIndices::VMIN as usize] = 1;
        wanted.control_chars[SpecialCharacterIndices::VTIME as usize] = 0;
        // Before the change: whatever comes in between finds something to restore.
        if let Ok(mut slot) = FOUND.lock() {
            slot.get_or_insert(found);
        }
        termios::tcsetattr(io::stdin(), SetArg::TCSANOW, &wanted)?;
        io::stdout().write_all(ENTER)?;
        io::stdout().flush()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        restore();
    }
}

/// Restores the modes if they are changed.
fn restore() {
    // A panic while the lock is held cannot happen, but must not become a second one.
    let Some(found) = FOUND.lock().ok().and_then(|mut found| found.take()) else {
        return;
    };
    // Nothing is left to be done about failures. After Ctrl-S, a write would wait for Ctrl-Q.
    let _ = termios::tcflow(io::stdout(), FlowArg::TCOON);
    let _ = io::stdout().write_all(LEAVE);
    let _ = io::stdout().flush();
    let _ = termios::tcsetattr(io::stdin(), SetArg::TCSANOW, &found);
}

/// Returns the number of lines and columns of the terminal.
///
/// Asks stty(1), because the system call for it needs `unsafe`, and is not the same everywhere.
pub(crate) async fn size() -> (usize, usize) {
    let mut stty = AsyncCommand::new("stty");
    let output = stty.arg("size").stdin(Stdio::inherit()).output().await;
    let text = output.map_or(Vec::new(), |output| output.stdout);
    let text = String::from_utf8_lossy(&text).into_owned();
    let mut numbers = text.split_ascii_whitespace().map(str::parse);
    let size = match (numbers.next(), numbers.next()) {
        (Some(Ok(lines)), Some(Ok(columns))) => (lines, columns),
        _ => (0, 0),
    };
    let or_variable = |n: usize, name: &str, default: usize| match n {
        0 => {
            let value = std::env::var(name).ok();
            value
                .and_then(|value| value.parse().ok())
                .unwrap_or(default)
        }
        n => n,
    };
    let lines = or_variable(size.0, "LINES", DEFAULT_SIZE.0);
    let columns = or_variable(size.1, "COLUMNS", DEFAULT_SIZE.1);
    (lines.clamp(1, MAX_SIZE), columns.clamp(1, MAX_SIZE))
}
