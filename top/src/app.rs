//! What is on the screen, and what keys do. Knows no terminal and no connection.

use crate::screen;
use crate::snapshot::{Order, Snapshot};
use crate::text::{clean, fit, time};
use std::time::Duration;

const KEYS: &str = "p polls  b busy  a age  j k scroll  d dump  w write dump  ? help  q quit";
const BACK: &str = "j k scroll  any other key: back";

const HELP: &str = "\
p  sorts by polls per second
b  sorts by busy time, in parts of the time since the last look
a  sorts by age, the oldest first
j k, arrows, space, Page Up and Page Down scroll
d  shows a dump: what each task waits for, in full
w  writes a dump to a file in the folder in which this program runs
q  quits

A task that is STUCK can never go on: nothing can wake it.
A waker that is elsewhere is in a channel, a lock or on another thread.

Ages and busy times are there if the program uses Builder::track(true).";

/// A key, or what comes close to one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key {
    Char(char),
    Up,
    Down,
    PageUp,
    PageDown,
    Unknown,
}

/// Finds keys in what a terminal sends.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    /// An escape sequence that has begun.
    begun: Vec<u8>,
}

impl Keys {
    /// Takes the next byte. Returns a key if it is complete.
    pub(crate) fn take(&mut self, byte: u8) -> Option<Key> {
        const ESCAPE: u8 = 0x1b;
        if byte == ESCAPE {
            self.begun = vec![byte];
            return None;
        }
        if self.begun.is_empty() {
            return Some(Key::Char(byte.into()));
        }
        self.begun.push(byte);
        let key = match &self.begun[1..] {
            b"[" | b"O" => return None,
            b"[A" | b"OA" => Key::Up,
            b"[B" | b"OB" => Key::Down,
            b"[5~" => Key::PageUp,
            b"[6~" => Key::PageDown,
            // Parameters of a longer sequence.
            [b'[', .., b'0'..=b';'] if self.begun.len() < 16 => return None,
            _ => Key::Unknown,
        };
        self.begun.clear();
        Some(key)
    }
}

/// Where a dump goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DumpTo {
    Screen,
    File,
}

/// What a key asks for that the app cannot do by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    None,
    Quit,
    Dump(DumpTo),
    /// Another order, which also decides which tasks are sent if there are too many.
    Look,
}

/// A line of the screen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) text: String,
    pub(crate) is_inverse: bool,
}

/// What is shown below the summary.
enum View {
    Tasks,
    Text(Vec<String>),
}

/// What is on the screen.
pub(crate) struct App {
    pub(crate) order: Order,
    snapshot: Option<Snapshot>,
    view: View,
    /// Lines and columns.
    pub(crate) size: (usize, usize),
    /// Number of lines that are above the screen.
    scroll: usize,
    /// Shown in place of the keys until the next key.
    message: Option<String>,
    /// For how long the program has not answered.
    silence: Option<Duration>,
}

impl App {
    pub(crate) fn new(order: Order, size: (usize, usize)) -> App {
        App {
            order,
            snapshot: None,
            view: View::Tasks,
            size,
            scroll: 0,
            message: None,
            silence: None,
        }
    }

    /// Shows a new answer.
    pub(crate) fn update(&mut self, mut snapshot: Snapshot) {
        if let Some(before) = &self.snapshot {
            snapshot.compare(before);
        }
        self.snapshot = Some(snapshot);
        self.silence = None;
    }

    /// Notes for how long the program has not answered.
    pub(crate) fn set_silence(&mut self, silence: Duration) {
        self.silence = Some(silence);
    }

    /// The process that is looked into.
    pub(crate) fn pid(&self) -> &str {
        self.snapshot.as_ref().map_or("", |snapshot| &snapshot.pid)
    }

    /// Shows a text until a key is pressed.
    pub(crate) fn show(&mut self, text: &str) {
        self.view = View::Text(text.lines().map(clean).collect());
        self.scroll = 0;
    }

    pub(crate) fn set_message(&mut self, message: String) {
        self.message = Some(message);
    }

    /// Does what a key stands for.
    pub(crate) fn press(&mut self, key: Key) -> Action {
        self.message = None;
        let page = self.size.0.saturating_sub(6).max(1);
        match key {
            Key::Char('j') | Key::Down => self.scroll += 1,
            Key::Char('k') | Key::Up => self.scroll = self.scroll.saturating_sub(1),
            Key::Char(' ') | Key::PageDown => self.scroll += page,
            Key::PageUp => self.scroll = self.scroll.saturating_sub(page),
            _ if matches!(self.view, View::Text(_)) => {
                self.view = View::Tasks;
                self.scroll = 0;
            }
            Key::Char('p') => return self.sort(Order::Polls),
            Key::Char('b') => return self.sort(Order::Busy),
            Key::Char('a') => return self.sort(Order::Age),
            Key::Char('d') => return Action::Dump(DumpTo::Screen),
            Key::Char('w') => return Action::Dump(DumpTo::File),
            Key::Char('?' | 'h') => self.show(HELP),
            Key::Char('q') => return Action::Quit,
            Key::Char(_) | Key::Unknown => {}
        }
        Action::None
    }

    fn sort(&mut self, order: Order) -> Action {
        self.order = order;
        self.scroll = 0;
        self.message = Some(format!("sorted by {}", order.name()));
        Action::Look
    }

    /// The lines of the screen, from top to bottom, each as wide as the screen.
    pub(crate) fn frame(&mut self) -> Vec<Line> {
        let (n_lines, columns) = self.size;
        let mut head = Vec::new();
        let body = match (&self.view, &mut self.snapshot) {
            (View::Text(lines), _) => lines.clone(),
            (View::Tasks, Some(snapshot)) => {
                snapshot.sort(self.order);
                head.extend(
                    screen::summary(snapshot)
                        .into_iter()
                        .map(|text| (text, false)),
                );
                head.push((screen::header(self.order, columns), true));
                screen::rows(snapshot, columns)
            }
            (View::Tasks, None) => vec!["waiting for the first answer".to_owned()],
        };
        let n_body = n_lines.saturating_sub(head.len() + 1);
        // Not past the end, also when there is less to show than before.
        self.scroll = self.scroll.min(body.len().saturating_sub(n_body));
        let body = body.into_iter().skip(self.scroll).map(|text| (text, false));
        let nothing = std::iter::repeat((String::new(), false));
        let body = body.chain(nothing).take(n_body);
        let foot = match (&self.silence, &self.message, &self.view) {
            (Some(silence), ..) => format!("no answer for {}", time(*silence)),
            (_, Some(message), _) => message.clone(),
            (_, _, View::Text(_)) => BACK.to_owned(),
            (_, _, View::Tasks) => KEYS.to_owned(),
        };
        let lines = head.into_iter().take(n_lines.saturating_sub(1));
        let lines = lines.chain(body).chain([(foot, true)]);
        let line = |(text, is_inverse): (String, bool)| Line {
            text: fit(&text, columns, false),
            is_inverse,
        };
        lines.map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_among_escape_sequences() {
        let mut keys = Keys::default();
        let bytes = b"q\x1b[A\x1bOB\x1b[6~\x1b[1;5C\x1bxp\x1b\x1b[5~";
        let found: Vec<_> = bytes.iter().filter_map(|byte| keys.take(*byte)).collect();
        use Key::{Char, Down, PageDown, PageUp, Unknown, Up};
        let expected = [
            Char('q'),
            Up,
            Down,
            PageDown,
            Unknown,
            Unknown,
            Char('p'),
            PageUp,
        ];
        assert_eq!(found, expected);
        // No sequence is endless.
        assert!(
            (0..100).any(|_| keys.take(b'\x1b').or(keys.take(b'[')).is_some() || {
                (0..100).any(|_| keys.take(b'1').is_some())
            })
        );
    }

    #[test]
    fn a_frame_fills_the_screen_whatever_its_size() {
        let tasks = "task\tid=1\tstate=waiting\tname=x\n".repeat(50);
        let answer = format!("fahrenheit\tprotocol=1\tpid=7\n{tasks}loop\tpolls=1");
        for size in [
            (1, 1),
            (2, 3),
            (4, 10),
            (5, 80),
            (24, 80),
            (60, 200),
            (100, 7),
        ] {
            let mut app = App::new(Order::Busy, size);
            for has_snapshot in [false, true] {
                if has_snapshot {
                    app.update(Snapshot::parse(&answer).expect("an answer"));
                }
                for key in ['?', ' ', 'x', ' ', ' ', ' ', 'j', 'k'] {
                    app.press(Key::Char(key));
                    let frame = app.frame();
                    assert_eq!(frame.len(), size.0);
                    assert!(frame.iter().all(|line| line.text.len() == size.1));
                }
            }
        }
    }
}
