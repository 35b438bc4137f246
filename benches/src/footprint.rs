//! What a minimal echo server costs before it runs: crates, a clean build, and its size.
//!
//! Each is made as a package of its own in a temporary directory and built the same way, with
//! the smallest set of features that the server needs.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::sample::Sample;

struct Server {
    runtime: &'static str,
    dependencies: &'static str,
    main: &'static str,
}

const SERVERS: [Server; 8] = [
    Server {
        runtime: "fahrenheit",
        dependencies: concat!(
            "fahrenheit = { path = \"",
            env!("CARGO_MANIFEST_DIR"),
            "/..\" }"
        ),
        main: include_str!("footprint/fahrenheit.txt"),
    },
    // Without what the others do not have in this program either.
    Server {
        runtime: "fahrenheit-minimal",
        dependencies: concat!(
            "fahrenheit = { path = \"",
            env!("CARGO_MANIFEST_DIR"),
            "/..\", default-features = false }"
        ),
        main: include_str!("footprint/fahrenheit.txt"),
    },
    Server {
        runtime: "tokio",
        dependencies: "tokio = { version = \"1\", features = [\"io-util\", \"net\", \"rt\"] }",
        main: include_str!("footprint/tokio.txt"),
    },
    Server {
        runtime: "smol",
        dependencies: "smol = \"2\"",
        main: include_str!("footprint/smol.txt"),
    },
    Server {
        runtime: "monoio",
        dependencies: "monoio = { version = \"0.2\", default-features = false, \
                       features = [\"legacy\", \"bytes\"] }",
        main: include_str!("footprint/monoio.txt"),
    },
    Server {
        runtime: "compio",
        dependencies: "compio = { version = \"0.19\", features = [\"io\", \"net\"] }",
        main: include_str!("footprint/compio.txt"),
    },
    Server {
        runtime: "glommio",
        dependencies: "glommio = \"0.9\"\nfutures-lite = \"1\"",
        main: include_str!("footprint/glommio.txt"),
    },
    Server {
        runtime: "std",
        dependencies: "",
        main: include_str!("footprint/std.txt"),
    },
];

/// The names of all servers, for those who ask for one after the other.
pub(crate) fn runtimes() -> impl Iterator<Item = &'static str> {
    SERVERS.iter().map(|server| server.runtime)
}

/// Builds one server from nothing: `crates`, `seconds`, `bytes`.
pub(crate) fn measure(runtime: &str) -> Result<Sample, String> {
    let server = SERVERS.iter().find(|server| server.runtime == runtime);
    let server = server.ok_or("no such server")?;
    let name = format!("fahrenheit-footprint-{}-{runtime}", std::process::id());
    let directory = std::env::temp_dir().join(name);
    let sample = build(server, &directory);
    let _ = fs::remove_dir_all(&directory);
    sample
}

fn build(server: &Server, directory: &Path) -> Result<Sample, String> {
    let what = |error: io::Error| error.to_string();
    let manifest = format!(
        "[package]\nname = \"echo\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n\
         [workspace]\n\n[dependencies]\n{}\n\n\
         [profile.release]\nopt-level = \"s\"\nlto = true\nstrip = true\n",
        server.dependencies
    );
    fs::create_dir_all(directory.join("src")).map_err(what)?;
    fs::write(directory.join("Cargo.toml"), manifest).map_err(what)?;
    fs::write(directory.join("src/main.rs"), server.main).map_err(what)?;
    // Downloads do not count.
    cargo(directory, &["fetch"])?;
    let tree = cargo(
        directory,
        &["tree", "-e", "normal,build", "--prefix", "none"],
    )?;
    let mut crates: Vec<_> = tree
        .lines()
        .filter_map(|line| line.split(" (").next())
        .collect();
    crates.sort_unstable();
    crates.dedup();
    let begun = Instant::now();
    cargo(directory, &["build", "--release"])?;
    let mut sample = Sample::default();
    sample.set("seconds", begun.elapsed().as_secs_f64());
    // The server itself is not one of them.
    sample.set("crates", crates.len() as f64 - 1.0);
    let program = directory.join("target/release/echo");
    sample.set("bytes", fs::metadata(program).map_err(what)?.len() as f64);
    Ok(sample)
}

fn cargo(directory: &Path, words: &[&str]) -> Result<String, String> {
    let output = Command::new("cargo")
        .args(words)
        .current_dir(directory)
        .env_remove("RUSTFLAGS")
        .env("CARGO_TARGET_DIR", directory.join("target"))
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot start cargo: {error}"))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let error = text.lines().find(|line| line.starts_with("error"));
        return Err(error.unwrap_or("cargo failed").to_owned());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
