//! Queries to PostgreSQL by tokio-postgres: `with-postgres SOCKET`, the path of its Unix socket.

use fahrenheit::AsyncUnixStream;
use std::error::Error;
use tokio_postgres::{Config, NoTls};

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("no path of a socket")?;
    fahrenheit::run(async {
        let stream = AsyncUnixStream::connect(path).await?;
        let mut config = Config::new();
        config.user("postgres").dbname("postgres");
        let (client, connection) = config.connect_raw(stream, NoTls).await?;
        let connection = fahrenheit::spawn(connection);
        client.batch_execute("CREATE TABLE t (n INT, text TEXT)").await?;
        let insert = client.prepare("INSERT INTO t VALUES ($1, $2)").await?;
        for n in 0..1_000 {
            client.execute(&insert, &[&n, &format!("row {n}")]).await?;
        }
        // Both are under way at the same time.
        let sum = client.query_one("SELECT sum(n) FROM t", &[]);
        let long = client.query("SELECT repeat(text, 100) FROM t", &[]);
        let (sum, long) = (sum.await?, long.await?);
        println!("sum {}, {} rows", sum.get::<_, i64>(0), long.len());
        drop(client);
        connection.await??;
        Ok(())
    })
}
