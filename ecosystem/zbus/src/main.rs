//! A service and a client on D-Bus by zbus, which brings threads of its own.
//!
//! Needs `DBUS_SESSION_BUS_ADDRESS`, for example from `dbus-run-session`.

use std::error::Error;
use zbus::{connection, interface, proxy};

struct Greeter {
    n_greeted: u32,
}

#[interface(name = "org.example.Greeter")]
impl Greeter {
    fn greet(&mut self, name: &str) -> String {
        self.n_greeted += 1;
        format!("Hello, {name}! {} so far.", self.n_greeted)
    }
}

#[proxy(
    interface = "org.example.Greeter",
    default_service = "org.example.Greeter",
    default_path = "/org/example/Greeter"
)]
trait Greeter {
    fn greet(&self, name: &str) -> zbus::Result<String>;
}

fn main() -> Result<(), Box<dyn Error>> {
    fahrenheit::run(async {
        let greeter = Greeter { n_greeted: 0 };
        let _service = connection::Builder::session()?
            .name("org.example.Greeter")?
            .serve_at("/org/example/Greeter", greeter)?
            .build()
            .await?;
        let client = zbus::Connection::session().await?;
        let proxy = GreeterProxy::new(&client).await?;
        for name in ["one", "two"] {
            println!("{}", proxy.greet(name).await?);
        }
        Ok(())
    })
}
