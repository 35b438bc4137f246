//! A network of named hosts: [`Net`].

use super::listener::{Backlog, Listener};
use super::options::Options;
use super::stream::{SimStream, connect};
use super::waiter::{Waiter, wake_all};
use super::way::{Way, reset, set_separated};
use crate::time::sleep;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::rc::{Rc, Weak};
use std::task::Poll;

/// The first port of those that connecting ends get, one after the other.
const FIRST_EPHEMERAL_PORT: u16 = 49_152;

/// A simulated network of named hosts, for tests of programs that consist of several.
///
/// A [`Host`] listens on ports and connects to other hosts, by addresses such as `server:80`. The
/// connections are [`SimStream`]s, so a client and a server that are written for any stream run
/// over them. What a host does is up to the tasks of the test. If they are aborted, their
/// connections close, as after a crash of a program.
///
/// Clones are the same network. It belongs to one thread.
///
/// # Partitions
/// While two hosts are separated, nothing that one sends arrives at the other. It is not lost: it
/// arrives after the partition has healed, as TCP sends everything again until it is acknowledged.
/// Connections do not break by themselves, however long it takes, and connecting waits. A program
/// that is to notice has to have time limits, as it has in a real network.
///
/// # Examples
/// ```
/// use std::{io, time::Duration};
/// use fahrenheit::{prelude::*, sim, spawn, time};
///
/// // The program under test: neither knows what it runs over.
/// async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
///     let mut name = String::new();
///     stream.read_to_string(&mut name).await?;
///     stream.write_all(format!("hello, {name}").as_bytes()).await
/// }
/// async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<String> {
///     stream.write_all(b"world").await?;
///     stream.close().await?;
///     let mut answer = String::new();
///     stream.read_to_string(&mut answer).await?;
///     Ok(answer)
/// }
///
/// let ms = Duration::from_millis;
/// fahrenheit::Builder::new().virtual_clock(true).seed(7).block_on(async {
///     let options = sim::Options::new().latency(ms(5)).jitter(ms(10));
///     let net = sim::Net::new(options);
///     let (client, server) = (net.host("client"), net.host("server"));
///     let listener = server.listen(80)?;
///     spawn(async move {
///         while let Ok(stream) = listener.accept().await {
///             spawn(serve(stream)).detach();
///         }
///     })
///     .detach();
///
///     let answer = ask(client.connect("server:80").await?).await?;
///     assert_eq!(answer, "hello, world");
///
///     net.partition("client", "server");
///     let attempt = client.connect("server:80");
///     assert!(time::timeout(Duration::from_secs(60), attempt).await.is_err());
///     net.heal("client", "server");
///     assert!(client.connect("server:80").await.is_ok());
///     io::Result::Ok(())
/// })
/// # .unwrap().unwrap();
/// ```
#[derive(Clone)]
pub struct Net(Rc<RefCell<Inner>>);

struct Inner {
    options: Options,
    /// The options of single pairs of hosts, in alphabetical order.
    pairs: BTreeMap<(Rc<str>, Rc<str>), Options>,
    /// The next ephemeral port of each host.
    hosts: BTreeMap<Rc<str>, u16>,
    /// The queues of all listeners, also of some that were dropped.
    backlogs: BTreeMap<(Rc<str>, u16), Weak<RefCell<Backlog>>>,
    /// Directions in which nothing arrives.
    separated: BTreeSet<(Rc<str>, Rc<str>)>,
    /// Both directions of all connections, by the hosts from and to which they lead.
    ways: Vec<Connected>,
    /// Tasks that wait until a partition heals.
    waiters: Vec<Waiter>,
}

impl Inner {
    /// Returns the backlog of the listener on a port, if there is one.
    fn backlog(&self, key: &(Rc<str>, u16)) -> Option<Rc<RefCell<Backlog>>> {
        self.backlogs.get(key)?.upgrade()
    }
}

struct Connected {
    from: Rc<str>,
    to: Rc<str>,
    way: Weak<RefCell<Way>>,
}

impl Net {
    /// Makes a network without hosts. `options` are those of every connection for whose hosts there
    /// are [no others](Net::set_options).
    pub fn new(options: Options) -> Net {
        Net(Rc::new(RefCell::new(Inner {
            options,
            pairs: BTreeMap::new(),
            hosts: BTreeMap::new(),
            backlogs: BTreeMap::new(),
            separated: BTreeSet::new(),
            ways: Vec::new(),
            waiters: Vec::new(),
        })))
    }

    /// Returns the host of that name. The first call for a name adds it to the network.
    ///
    /// # Panics
    /// If the name contains a colon, behind which an address has its port.
    pub fn host(&self, name: &str) -> Host {
        assert!(
            !name.contains(':'),
            "the name of the host {name:?} contains a colon"
        );
        let name = Rc::from(name);
        let mut inner = self.0.borrow_mut();
        inner
            .hosts
            .entry(Rc::clone(&name))
            .or_insert(FIRST_EPHEMERAL_PORT);
        drop(inner);
        Host {
            net: self.clone(),
            name,
        }
    }

    /// Sets the options of later connections between two hosts, in both directions.
    ///
    /// # Panics
    /// If there is no host of one of the names.
    pub fn set_options(&self, one: &str, other: &str, options: Options) {
        let (one, other) = (self.known(one), self.known(other));
        let pair = (one.clone().min(other.clone()), one.max(other));
        self.0.borrow_mut().pairs.insert(pair, options);
    }

    /// Separates two hosts: nothing that one sends arrives at the other.
    ///
    /// # Panics
    /// If there is no host of one of the names.
    pub fn partition(&self, one: &str, other: &str) {
        self.partition_oneway(one, other);
        self.partition_oneway(other, one);
    }

    /// Has nothing arrive at `to` that `from` sends; the other direction stays as it is.
    ///
    /// # Panics
    /// If there is no host of one of the names.
    pub fn partition_oneway(&self, from: &str, to: &str) {
        self.set_separated(&self.known(from), &self.known(to), true);
    }

    /// Separates a host from all others of the network.
    ///
    /// # Panics
    /// If there is no host of that name.
    pub fn isolate(&self, name: &str) {
        let hosts: Vec<_> = self.0.borrow().hosts.keys().cloned().collect();
        let name = self.known(name);
        for other in hosts.iter().filter(|other| **other != name) {
            self.set_separated(&name, other, true);
            self.set_separated(other, &name, true);
        }
    }

    /// Lets two hosts reach each other again, in both directions. What was sent while they were
    /// separated arrives as if it were sent now.
    ///
    /// # Panics
    /// If there is no host of one of the names.
    pub fn heal(&self, one: &str, other: &str) {
        self.heal_oneway(one, other);
        self.heal_oneway(other, one);
    }

    /// Has everything arrive at `to` again that `from` sends.
    ///
    /// # Panics
    /// If there is no host of one of the names.
    pub fn heal_oneway(&self, from: &str, to: &str) {
        self.set_separated(&self.known(from), &self.known(to), false);
    }

    /// Ends all partitions, so that what was held back by them arrives.
    pub fn heal_all(&self) {
        let separated = self.0.borrow().separated.clone();
        for (from, to) in separated {
            self.set_separated(&from, &to, false);
        }
    }

    /// Breaks all connections between two hosts, as [`SimStream::reset`] does.
    ///
    /// # Panics
    /// If there is no host of one of the names.
    pub fn reset(&self, one: &str, other: &str) {
        let (one, other) = (self.known(one), self.known(other));
        for way in self.ways(&one, &other) {
            reset(&way);
        }
        for way in self.ways(&other, &one) {
            reset(&way);
        }
    }

    /// Returns the name of a host. A test that misspells one should not pass because of that.
    fn known(&self, name: &str) -> Rc<str> {
        let inner = self.0.borrow();
        let known = inner
            .hosts
            .get_key_value(name)
            .map(|(name, _)| Rc::clone(name));
        known.unwrap_or_else(|| panic!("the network has no host {name:?}"))
    }

    fn set_separated(&self, from: &Rc<str>, to: &Rc<str>, is_separated: bool) {
        let pair = (Rc::clone(from), Rc::clone(to));
        let mut inner = self.0.borrow_mut();
        let changes = match is_separated {
            true => inner.separated.insert(pair),
            false => inner.separated.remove(&pair),
        };
        let waiters = std::mem::take(&mut inner.waiters);
        drop(inner);
        if changes {
            for way in self.ways(from, to) {
                set_separated(&way, is_separated);
            }
        }
        wake_all(waiters);
    }

    fn is_separated(&self, from: &Rc<str>, to: &Rc<str>) -> bool {
        let pair = (Rc::clone(from), Rc::clone(to));
        self.0.borrow().separated.contains(&pair)
    }

    /// Returns that direction of each connection between two hosts.
    fn ways(&self, from: &Rc<str>, to: &Rc<str>) -> Vec<Rc<RefCell<Way>>> {
        let inner = self.0.borrow();
        let ways = inner.ways.iter().filter(|c| c.from == *from && c.to == *to);
        ways.filter_map(|connected| connected.way.upgrade())
            .collect()
    }

    /// Remembers both directions of a connection, for partitions and resets.
    fn add(&self, stream: &SimStream, local: &Rc<str>, peer: &Rc<str>) {
        let ways = [
            (local, peer, &stream.to_peer),
            (peer, local, &stream.from_peer),
        ];
        for (from, to, way) in ways {
            way.borrow_mut().is_separated = self.is_separated(from, to);
            let mut inner = self.0.borrow_mut();
            inner
                .ways
                .retain(|connected| connected.way.strong_count() > 0);
            inner.ways.push(Connected {
                from: Rc::clone(from),
                to: Rc::clone(to),
                way: Rc::downgrade(way),
            });
        }
    }

    fn options(&self, one: &Rc<str>, other: &Rc<str>) -> Options {
        let pair = (
            one.clone().min(other.clone()),
            one.clone().max(other.clone()),
        );
        let inner = self.0.borrow();
        inner.pairs.get(&pair).unwrap_or(&inner.options).clone()
    }

    /// Waits for as long as a message takes from one host to another.
    async fn travel(&self, from: &Rc<str>, to: &Rc<str>) {
        loop {
            self.reach(from, to).await;
            let delay = self.options(from, to).draw_delay();
            if !delay.is_zero() {
                sleep(delay).await;
            }
            // Else it was lost on the way, and is sent once more.
            if !self.is_separated(from, to) {
                return;
            }
        }
    }

    /// Waits until no partition lies between the hosts.
    async fn reach(&self, from: &Rc<str>, to: &Rc<str>) {
        let what = Rc::from(format!("a partition to heal, from {from} to {to}"));
        poll_fn(|cx| {
            if !self.is_separated(from, to) {
                return Poll::Ready(());
            }
            let waiter = Waiter::new(cx.waker(), &what);
            self.0.borrow_mut().waiters.push(waiter);
            Poll::Pending
        })
        .await;
    }
}

impl fmt::Debug for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = self.0.borrow();
        f.debug_struct("Net")
            .field("hosts", &inner.hosts.keys())
            .field("separated", &inner.separated)
            .finish_non_exhaustive()
    }
}

/// A host of a simulated network; returned by [`Net::host`]. Clones are the same host.
#[derive(Clone)]
pub struct Host {
    net: Net,
    name: Rc<str>,
}

impl Host {
    /// Returns the name of the host.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Starts to listen on a port; with port 0, on one that is free. Connections that are not
    /// accepted wait, however many there are.
    ///
    /// # Errors
    /// Of kind [`AddrInUse`](io::ErrorKind::AddrInUse) if there is a listener on that port.
    pub fn listen(&self, port: u16) -> io::Result<Listener> {
        let port = match port {
            0 => self.take_port(),
            port => port,
        };
        let key = (Rc::clone(&self.name), port);
        let mut inner = self.net.0.borrow_mut();
        if inner.backlog(&key).is_some() {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let (listener, backlog) = Listener::new(format!("{}:{port}", self.name).into());
        inner.backlogs.insert(key, backlog);
        Ok(listener)
    }

    /// Connects to an address, such as `server:80`. It takes the time of a message to the host and
    /// of one back, and for as long as the hosts are separated, which may be for ever.
    ///
    /// # Errors
    /// Of kind
    /// - [`ConnectionRefused`](io::ErrorKind::ConnectionRefused) if nothing listens on the port,
    /// - [`NotFound`](io::ErrorKind::NotFound) if the network has no host of that name,
    /// - [`InvalidInput`](io::ErrorKind::InvalidInput) if it is no address.
    ///
    /// # Cancel safety
    /// If the future is dropped, the connection is closed, if there is one by then.
    pub async fn connect(&self, addr: &str) -> io::Result<SimStream> {
        let invalid = |text| io::Error::new(io::ErrorKind::InvalidInput, text);
        let parts = addr.rsplit_once(':');
        let parts = parts.and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
        let Some((peer, port)) = parts else {
            return Err(invalid(format!(
                "{addr:?} is no address such as \"server:80\""
            )));
        };
        if !self.net.0.borrow().hosts.contains_key(peer) {
            let text = format!("the network has no host {peer:?}");
            return Err(io::Error::new(io::ErrorKind::NotFound, text));
        }
        let peer: Rc<str> = peer.into();
        self.net.travel(&self.name, &peer).await;
        let backlog = self.net.0.borrow().backlog(&(peer.clone(), port));
        let stream = backlog.map(|backlog| {
            let local = format!("{}:{}", self.name, self.take_port()).into();
            let options = self.net.options(&self.name, &peer);
            let (ours, theirs) = connect(&options, &local, &addr.into());
            self.net.add(&ours, &self.name, &peer);
            Backlog::push(&backlog, theirs);
            ours
        });
        self.net.travel(&peer, &self.name).await;
        stream.ok_or_else(|| io::ErrorKind::ConnectionRefused.into())
    }

    /// Returns the next port that connecting ends get, from `FIRST_EPHEMERAL_PORT` on.
    fn take_port(&self) -> u16 {
        let mut inner = self.net.0.borrow_mut();
        loop {
            let next = inner
                .hosts
                .get_mut(&self.name)
                .expect("hosts stay in the network");
            let port = *next;
            *next = port.checked_add(1).unwrap_or(FIRST_EPHEMERAL_PORT);
            if inner.backlog(&(Rc::clone(&self.name), port)).is_none() {
                return port;
            }
        }
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Host").field(&self.name).finish()
    }
}
