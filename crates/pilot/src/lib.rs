//! The Pilot Protocol, on the wire of its released daemons, as pure state machines: comity agents reach Pilot agents and are reached.
//!
//! Nothing here opens a socket, reads a clock or draws randomness. [`engine::Engine`] is a whole node: datagrams and time go in, datagrams
//! and actions come out; `comity-pilot-net` gives it sockets. Below it, from the wire upwards:
//!
//! | module | what it is |
//! |---|---|
//! | [`address`], [`packet`], [`frame`], [`beacon`] | the formats of the wire |
//! | [`crypto`], [`replay`], [`session`] | both dialects' keys and ciphers; what is accepted, and what moves a tunnel |
//! | [`stream`] | the reliable stream |
//! | [`registry`], [`handshake`], [`service`] | messages to the registry, of the trust handshake, of the built-in services |
//! | [`rendezvous`] | a registry and beacon for nodes of either kind |
//! | [`trust`], [`identity`] | who is trusted and why; the node's key in Pilot's file format |
//!
//! ```
//! use comity_core::Time;
//! use comity_pilot::address::SocketAddress;
//! use comity_pilot::engine::{Access, Action, Config, Engine};
//! use comity_pilot::identity::Identity;
//!
//! let now = Time::from_secs(1_800_000_000);
//! let key = |node| Identity::from_seed(&[node; 32]);
//! let mut one = Engine::new(Config::new(1), key(1), [11; 32], now);
//! let mut two = Engine::new(Config::new(2), key(2), [22; 32], now);
//! let (at_one, at_two) = ("192.0.2.1:4000".parse()?, "192.0.2.2:4000".parse()?);
//! two.set_trusted([1].into());
//! two.listen(7, Access::Trusted)?;
//!
//! let peer: SocketAddress = "0:0000.0000.0002:7".parse()?;
//! let connection = one.connect(now, peer).expect("few connections are open");
//! let (mut open, mut buffer) = (false, Vec::new());
//! while !open {
//!     while let Some(_datagrams) = one.poll_transmit(now, &mut buffer) {
//!         two.receive(now, at_one, &buffer);
//!     }
//!     while let Some(_datagrams) = two.poll_transmit(now, &mut buffer) {
//!         one.receive(now, at_two, &buffer);
//!     }
//!     // A registry tells keys and endpoints; the caller asks it.
//!     while let Some(action) = one.poll_action() {
//!         match action {
//!             Action::Find(node) => one.found(now, node, key(2).public(), [at_two]),
//!             Action::Connected(id) => open = id == connection,
//!             _ => {}
//!         }
//!     }
//!     while let Some(action) = two.poll_action() {
//!         if let Action::Find(node) = action {
//!             two.found(now, node, key(1).public(), [at_one]);
//!         }
//!     }
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What the wire guarantees, and what not
//! * A peer is whoever holds the key that a **registry** told for its number. A number says nothing about the key, so the first word about
//!   it is the registry's; [`trust::Trust::pin`] keeps that, and a registry that later says otherwise is not believed.
//! * Both ends of a tunnel sign their exchange keys. The signature covers neither the other end nor a time: exchanges can be recorded and
//!   replayed, which is why a session moves only when a frame opens under it ([`session`]).
//! * A Pilot daemon uses one exchange key with everybody until it restarts, so what was recorded can be read by whoever gets hold of that
//!   key later, or of ours. A comity node draws one for each peer.
//! * Releases before 1.6 do not authenticate the sender's number in a frame; the packet inside must name it all the same.
//!
//! # Not spoken
//! The secure port 443, the nameserver, tasks, networks with policies, badges and recovery, the WebSocket transport.

pub mod address;
pub mod beacon;
pub mod crypto;
pub mod engine;
pub mod frame;
pub mod handshake;
pub mod identity;
pub mod packet;
pub mod registry;
pub mod rendezvous;
pub mod replay;
pub mod service;
pub mod session;
pub mod stream;
pub mod trust;
