//! A request by reqwest, which needs tokio's own runtime: `with-reqwest URL`.
//!
//! The two lines that mention `runtime` start one beside our loop, with one thread. So it goes for
//! every crate that demands tokio.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let url = std::env::args().nth(1).ok_or("no URL")?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let _guard = runtime.enter();
    fahrenheit::run(async {
        let response = reqwest::get(url).await?;
        println!("{}", response.status());
        println!("{} bytes", response.bytes().await?.len());
        Ok(())
    })
}
