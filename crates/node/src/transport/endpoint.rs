//! The iroh endpoint, configured to touch nothing but its own sockets and the addresses it is told.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use iroh::endpoint::{
    BindOpts, Builder, NetReportConfig, PortmapperConfig, QuicTransportConfig, VarInt, presets,
};
use iroh::{Endpoint, RelayMode, SecretKey};

use super::config::{LINK_WINDOW_BYTES, SEND_WINDOW_BYTES, STREAM_WINDOW_BYTES};
use super::pacing::FirstFlightConfig;
use super::{BindError, Limits, Protocol, TransportConfig};

/// iroh keeps up to this many tickets for each remote endpoint.
const TICKETS_PER_PEER: usize = 8;

pub(super) async fn bind(config: &TransportConfig) -> Result<Endpoint, BindError> {
    if config.listen.is_empty() {
        return Err(BindError::NoListenAddress);
    }
    let builder = Endpoint::builder(presets::Minimal)
        .relay_mode(RelayMode::Disabled)
        .clear_address_lookup()
        .portmapper_config(PortmapperConfig::Disabled)
        .net_report_config(NetReportConfig::minimal())
        .crypto_provider(Arc::new(super::kx::provider(config.key_exchange)))
        .secret_key(SecretKey::from_bytes(&config.identity.secret_bytes()))
        .alpns(vec![Protocol::Rpc.alpn().to_vec(), Protocol::Overlay.alpn().to_vec()])
        .max_tls_tickets(config.limits.tickets_max.saturating_mul(TICKETS_PER_PEER))
        .transport_config(quic(&config.limits))
        .clear_ip_transports();
    let builder = listen(builder, &config.listen)?;
    builder.bind().await.map_err(|error| explain(&config.listen, &error))
}

/// Adds every address; the first of each family last, because iroh takes a default route only once and nothing after it.
fn listen(mut builder: Builder, addrs: &[SocketAddr]) -> Result<Builder, BindError> {
    let is_first = |index: usize| {
        !addrs[..index].iter().any(|other| other.is_ipv4() == addrs[index].is_ipv4())
    };
    let (first, more): (Vec<usize>, Vec<usize>) =
        (0..addrs.len()).partition(|&index| is_first(index));
    for index in more {
        let host = if addrs[index].is_ipv4() { 32 } else { 128 };
        let options = BindOpts::default().set_prefix_len(host).set_is_default_route(false);
        builder =
            builder.bind_addr_with_opts(addrs[index], options).map_err(|error| invalid(&error))?;
    }
    for index in first {
        builder = builder.bind_addr(addrs[index]).map_err(|error| invalid(&error))?;
    }
    Ok(builder)
}

fn invalid(error: &dyn std::fmt::Display) -> BindError {
    BindError::Endpoint { reason: error.to_string() }
}

/// iroh does not say which address failed; trying each again does.
fn explain(addrs: &[SocketAddr], error: &dyn std::fmt::Debug) -> BindError {
    for &addr in addrs {
        match UdpSocket::bind(addr) {
            Ok(_) => {}
            Err(source) if source.kind() == std::io::ErrorKind::AddrInUse => {
                return BindError::AddressInUse(addr);
            }
            Err(source) => return BindError::Address { addr, source },
        }
    }
    BindError::Endpoint { reason: format!("{error:?}") }
}

/// The QUIC parameters.
///
/// Acknowledgement frequency (`ack_frequency_config`) stays off, although it would save a tenth of a small call's latency: noq-proto 1.4.0
/// writes the ACK_FREQUENCY frame without checking that the packet has room for it. When a peer vanishes, about one connection in
/// four then outlives its idle timeout and ends 30 s later in a panic that poisons the connection.
fn quic(limits: &Limits) -> QuicTransportConfig {
    let keep_alive = limits.keep_alive.min(limits.silence_max / 3);
    QuicTransportConfig::builder()
        .max_concurrent_bidi_streams(VarInt::from_u32(limits.streams_per_link_max))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(LINK_WINDOW_BYTES))
        .send_window(SEND_WINDOW_BYTES)
        .datagram_receive_buffer_size(None)
        .datagram_send_buffer_size(0)
        .congestion_controller_factory(Arc::new(FirstFlightConfig))
        .max_idle_timeout(limits.silence_max.try_into().ok())
        .keep_alive_interval(keep_alive)
        .default_path_keep_alive_interval(keep_alive)
        .default_path_max_idle_timeout(limits.silence_max.min(PATH_SILENCE_MAX))
        .build()
}

/// iroh's own upper bound for a path, as opposed to a connection.
const PATH_SILENCE_MAX: std::time::Duration = std::time::Duration::from_secs(15);
