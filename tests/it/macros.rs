//! The attributes of the feature `macros`: what they run, and what they say about mistakes.

use fahrenheit::{spawn, time, yield_now};
use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::future::pending;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

#[fahrenheit::test]
async fn a_test_runs_in_a_loop() {
    let seen = Rc::new(Cell::new(0));
    let theirs = Rc::clone(&seen);
    spawn(async move { theirs.set(1) }).await.unwrap();
    assert_eq!(seen.get(), 1);
}

#[fahrenheit::test]
async fn a_test_may_return_a_result() -> Result<(), std::num::ParseIntError> {
    yield_now().await;
    let number: i32 = "17".parse()?;
    assert_eq!(number, 17);
    Ok(())
}

#[fahrenheit::test]
#[should_panic(expected = "on purpose")]
async fn a_test_may_have_to_panic() {
    yield_now().await;
    panic!("on purpose");
}

#[fahrenheit::test(crate = "fahrenheit")]
async fn the_path_of_the_library_can_be_given_in_quotes() {}

#[fahrenheit::test(virtual_clock)]
async fn a_test_may_have_a_virtual_clock() {
    let (start, day) = (time::now(), Duration::from_secs(86_400));
    time::sleep(day).await;
    assert_eq!(time::now() - start, day);
}

#[fahrenheit::test]
async fn a_test_without_arguments_has_the_real_clock_and_no_seed() {
    let start = Instant::now();
    time::sleep(Duration::from_millis(2)).await;
    assert!(start.elapsed() >= Duration::from_millis(2));
    assert_eq!(order().await, [0, 1, 2, 3]);
}

#[fahrenheit::test]
#[should_panic(expected = "the main future was pending without arranging to be woken")]
async fn a_test_that_is_stuck_fails_with_a_report() {
    pending::<()>().await;
}

/// The order in which four tasks run that are woken together.
async fn order() -> Vec<i32> {
    let order = Rc::new(RefCell::new(Vec::new()));
    let tasks = (0..4).map(|n| {
        let order = Rc::clone(&order);
        spawn(async move { order.borrow_mut().push(n) })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    order.take()
}

/// Fails under a few of the seeds.
#[fahrenheit::test(virtual_clock, seeds = 500)]
#[ignore = "fails; run by the test below"]
async fn planted_failure() {
    println!("order: {:?}", order().await);
    spawn(pending::<()>()).detach();
    assert!(order().await != [3, 2, 1, 0], "on purpose");
}

#[test]
fn a_failing_seed_is_printed_with_a_dump_and_the_command_that_repeats_it() {
    let run = |seed: Option<&str>| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--ignored", "--exact", "macros::planted_failure"]);
        if let Some(seed) = seed {
            command.env("FAHRENHEIT_SEED", seed);
        }
        let output = command.output().unwrap();
        let text =
            String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
        (output.status.success(), text)
    };
    let (passed, text) = run(None);
    assert!(!passed, "{text}");
    let orders = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| line.starts_with("order: "));
        lines.map(str::to_owned).collect()
    };
    let n_runs = orders(&text).len();
    assert!((2..500).contains(&n_runs), "{n_runs} runs:\n{text}");
    let seed = (n_runs - 1).to_string();
    assert!(text.contains(&format!("under seed {seed}; ")), "{text}");
    let command = format!("FAHRENHEIT_SEED={seed} cargo test macros::planted_failure");
    assert!(text.contains(&command), "{text}");
    assert!(text.contains("has no waker"), "the dump: {text}");
    // At the moment of the panic: the main future is still there.
    assert!(text.contains("main future: running"), "the dump: {text}");
    // It fails again, alone and in the same way.
    let (passed, again) = run(Some(&seed));
    assert!(!passed, "{again}");
    assert_eq!(orders(&again), orders(&text)[n_runs - 1..]);
    let (passed, text) = run(Some("0"));
    assert!(passed && n_runs > 1, "{text}");
}

mod inside {
    #[fahrenheit::test(virtual_clock, seeds = 3)]
    #[ignore = "fails; run by the test below"]
    async fn planted_deadlock() {
        let task = fahrenheit::spawn(std::future::pending::<()>());
        task.await.unwrap();
    }

    #[fahrenheit::test(virtual_clock, seeds = 3)]
    #[ignore = "fails; run by the test below"]
    async fn planted_error() -> Result<(), String> {
        fahrenheit::spawn(std::future::pending::<()>()).detach();
        fahrenheit::yield_now().await;
        Err("on purpose".to_owned())
    }
}

#[test]
fn the_report_of_a_seed_names_the_test_and_shows_the_main_future() {
    let run = |name: &str| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        // With one thread the harness runs the test on the main thread, which is called `main`.
        command.args(["--ignored", "--exact", name, "--test-threads=1"]);
        let output = command.output().unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap()
    };
    let text = run("macros::inside::planted_deadlock");
    let command = "FAHRENHEIT_SEED=0 cargo test macros::inside::planted_deadlock\n";
    assert!(text.contains(command), "{text}");
    assert!(text.contains("the loop waits for ever: "), "{text}");
    assert!(text.contains("main future: waiting"), "{text}");
    assert!(text.contains("    waits for the end of task "), "{text}");
    let text = run("macros::inside::planted_error");
    let command = "FAHRENHEIT_SEED=0 cargo test macros::inside::planted_error\n";
    assert!(text.contains(command), "{text}");
    assert!(text.contains("main future: running"), "{text}");
    assert!(text.contains("has no waker"), "{text}");
}

#[test]
fn a_test_with_seeds_stops_at_the_first_error() {
    let n_runs = Cell::new(0);
    let outcome = fahrenheit::__macros::Test::new().run_seeds(10, || {
        n_runs.set(n_runs.get() + 1);
        let n = n_runs.get();
        async move { if n == 3 { Err(n) } else { Ok(()) } }
    });
    assert_eq!((outcome, n_runs.get()), (Err(3), 3));
    fahrenheit::__macros::Test::new().run_seeds(10, || async { n_runs.set(n_runs.get() + 1) });
    assert_eq!(n_runs.get(), 13);
}

mod inner {
    pub(super) use fahrenheit as renamed;
}

#[fahrenheit::test(crate = crate::macros::inner::renamed)]
async fn the_path_of_the_library_can_be_given_without_quotes() {}

thread_local! { static IS_LEFT: Cell<bool> = const { Cell::new(false) }; }

#[test]
fn tasks_that_a_test_leaves_behind_are_dropped_with_it() {
    struct Left;
    impl Drop for Left {
        fn drop(&mut self) {
            IS_LEFT.set(false);
        }
    }
    async fn body(panics: bool) {
        let left = Left;
        IS_LEFT.set(true);
        spawn(async move {
            let _left = left;
            pending::<()>().await;
        })
        .detach();
        yield_now().await;
        assert!(!panics, "on purpose");
    }
    fahrenheit::__macros::Test::new().run(|| body(false));
    assert!(!IS_LEFT.get());
    let test = || fahrenheit::__macros::Test::new().run(|| body(true));
    assert!(std::panic::catch_unwind(test).is_err());
    assert!(!IS_LEFT.get());
}

/// The newest library in the folder of this test binary that was compiled with the feature.
fn library() -> &'static Path {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| {
        let program = Program::new("find", "", "#[fahrenheit::main]\nasync fn main() {}");
        let has_feature = |library: &PathBuf| program.compile_with(library, "fahrenheit").0;
        let found = libraries().into_iter().find(has_feature);
        found.expect("the library was compiled for this test")
    })
}

/// All libraries in that folder, the newest first.
fn libraries() -> Vec<PathBuf> {
    let folder = std::env::current_exe()
        .unwrap()
        .parent()
        .unwrap()
        .to_owned();
    let is_library = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        name.starts_with("libfahrenheit-") && name.ends_with(".rlib")
    };
    let entries = std::fs::read_dir(folder).unwrap().flatten();
    let mut found: Vec<_> = entries
        .map(|entry| entry.path())
        .filter(is_library)
        .collect();
    found.sort_by_key(|path| Reverse(path.metadata().unwrap().modified().unwrap()));
    found
}

/// A folder for one program, with its source and its manifest.
struct Program(PathBuf);

impl Program {
    fn new(name: &str, manifest: &str, source: &str) -> Program {
        let name = format!("macros_{name}_{}", std::process::id());
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("Cargo.toml"), manifest).unwrap();
        std::fs::write(folder.join("main.rs"), source).unwrap();
        Program(folder)
    }

    /// Compiles the program, in which the library has that name. Returns what the compiler said.
    fn compile(&self, library_name: &str) -> (bool, String) {
        self.compile_with(library(), library_name)
    }

    fn compile_with(&self, library: &Path, library_name: &str) -> (bool, String) {
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let output = Command::new(rustc)
            .env("CARGO_MANIFEST_DIR", &self.0)
            .args(["--edition=2021", "--crate-type=bin"])
            .arg(format!("--extern={library_name}={}", library.display()))
            .arg(format!(
                "-Ldependency={}",
                library.parent().unwrap().display()
            ))
            .arg("-o")
            .arg(self.0.join("program"))
            .arg(self.0.join("main.rs"))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.success(), text)
    }

    fn run(&self) -> (Option<i32>, String) {
        let output = Command::new(self.0.join("program")).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        (output.status.code(), text)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const HELLO: &str = r#"
    async fn main() -> Result<(), std::fmt::Error> {
        let task = LIBRARY::spawn(async {
            LIBRARY::yield_now().await;
            println!("last");
        });
        println!("first");
        task.detach();
        Err(std::fmt::Error)
    }
"#;

// A build for another target has no compiler that could be called without its options.
#[cfg(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu"))]
#[test]
fn main_runs_all_tasks_also_if_the_library_has_another_name() {
    let renamed = "[dependencies]\nmy-loop = { version = \"0.1\", package = \"fahrenheit\" }";
    for (name, attribute, manifest) in [
        ("fahrenheit", "#[fahrenheit::main]", ""),
        ("my_loop", "#[my_loop::main]", renamed),
        ("my_loop", "#[my_loop::main(crate = \"my_loop\")]", ""),
    ] {
        let source = format!("{attribute}{}", HELLO.replace("LIBRARY", name));
        let program = Program::new("main", manifest, &source);
        let (is_compiled, text) = program.compile(name);
        assert!(is_compiled && text.is_empty(), "{attribute}: {text}");
        // `main` returns an error, so the exit code is 1.
        assert_eq!(program.run(), (Some(1), "first\nlast\n".to_owned()));
    }
}

#[cfg(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu"))]
#[test]
fn a_mistake_is_one_error_that_names_the_remedy_and_the_place() {
    let mistakes = [
        (
            "#[fahrenheit::main]\nfn main() {}",
            "the function of #[fahrenheit::main] has to be async: write `async fn main`",
            "2:1",
        ),
        (
            "#[fahrenheit::main(threads = 4)]\nasync fn main() {}",
            "#[fahrenheit::main] has no argument `threads`, only `crate = \"path\"`",
            "1:20",
        ),
        (
            "#[fahrenheit::main(crate = \"x\", crate = \"x\")]\nasync fn main() {}",
            "the argument `crate` is given twice",
            "1:33",
        ),
        (
            "#[fahrenheit::main(crate = 7)]\nasync fn main() {}",
            "expected a path, as in `crate = \"fahrenheit\"`",
            "1:28",
        ),
        (
            "#[fahrenheit::main(crate)]\nasync fn main() {}",
            "expected a path, as in `crate = \"fahrenheit\"`",
            "1:20",
        ),
        (
            "#[fahrenheit::main(\"x\")]\nasync fn main() {}",
            "expected an argument: `name`, or `name = value`",
            "1:20",
        ),
        (
            "#[fahrenheit::main]\nstruct Main {}\nfn main() {}",
            "#[fahrenheit::main] belongs before an `async fn`",
            "2:1",
        ),
        (
            "#[fahrenheit::test]\nasync fn tested(x: i32) {}\nfn main() {}",
            "the function of #[fahrenheit::test] cannot have parameters",
            "2:16",
        ),
        (
            "#[fahrenheit::test]\nasync fn tested<T>() {}\nfn main() {}",
            "the function of #[fahrenheit::test] cannot have generic parameters",
            "2:16",
        ),
        (
            "#[fahrenheit::test]\n#[test]\nasync fn tested() {}\nfn main() {}",
            "remove this attribute: #[fahrenheit::test] makes a test by itself",
            "2:2",
        ),
    ];
    for (source, message, place) in mistakes {
        let program = Program::new("mistake", "", source);
        let (is_compiled, text) = program.compile("fahrenheit");
        assert!(!is_compiled, "{source}");
        let errors: Vec<_> = text
            .lines()
            .filter(|line| line.starts_with("error"))
            .collect();
        assert_eq!(errors[0], format!("error: {message}"), "{source}\n{text}");
        assert!(
            text.contains(&format!("main.rs:{place}")),
            "{source}\n{text}"
        );
        // The other line counts the errors.
        assert_eq!(errors.len(), 2, "{source}\n{text}");
    }
}

#[cfg(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu"))]
#[test]
fn errors_in_the_body_read_as_they_do_in_any_other_function() {
    let source = "#[fahrenheit::main]\nasync fn main() {\n    let x: i32 = \"text\";\n}";
    let program = Program::new("body", "", source);
    let (is_compiled, text) = program.compile("fahrenheit");
    assert!(!is_compiled && text.contains("mismatched types"), "{text}");
    assert!(text.contains("main.rs:3:18"), "{text}");
}
