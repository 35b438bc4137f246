//! How many connections wait in the kernel until the program accepts them.

use crate::util::go;
use fahrenheit::AsyncTcpListener;
use std::net::TcpStream;
use std::time::Duration;

#[test]
fn three_hundred_connections_are_made_before_one_is_accepted() {
    go(async {
        let allowed = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
        let n = allowed.trim().parse::<usize>().unwrap().min(300);
        let listener = AsyncTcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        // The kernel makes connections without the program. One for which there is no room is
        // tried again by the kernel, until the time is over.
        let limit = Duration::from_secs(10);
        let connect = |_| TcpStream::connect_timeout(&addr, limit).unwrap();
        let clients: Vec<_> = (0..n).map(connect).collect();
        for client in &clients {
            let (_, from) = listener.accept().await.unwrap();
            assert_eq!(from, client.local_addr().unwrap());
        }
    });
}
