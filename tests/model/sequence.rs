//! A whole sequence, and what is left of it when its loop is gone.

use crate::script::Step;
use crate::steps::{self, Remains};
use crate::tasks::Probe;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::task::Waker;
use std::thread;

/// More descriptors than a sequence has at once.
const MANY: usize = 32;

/// The message of the last panic, which nobody prints.
static MESSAGE: Mutex<String> = Mutex::new(String::new());

/// Has the message of a panic kept instead of printed.
pub(crate) fn keep_messages() {
    std::panic::set_hook(Box::new(|info| {
        *MESSAGE.lock().unwrap() = info.to_string();
    }));
}

/// What the last panic said.
pub(crate) fn last_message() -> String {
    std::mem::take(&mut MESSAGE.lock().unwrap())
}

/// The next descriptors that would be opened.
pub(crate) fn free_descriptors(file: &File) -> Vec<i32> {
    let files = (0..MANY).map(|_| file.try_clone().expect("descriptors are left"));
    let files: Vec<File> = files.collect();
    files.iter().map(AsRawFd::as_raw_fd).collect()
}

/// Does a sequence, on a thread and with a loop of its own, and looks what is left of it.
pub(crate) fn try_sequence(steps: &[Step], file: &File, free: &[i32]) -> Result<(), String> {
    let joined = thread::scope(|scope| scope.spawn(|| steps::run(steps)).join());
    let Ok(Remains { probes, wakers }) = joined else {
        return Err(last_message());
    };
    // The loop is gone: nobody is there to be woken.
    let n_polls =
        |probes: &[Arc<Probe>]| -> usize { probes.iter().map(|probe| probe.polls()).sum() };
    let n_before = n_polls(&probes);
    wakers.into_iter().for_each(Waker::wake);
    if n_polls(&probes) != n_before {
        return Err("a task was polled after the end of its loop".to_owned());
    }
    for (id, probe) in probes.iter().enumerate() {
        let n_drops = probe.n_drops.load(Ordering::SeqCst);
        let n_outputs = probe.n_outputs.load(Ordering::SeqCst);
        let n_outputs_dropped = probe.n_outputs_dropped.load(Ordering::SeqCst);
        if (n_drops, n_outputs) != (1, n_outputs_dropped) || n_outputs > 1 {
            return Err(format!(
                "task {id} was dropped {n_drops} times, \
                 and its output {n_outputs_dropped} times of {n_outputs}"
            ));
        }
    }
    if free_descriptors(file) != free {
        return Err("a descriptor was left open".to_owned());
    }
    Ok(())
}
