use std::time::Duration;

use comity_core::Time;
use proptest::prelude::*;

#[test]
fn arithmetic_saturates_at_both_ends() {
    assert_eq!(Time::MAX + Duration::from_secs(1), Time::MAX);
    assert_eq!(Time::ZERO - Duration::from_secs(1), Time::ZERO);
    assert_eq!(Time(5) + Duration::MAX, Time::MAX);
    assert_eq!(Time(5).saturating_since(Time(9)), Duration::ZERO);
    assert_eq!(Time(9).saturating_since(Time(5)), Duration::from_micros(4));
    assert_eq!(Time::from_millis(u64::MAX), Time::MAX);
    assert_eq!(Time::from_secs(u64::MAX), Time::MAX);
}

#[test]
fn units_round_down() {
    let time = Time::from_micros(1_999_999);
    assert_eq!((time.as_micros(), time.as_millis(), time.as_secs()), (1_999_999, 1_999, 1));
    assert_eq!(Time::from_millis(1_999), Time(1_999_000));
}

#[test]
fn rfc3339_has_the_fraction_it_needs() {
    let at = |micros| Time::from_secs(1_795_359_845) + Duration::from_micros(micros);
    assert_eq!(at(0).rfc3339(), "2026-11-22T15:04:05Z");
    assert_eq!(at(250_000).rfc3339(), "2026-11-22T15:04:05.250Z");
    assert_eq!(at(250_001).rfc3339(), "2026-11-22T15:04:05.250001Z");
    assert_eq!(at(1).to_string(), "2026-11-22T15:04:05.000001Z");
    assert_eq!(Time::ZERO.rfc3339(), "1970-01-01T00:00:00Z");
    assert_eq!(Time::MAX.rfc3339(), "+586524-01-19T08:01:49.551615Z");
}

#[test]
fn serde_is_the_number_of_microseconds() {
    assert_eq!(serde_json::to_string(&Time(7)).unwrap(), "7");
    assert_eq!(serde_json::from_str::<Time>("7").unwrap(), Time(7));
}

proptest! {
    /// Against jiff, up to the last year RFC 3339 can write.
    #[test]
    fn rfc3339_agrees_with_jiff(micros in 0u64..253_402_207_200_000_000) {
        let text = Time(micros).rfc3339();
        let read: jiff::Timestamp = text.parse().unwrap();
        prop_assert_eq!(read.as_microsecond(), i64::try_from(micros).unwrap());
        let expected = jiff::Timestamp::from_microsecond(i64::try_from(micros).unwrap()).unwrap().to_string();
        prop_assert_eq!(&text[..19], &expected[..19]);
    }
}
