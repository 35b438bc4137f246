//! Each program of the last chapter serves several clients and gives them their bytes back.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A running program, ended when it is dropped.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts one of the programs, and returns it with its address.
fn start(program: &str) -> (Server, String) {
    let mut child = Command::new(program)
        .arg("127.0.0.1:0")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {program}: {error}"));
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let address = line
        .trim()
        .strip_prefix("listening on ")
        .expect(&line)
        .to_owned();
    (Server(child), address)
}

fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    stream
}

fn exchange(mut stream: TcpStream, text: &[u8]) {
    stream.write_all(text).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).unwrap();
    assert_eq!(reply, text);
}

fn serves_clients_beside_an_idle_one(name: &str) {
    let (_server, address) = start(name);
    let idle = connect(&address);
    for _ in 0..3 {
        exchange(connect(&address), &[7; 100_000]);
    }
    exchange(idle, b"at last");
}

#[test]
fn the_epoll_loop_serves_clients_beside_an_idle_one() {
    serves_clients_beside_an_idle_one(env!("CARGO_BIN_EXE_step1_epoll"));
}

#[test]
fn futures_that_are_polled_again_and_again_serve_clients_beside_an_idle_one() {
    serves_clients_beside_an_idle_one(env!("CARGO_BIN_EXE_step2_future"));
}

#[test]
fn one_future_on_a_reactor_serves_one_client_after_the_other() {
    let (_server, address) = start(env!("CARGO_BIN_EXE_step3_reactor"));
    for _ in 0..3 {
        exchange(connect(&address), &[7; 100_000]);
    }
}

#[test]
fn tasks_serve_clients_beside_an_idle_one() {
    serves_clients_beside_an_idle_one(env!("CARGO_BIN_EXE_step4_tasks"));
}

#[test]
fn timers_and_threads_go_on_beside_clients() {
    serves_clients_beside_an_idle_one(env!("CARGO_BIN_EXE_step5_timers_threads"));
}

#[test]
fn the_server_on_fahrenheit_serves_clients_beside_an_idle_one() {
    serves_clients_beside_an_idle_one(env!("CARGO_BIN_EXE_step6_fahrenheit"));
}
