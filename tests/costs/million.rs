//! What a million tasks leave behind. The memory of the whole process is measured, so the test runs
//! in a process of its own.
#![cfg(target_os = "linux")]

use crate::util::alone;
use std::time::Duration;

/// Resident memory of this process in MiB.
fn resident_mib() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let n_pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    (n_pages * 4_096) >> 20
}

#[test]
fn the_memory_of_a_million_tasks_is_given_back_to_the_system() {
    if let Some(text) = alone(test_name!(), spawn_a_million) {
        print!("{text}");
    }
}

fn spawn_a_million() {
    const N: usize = 1_000_000;
    fahrenheit::run(fahrenheit::time::sleep(Duration::from_millis(1)));
    let before = resident_mib();
    let mut peak = 0;
    fahrenheit::run(async {
        let mut handles = Vec::with_capacity(N);
        for i in 0..N {
            let task = fahrenheit::spawn(async move {
                fahrenheit::yield_now().await;
                i
            });
            // Half of them are awaited, half of them detached.
            if i % 2 == 0 {
                handles.push(task);
            }
        }
        peak = resident_mib();
        for (n, task) in handles.into_iter().enumerate() {
            assert_eq!(task.await.unwrap(), 2 * n);
        }
    });
    let after = resident_mib();
    println!("{before} MiB before, {peak} MiB with {N} tasks, {after} MiB after");
    assert!(peak > before + 60, "a task takes at least 64 bytes");
    assert!(after < before + 16, "{after} MiB after, {before} before");
}
