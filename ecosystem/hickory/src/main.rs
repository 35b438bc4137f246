//! Look-ups by hickory's resolver: `with-hickory udp|tcp PORT NAME`, of a server on this machine.

// Some lines of it are shorter in one piece.
#[rustfmt::skip]
mod runtime;

use hickory_resolver::Resolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use runtime::Fahrenheit;
use std::error::Error;
use std::net::Ipv4Addr;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args().collect();
    let mut connection = match arguments[1].as_str() {
        "udp" => ConnectionConfig::udp(),
        _ => ConnectionConfig::tcp(),
    };
    connection.port = arguments[2].parse()?;
    let server = NameServerConfig::new(Ipv4Addr::LOCALHOST.into(), true, vec![connection]);
    let config = ResolverConfig::from_name_servers(vec![server]);
    let resolver = Resolver::builder_with_config(config, Fahrenheit).build()?;
    // Tasks of the resolver wait for more look-ups, so this does not wait for them.
    fahrenheit::block_on(async {
        let found = resolver.lookup_ip(&*arguments[3]).await?;
        let addresses: Vec<_> = found.iter().map(|address| address.to_string()).collect();
        println!("{}", addresses.join(" "));
        Ok(())
    })
}
