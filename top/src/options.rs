//! The command line.

use crate::snapshot::Order;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// The shortest time between two looks. The program under observation limits what they cost.
const MIN_INTERVAL: f64 = 0.1;
/// The longest one: after a minute of silence the connection is closed.
const MAX_INTERVAL: f64 = 30.0;

/// How the program is to run.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) path: PathBuf,
    pub(crate) once: bool,
    pub(crate) order: Order,
    pub(crate) interval: Duration,
}

/// What the command line asks for.
#[derive(Debug)]
pub(crate) enum Parsed {
    Run(Options),
    Help,
    Version,
}

impl Options {
    /// Reads the arguments. The error is for the user.
    pub(crate) fn parse(args: impl Iterator<Item = OsString>) -> Result<Parsed, String> {
        let mut options = Options {
            path: PathBuf::new(),
            once: false,
            order: Order::Polls,
            interval: Duration::from_secs(1),
        };
        let mut args = args;
        while let Some(arg) = args.next() {
            match arg.to_str() {
                Some("--help" | "-h") => return Ok(Parsed::Help),
                Some("--version" | "-V") => return Ok(Parsed::Version),
                Some("--once") => options.once = true,
                Some("--sort") => options.order = order(args.next())?,
                Some("--interval") => options.interval = interval(args.next())?,
                Some(text) if text.starts_with('-') => {
                    return Err(format!("there is no option {text:?}"));
                }
                _ if options.path.as_os_str().is_empty() => options.path = PathBuf::from(arg),
                _ => return Err("there is one path too many".to_owned()),
            }
        }
        match options.path.as_os_str().is_empty() {
            true => Err("the path of the socket is missing".to_owned()),
            false => Ok(Parsed::Run(options)),
        }
    }
}

fn order(value: Option<OsString>) -> Result<Order, String> {
    let value = value.and_then(|value| value.into_string().ok());
    match value.as_deref() {
        Some("polls") => Ok(Order::Polls),
        Some("busy") => Ok(Order::Busy),
        Some("age") => Ok(Order::Age),
        _ => Err("--sort takes polls, busy or age".to_owned()),
    }
}

fn interval(value: Option<OsString>) -> Result<Duration, String> {
    let value = value.and_then(|value| value.into_string().ok());
    let seconds = value.and_then(|value| value.parse::<f64>().ok());
    match seconds.filter(|seconds| (MIN_INTERVAL..=MAX_INTERVAL).contains(seconds)) {
        Some(seconds) => Ok(Duration::from_secs_f64(seconds)),
        None => Err(format!(
            "--interval takes {MIN_INTERVAL} to {MAX_INTERVAL} seconds"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Parsed, String> {
        Options::parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn options_and_the_path_come_in_any_order() {
        let Ok(Parsed::Run(options)) = parse("--sort busy /tmp/a --once --interval 0.5") else {
            panic!("refused");
        };
        assert_eq!(options.path, PathBuf::from("/tmp/a"));
        assert!(options.once && options.order == Order::Busy);
        assert_eq!(options.interval, Duration::from_millis(500));
        assert!(matches!(parse("--help"), Ok(Parsed::Help)));
        assert!(matches!(parse("a --version"), Ok(Parsed::Version)));
    }

    #[test]
    fn wrong_arguments_are_refused() {
        let wrong = [
            "",
            "a b",
            "--sort a",
            "a --sort",
            "a --interval 0",
            "a --interval NaN",
            "-x a",
        ];
        for line in wrong {
            assert!(parse(line).is_err(), "{line:?}");
        }
    }
}
