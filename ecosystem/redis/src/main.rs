//! Commands to Redis by redis-rs: `with-redis HOST:PORT`.

use fahrenheit::{AsyncTcpStream, Local};
use redis::aio::MultiplexedConnection;
use redis::{AsyncCommands, AsyncConnectionConfig, RedisConnectionInfo};
use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).ok_or("no address")?;
    let info = RedisConnectionInfo::default();
    fahrenheit::run(async {
        let stream = Local::new(AsyncTcpStream::connect(address).await?);
        // Without its own time limit, which would start a thread for timers of async-io.
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let (mut redis, driver) =
            MultiplexedConnection::new_with_config(&info, stream, config).await?;
        let driver = fahrenheit::spawn(driver);
        for n in 0..1_000 {
            let _: () = redis.set(format!("key {n}"), n).await?;
        }
        let sum: u64 = redis.incr("key 41", 1).await?;
        let long = "x".repeat(1_000_000);
        let _: () = redis.set("long", &long).await?;
        let back: String = redis.get("long").await?;
        println!("{sum}, {}", back == long);
        drop(redis);
        driver.await?;
        Ok(())
    })
}
