//! How often a source may begin a handshake: token buckets, bounded in number.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// Sources whose rate is followed; the ones longest at rest are forgotten first.
const SOURCES_MAX: usize = 4096;

/// Buckets by source. Time is an argument.
#[derive(Debug)]
pub(super) struct SourceRates {
    per_second: f64,
    burst: f64,
    buckets: HashMap<IpAddr, Bucket>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl SourceRates {
    pub(super) fn new(per_second: u32, burst: u32) -> Self {
        Self {
            per_second: f64::from(per_second),
            burst: f64::from(burst.max(1)),
            buckets: HashMap::new(),
        }
    }

    /// Takes one token of `source`; false when it has none left.
    pub(super) fn admit(&mut self, source: IpAddr, now: Instant) -> bool {
        if self.buckets.len() >= SOURCES_MAX && !self.buckets.contains_key(&network(source)) {
            self.forget_rested(now);
        }
        let (per_second, burst) = (self.per_second, self.burst);
        let bucket =
            self.buckets.entry(network(source)).or_insert(Bucket { tokens: burst, at: now });
        let earned = now.saturating_duration_since(bucket.at).as_secs_f64() * per_second;
        *bucket = Bucket { tokens: (bucket.tokens + earned).min(burst), at: now };
        let admitted = bucket.tokens >= 1.0;
        if admitted {
            bucket.tokens -= 1.0;
        }
        admitted
    }

    /// A bucket at rest long enough is full again, so forgetting it changes nothing; if none is, all start anew, which costs an
    /// attacker with that many addresses nothing he did not have.
    fn forget_rested(&mut self, now: Instant) {
        let refill = Duration::from_secs_f64(self.burst / self.per_second.max(1.0));
        self.buckets.retain(|_, bucket| now.saturating_duration_since(bucket.at) < refill);
        if self.buckets.len() >= SOURCES_MAX {
            self.buckets.clear();
        }
    }
}

/// One subscriber usually holds a whole IPv6 /64.
fn network(source: IpAddr) -> IpAddr {
    match source {
        IpAddr::V4(_) => source,
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => IpAddr::V4(v4),
            None => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn burst_then_rate() {
        let mut rates = SourceRates::new(10, 3);
        let start = Instant::now();
        assert_eq!((0..5).filter(|_| rates.admit(ip("10.0.0.1"), start)).count(), 3);
        assert!(rates.admit(ip("10.0.0.2"), start), "another source has its own bucket");
        let later = start + Duration::from_millis(200);
        assert_eq!((0..5).filter(|_| rates.admit(ip("10.0.0.1"), later)).count(), 2);
    }

    #[test]
    fn a_slash_64_is_one_source() {
        let mut rates = SourceRates::new(1, 1);
        let now = Instant::now();
        assert!(rates.admit(ip("2001:db8::1"), now));
        assert!(!rates.admit(ip("2001:db8::2"), now));
        assert!(rates.admit(ip("2001:db8:0:1::2"), now));
        assert!(rates.admit(ip("10.0.0.1"), now));
        assert!(!rates.admit(ip("::ffff:10.0.0.1"), now));
    }

    #[test]
    fn the_table_is_bounded() {
        let mut rates = SourceRates::new(1, 1);
        let now = Instant::now();
        for n in 0..u32::try_from(SOURCES_MAX).unwrap() * 2 {
            assert!(rates.admit(IpAddr::V4(n.into()), now));
        }
        assert!(rates.buckets.len() <= SOURCES_MAX);
    }
}
