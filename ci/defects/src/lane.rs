//! Copies of the sources that are changed, built and run beside each other.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use crate::root;

/// How a command ended, what it printed, and how long it took.
pub(crate) struct Ran {
    pub(crate) end: End,
    pub(crate) log: String,
    pub(crate) took: Duration,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    Success,
    Failure,
    /// It was killed because it took too long.
    TooLong,
}

/// A copy of some files and folders of the repository, with a target directory of its own.
pub(crate) struct Lane {
    folder: PathBuf,
    changed: BTreeSet<String>,
    environment: Vec<(&'static str, &'static str)>,
}

impl Lane {
    /// Makes the lanes of `what`, as many as the variable `JOBS` says. Much of a build is a single
    /// thread, so two builds keep two processors busy.
    pub(crate) fn make_all(
        what: &str,
        copied: &[&str],
        environment: &[(&'static str, &'static str)],
    ) -> Result<Vec<Lane>, String> {
        let jobs = std::env::var("JOBS").unwrap_or_else(|_| "2".to_owned());
        let n_lanes = jobs
            .parse()
            .ok()
            .filter(|n| *n > 0)
            .ok_or("JOBS is not a number above 0")?;
        let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
        let folder = root().join(target).join(what);
        let make = |number: usize| {
            let folder = folder.join(format!("lane-{number}"));
            let environment = environment.to_vec();
            let lane = Lane {
                folder,
                changed: BTreeSet::new(),
                environment,
            };
            lane.renew(copied)
                .map(|()| lane)
                .map_err(|e| format!("cannot copy the sources: {e}"))
        };
        (0..n_lanes).map(make).collect()
    }

    fn copy(&self) -> PathBuf {
        self.folder.join("copy")
    }

    pub(crate) fn target(&self) -> PathBuf {
        self.folder.join("target")
    }

    /// Makes the copy equal to the sources. Files that are equal keep their times, by which cargo
    /// decides what to build again; the others get new ones.
    fn renew(&self, copied: &[&str]) -> std::io::Result<()> {
        let mut kept = BTreeSet::new();
        for file in copied.iter().flat_map(|name| files_in(&root().join(name))) {
            let copy = self
                .copy()
                .join(file.strip_prefix(root()).expect("it is in the root"));
            let code = fs::read(&file)?;
            if fs::read(&copy).ok().as_ref() != Some(&code) {
                fs::create_dir_all(copy.parent().expect("it is in a folder"))?;
                fs::write(&copy, code)?;
            }
            kept.insert(copy);
        }
        files_in(&self.copy())
            .iter()
            .filter(|file| !kept.contains(*file))
            .try_for_each(fs::remove_file)
    }

    /// Restores what the last call changed, and then changes these files.
    pub(crate) fn write(&mut self, files: &BTreeMap<String, String>) -> Result<(), String> {
        let restored = self
            .changed
            .iter()
            .filter(|path| !files.contains_key(*path));
        let restored = restored.map(|path| (path, fs::read(root().join(path))));
        let changed = files
            .iter()
            .map(|(path, code)| (path, Ok(code.clone().into_bytes())));
        for (path, code) in restored.chain(changed) {
            let written = code.and_then(|code| fs::write(self.copy().join(path), code));
            written.map_err(|error| format!("cannot write the copy of {path}: {error}"))?;
        }
        self.changed = files.keys().cloned().collect();
        Ok(())
    }

    /// Runs a command in the copy; if it builds, with `--cfg` and this name, unless it is empty.
    pub(crate) fn run(&self, limit: Duration, command: &[&str], cfg: &str) -> Result<Ran, String> {
        let log = self.folder.join("log");
        let mut process = Command::new(command[0]);
        process
            .args(&command[1..])
            .current_dir(self.copy())
            .stdin(Stdio::null());
        process
            .env("CARGO_TERM_COLOR", "never")
            .envs(self.environment.iter().copied());
        process.env("CARGO_TARGET_DIR", self.target());
        if !cfg.is_empty() {
            let flags = std::env::var("RUSTFLAGS").unwrap_or_default();
            process.env("RUSTFLAGS", format!("{flags} --cfg {cfg}").trim());
            // A folder of its own, because other flags would build everything again each time.
            process.env(
                "CARGO_TARGET_DIR",
                self.folder.join(format!("target-{cfg}")),
            );
        }
        let failed = |error| format!("cannot run {}: {error}", command[0]);
        let output = File::create(&log).map_err(failed)?;
        process
            .stderr(output.try_clone().map_err(failed)?)
            .stdout(output);
        let (end, took) = wait(&mut process, limit).map_err(failed)?;
        let log = fs::read(log).map_err(failed)?;
        Ok(Ran {
            end,
            log: String::from_utf8_lossy(&log).into_owned(),
            took,
        })
    }
}

/// Starts a process and waits for its end, or kills it and its children.
fn wait(command: &mut Command, limit: Duration) -> std::io::Result<(End, Duration)> {
    let begin = Instant::now();
    // A group of its own, so that its children are killed with it.
    let mut process = command.process_group(0).spawn()?;
    loop {
        if let Some(status) = process.try_wait()? {
            let end = if status.success() {
                End::Success
            } else {
                End::Failure
            };
            return Ok((end, begin.elapsed()));
        }
        if begin.elapsed() > limit {
            let group = format!("-{}", process.id());
            Command::new("kill")
                .args(["-KILL", "--", &group])
                .stderr(Stdio::null())
                .status()?;
            process.wait()?;
            return Ok((End::TooLong, begin.elapsed()));
        }
        // Short beside a build, and beside the limit of any test.
        thread::sleep(Duration::from_millis(10));
    }
}

/// The path, or all files in the folder, in order. What cargo builds is left out.
pub(crate) fn files_in(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths.retain(|path| !path.ends_with("target"));
    paths.iter().flat_map(|path| files_in(path)).collect()
}

/// Calls `work` for all items, and ends at the first error. The lanes begin at opposite ends of the
/// list, so that neighbours, which need the same binaries, are mostly built in one lane.
pub(crate) fn in_lanes<T: Send>(
    lanes: &mut [Lane],
    items: impl IntoIterator<Item = T>,
    work: impl Fn(&mut Lane, T) -> Result<(), String> + Sync,
) -> Result<(), String> {
    let items = Mutex::new((items.into_iter().collect::<VecDeque<_>>(), Ok(())));
    let next = |number: usize| {
        let mut items = items.lock().expect("no lane panics with the lock");
        match items.1 {
            Ok(()) if number % 2 == 0 => items.0.pop_front(),
            Ok(()) => items.0.pop_back(),
            Err(_) => None,
        }
    };
    thread::scope(|scope| {
        for (number, lane) in lanes.iter_mut().enumerate() {
            let (next, items, work) = (&next, &items, &work);
            scope.spawn(move || {
                while let Some(item) = next(number) {
                    if let Err(error) = work(lane, item) {
                        items.lock().expect("no lane panics with the lock").1 = Err(error);
                    }
                }
            });
        }
    });
    items.into_inner().expect("no lane panics with the lock").1
}

/// The last lines of a log, indented.
pub(crate) fn tail(log: &str) -> String {
    let lines: Vec<_> = log.lines().collect();
    indent(&lines[lines.len().saturating_sub(20)..])
}

/// The first errors of a compiler, indented.
pub(crate) fn errors(log: &str) -> String {
    let lines: Vec<_> = log.lines().collect();
    let starts = (0..lines.len()).filter(|index| lines[*index].starts_with("error"));
    let parts = starts
        .take(3)
        .map(|index| indent(&lines[index..lines.len().min(index + 5)]));
    parts.collect::<Vec<_>>().join("\n")
}

fn indent(lines: &[&str]) -> String {
    lines
        .iter()
        .map(|line| format!("    {line}"))
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, limit: Duration) -> End {
        wait(Command::new("sh").args(["-c", script]), limit)
            .unwrap()
            .0
    }

    #[test]
    fn the_end_of_a_process_is_told() {
        let limit = Duration::from_secs(60);
        assert_eq!(shell("exit 0", limit), End::Success);
        assert_eq!(shell("exit 3", limit), End::Failure);
        assert_eq!(shell("kill -KILL $$", limit), End::Failure);
    }

    #[test]
    fn a_process_that_takes_too_long_is_killed_with_its_children() {
        let folder = std::env::temp_dir().join(format!("defects-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let pid = folder.join("pid");
        let script = format!("sleep 1000 & echo $! >{}; wait", pid.display());
        assert_eq!(shell(&script, Duration::from_secs(1)), End::TooLong);
        let pid = fs::read_to_string(pid).unwrap();
        let is_there = || {
            Path::new("/proc")
                .join(pid.trim())
                .join("exe")
                .read_link()
                .is_ok()
        };
        let begin = Instant::now();
        while is_there() {
            assert!(
                begin.elapsed() < Duration::from_secs(60),
                "the child still runs"
            );
            thread::sleep(Duration::from_millis(10));
        }
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn errors_are_the_first_three_with_what_follows() {
        let log = "warning: a\nerror: b\n1\n2\n3\n4\n5\nerror[E1]: c\n6\n";
        let expected = "    error: b\n    1\n    2\n    3\n    4\n    error[E1]: c\n    6";
        assert_eq!(errors(log), expected);
    }
}
