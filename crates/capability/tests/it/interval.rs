//! Intervals against a brute-force model on a small time line.

use comity_capability::attribute::{Interval, Moment};
use proptest::prelude::*;

fn moment(micros: i64) -> Moment {
    Moment::from_micros(micros).unwrap()
}

fn text(text: &str) -> Interval {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn written_units_are_whole() {
    assert_eq!(text("2021..2024"), text("2021-01-01/2024-12-31"));
    assert_eq!(text("2021..2024"), text("2021-01-01T00:00:00Z/2025-01-01T00:00:00Z"));
    assert_eq!(text("2024-02"), text("2024-02-01/2024-02-29"));
    assert_eq!(text("2024-02-29"), text("2024-02-29T00:00:00Z/2024-03-01T00:00:00Z"));
    assert_eq!(text("2021/.."), text("2021.."));
    assert_eq!(text("../2021"), text("..2021"));
    assert_eq!(text("../.."), Interval::ALWAYS);
    assert_eq!(text("2021-01-01/P1Y"), text("2021"));
    assert_eq!(text("P1M/2021-01-31"), text("2021-01"));
    assert_eq!(text("2021-01-01T01:00:00+01:00/2021-01-02"), text("2021-01-01/2021-01-02"));
}

#[test]
fn ends_are_exact() {
    let year = text("2024");
    assert!(text("2019-01-01/2024-12-31").covers(&year));
    assert!(!text("2019-01-01/2024-12-30").covers(&year));
    assert!(!text("2024-01-02/2025").covers(&year));
    assert!(!text("2024-01-01T00:00:00.000001Z/2025").covers(&year));
    assert!(!text("2023").overlaps(&year) && text("2023/2024-01-01").overlaps(&year));
    assert!(text("../..").covers(&year) && !year.covers(&text("../..")));
    assert!(
        text("2020/..").covers(&text("2021/..")) && !text("2020/2030").covers(&text("2021/.."))
    );
    let last_row = "2024-12-31T16:00:00Z".parse().unwrap();
    assert!(!Interval::new(None, Some(last_row)).unwrap().covers(&Interval::at(last_row)));
    assert!(
        Interval::closed("2015-01-02".parse().unwrap(), last_row)
            .unwrap()
            .covers(&Interval::at(last_row))
    );
}

#[test]
fn nonsense_is_refused() {
    for bad in [
        "",
        "/",
        "..",
        "2024/2021",
        "2021-13",
        "2021-02-29",
        "21",
        "2021-1-1",
        "2021/2022/2023",
        "0000",
        "yesterday",
        "2021-01-01T25:00:00Z",
        "2021-01-01T00:00:00Z/2021-01-01T00:00:00Z",
        "P1Y/P1Y",
        "2021-01-01/-P1Y",
        "2021-01-01T00:00[Europe/Berlin]",
    ] {
        assert!(bad.parse::<Interval>().is_err(), "{bad}");
    }
}

/// The moments of an interval on the line -1..=12; the line is longer than any end, so open ends show.
fn model(interval: &Interval) -> Vec<i64> {
    (-1..=12).filter(|t| interval.contains(moment(*t))).collect()
}

fn small() -> impl Strategy<Value = Interval> {
    (prop::option::of(0i64..=11), prop::option::of(0i64..=11))
        .prop_filter_map("empty", |(from, to)| Interval::new(from.map(moment), to.map(moment)))
}

proptest! {
    #[test]
    fn algebra_agrees_with_sets(a in small(), b in small()) {
        let (set_a, set_b) = (model(&a), model(&b));
        let inside = |x: &[i64], y: &[i64]| x.iter().all(|t| y.contains(t));
        prop_assert_eq!(a.covers(&b), inside(&set_b, &set_a));
        prop_assert_eq!(a.within(&b), inside(&set_a, &set_b));
        let common: Vec<i64> = set_a.iter().copied().filter(|t| set_b.contains(t)).collect();
        prop_assert_eq!(a.overlaps(&b), !common.is_empty());
        prop_assert_eq!(a.intersection(&b).map(|both| model(&both)).unwrap_or_default(), common);
    }

    #[test]
    fn empty_intervals_do_not_exist(from in 0i64..10, to in 0i64..10) {
        prop_assert_eq!(Interval::new(Some(moment(from)), Some(moment(to))).is_some(), from < to);
    }

    #[test]
    fn text_reads_back(interval in crate::common::interval()) {
        prop_assert_eq!(interval.to_string().parse::<Interval>().unwrap(), interval);
    }
}
