//! Cubic whose pacer lets the first flight leave at once.
//!
//! noq paces at window / round trip and lets at most 10 ms of that rate leave in one burst. Before a round trip was
//! measured it assumes 333 ms: 36 kB/s, so every datagram after the first waits 27 ms, and an answer that does not
//! fit into the datagram of the server's handshake comes that much later. RFC 9002 section 7.7 allows a burst of the
//! initial window. This controller reports a pacing rate that never falls below [`RATE_MIN`]; the window stays Cubic's.

use std::{
    any::Any,
    sync::Arc,
    time::{Duration, Instant},
};

use iroh::endpoint::{Controller, ControllerFactory, ControllerMetrics, RttEstimator};
use noq_proto::congestion::CubicConfig;

/// Lowest pacing rate, in bytes per second: ten full packets in 10 ms, the initial window in one burst.
const RATE_MIN: u64 = 1_500_000;
/// How much faster than one window per round trip to send, in percent (RFC 9002 section 7.7).
const GAIN_PERCENT: u128 = 125;

/// Makes [`FirstFlight`] controllers.
#[derive(Debug, Default)]
pub(crate) struct FirstFlightConfig;

impl ControllerFactory for FirstFlightConfig {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        let cubic = Arc::new(CubicConfig::default()).build(now, current_mtu);
        Box::new(FirstFlight { cubic, round_trip: None })
    }
}

/// Cubic with a floor under its pacing rate.
#[derive(Debug)]
struct FirstFlight {
    cubic: Box<dyn Controller>,
    /// Smoothed; nothing before the first acknowledgement.
    round_trip: Option<Duration>,
}

impl FirstFlight {
    fn rate(&self) -> u64 {
        let measured = self.round_trip.map_or(0, |round_trip| {
            let per_second = u128::from(self.cubic.window()) * GAIN_PERCENT * 10_000_000;
            u64::try_from(per_second / round_trip.as_nanos().max(1)).unwrap_or(u64::MAX)
        });
        measured.max(RATE_MIN)
    }
}

impl Controller for FirstFlight {
    fn on_sent(&mut self, now: Instant, bytes: u64, largest_pn: u64) {
        self.cubic.on_sent(now, bytes, largest_pn);
    }

    fn on_packet_sent(&mut self, now: Instant, bytes: u16, pn: u64) {
        self.cubic.on_packet_sent(now, bytes, pn);
    }

    fn on_cwnd_limited(&mut self) {
        self.cubic.on_cwnd_limited();
    }

    fn on_ack(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        pn: u64,
        app_limited: bool,
        rtt: &RttEstimator,
    ) {
        self.round_trip = Some(rtt.get());
        self.cubic.on_ack(now, sent, bytes, pn, app_limited, rtt);
    }

    fn on_end_acks(
        &mut self,
        now: Instant,
        in_flight: u64,
        app_limited: bool,
        largest_acked: Option<u64>,
    ) {
        self.cubic.on_end_acks(now, in_flight, app_limited, largest_acked);
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        sent: Instant,
        is_persistent: bool,
        is_ecn: bool,
        lost_bytes: u64,
        largest_lost: u64,
    ) {
        self.cubic.on_congestion_event(now, sent, is_persistent, is_ecn, lost_bytes, largest_lost);
    }

    fn on_packet_lost(&mut self, lost_bytes: u16, pn: u64, now: Instant) {
        self.cubic.on_packet_lost(lost_bytes, pn, now);
    }

    fn on_spurious_congestion_event(&mut self) {
        self.cubic.on_spurious_congestion_event();
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.cubic.on_mtu_update(new_mtu);
    }

    fn on_ack_frequency_update(&mut self, threshold: u64, max_ack_delay: Duration) {
        self.cubic.on_ack_frequency_update(threshold, max_ack_delay);
    }

    fn window(&self) -> u64 {
        self.cubic.window()
    }

    fn metrics(&self) -> ControllerMetrics {
        let mut metrics = self.cubic.metrics();
        metrics.pacing_rate = Some(self.rate());
        metrics
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Self { cubic: self.cubic.clone_box(), round_trip: self.round_trip })
    }

    fn initial_window(&self) -> u64 {
        self.cubic.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}
