//! The chapters of the guide, so that `cargo test --doc` compiles and runs their blocks of code.
//! `ci/guide` checks that no chapter is missing here.

macro_rules! chapters {
    ($($name:ident = $file:literal;)*) => {
        $(#[doc = include_str!(concat!("src/", $file))]
        pub mod $name {})*
    };
}

chapters! {
    first_server = "first-server.md";
    from_smol = "from-smol.md";
    from_tokio = "from-tokio.md";
    host_loops = "host-loops.md";
    how_the_loop_works = "how-the-loop-works.md";
    index = "index.md";
    limits = "limits.md";
    observing = "observing.md";
    path = "path.md";
    porting = "porting.md";
    processes_signals_terminals = "processes-signals-terminals.md";
    shutdown = "shutdown.md";
    testing = "testing.md";
    with_other_crates = "with-other-crates.md";
}
