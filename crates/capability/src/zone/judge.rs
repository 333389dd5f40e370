//! Whether a query can have an answer among the members of a zone map.

use super::bounds::{Range, area, decimal, hours, scalar};
use super::{Filed, MORE_CLASSES, UNLISTED_KEYS, UNNAMED_KEYS, ZoneMap, filed, masked};
use crate::attribute::Value;
use crate::matching::subject::lacks_tags;
use crate::profile::KeySpec;
use crate::query::{CLASS, Condition, INTERFACE, Near, Query, TAGS, Test};
use crate::taxonomy::ClassId;

/// Millimetres on the ground in 10,000 units of latitude (1e-7 degrees each), rounded down.
const MM_PER_10K_UNITS: u64 = 111_194;

impl ZoneMap {
    /// Whether a member may be an answer: false only if each fails a required condition by what its digest says.
    #[must_use]
    pub fn may_match(&self, query: &Query) -> bool {
        query
            .conditions()
            .iter()
            .filter(|condition| !condition.is_soft())
            .all(|condition| self.may_meet(condition))
    }

    /// The most preferences that one member can meet, or `None` if no member can match: shards with more are asked first.
    #[must_use]
    pub fn promise(&self, query: &Query) -> Option<usize> {
        let preferred = query.conditions().iter().filter(|condition| condition.is_soft());
        self.may_match(query).then(|| preferred.filter(|soft| self.may_meet(soft)).count())
    }

    /// Whether a member may meet a condition, or leave it to its record.
    fn may_meet(&self, condition: &Condition) -> bool {
        match condition.key() {
            CLASS => self.may_have_class(condition.test()),
            TAGS => !lacks_tags(condition.test(), &self.terms),
            // There are about as many as members.
            INTERFACE => true,
            _ if self.flags & UNLISTED_KEYS != 0 => true,
            key => match masked(key) {
                Some(spec) => self.may_hold(spec, condition.test()),
                None => self.flags & UNNAMED_KEYS != 0 || self.words.may_contain(Filed::Key, key),
            },
        }
    }

    fn may_have_class(&self, test: &Test) -> bool {
        if self.flags & MORE_CLASSES != 0 {
            return true;
        }
        if !self.words.may_contain(Filed::AnyClass, "") {
            return false;
        }
        let declared = |value: &Value| {
            value.elements().iter().any(|class| self.words.may_contain(Filed::Class, class))
        };
        if let Test::Under(classes) = test {
            let above =
                |class: &ClassId| self.words.may_contain(Filed::Subtree, &class.to_string());
            return classes.iter().any(above);
        }
        members(test, declared)
    }

    fn may_hold(&self, spec: &'static KeySpec, test: &Test) -> bool {
        let bit = 1 << spec.id;
        if self.open & bit != 0 {
            return true;
        }
        if self.declared & bit == 0 {
            return false;
        }
        if filed(spec) {
            let declared = |value: &Value| {
                let words = value.elements();
                words.iter().all(|word| self.words.may_contain(Filed::Word(spec.id), word))
            };
            return members(test, declared);
        }
        self.bounds.get(spec.key).is_none_or(|range| range.may_hold(test))
    }
}

/// A test on members; true for a test of another sort, which the filter cannot answer.
fn members(test: &Test, has: impl Fn(&Value) -> bool) -> bool {
    match test {
        Test::Eq(value) => has(value),
        Test::Any(values) => values.iter().any(has),
        Test::All(values) => values.iter().all(has),
        Test::Ne(_)
        | Test::Under(_)
        | Test::Lt(_)
        | Test::Lte(_)
        | Test::Gt(_)
        | Test::Gte(_)
        | Test::Between(..)
        | Test::Covers(_)
        | Test::Overlaps(_)
        | Test::Within(_)
        | Test::FinerOrEqual(_)
        | Test::Near(_)
        | Test::Semver(_)
        | Test::Exists
        | Test::Interface(_) => true,
    }
}

impl Range {
    /// Whether a value of this range may be as asked. Operands of another sort are left to the members.
    fn may_hold(self, test: &Test) -> bool {
        match test {
            Test::Eq(value) => self.may_be(value),
            Test::Any(values) => values.iter().any(|value| self.may_be(value)),
            Test::All(values) => values.iter().all(|value| self.may_be(value)),
            Test::Lt(value) | Test::Lte(value) | Test::FinerOrEqual(value) => {
                self.against(value).is_none_or(|(least, _, wanted)| least <= wanted)
            }
            Test::Gt(value) | Test::Gte(value) => {
                self.against(value).is_none_or(|(_, greatest, wanted)| wanted <= greatest)
            }
            Test::Between(low, high) => {
                self.against(low).is_none_or(|(_, greatest, wanted)| wanted <= greatest)
                    && self.against(high).is_none_or(|(least, _, wanted)| least <= wanted)
            }
            Test::Covers(value) => self.may_cover(value),
            // What lies in a place or time has something in common with it.
            Test::Overlaps(value) | Test::Within(value) => self.may_overlap(value),
            Test::Near(near) => self.may_be_near(near),
            Test::Ne(_) | Test::Under(_) | Test::Semver(_) | Test::Exists | Test::Interface(_) => {
                true
            }
        }
    }

    fn may_be(self, value: &Value) -> bool {
        self.against(value)
            .is_none_or(|(least, greatest, wanted)| (least..=greatest).contains(&wanted))
            && self.may_cover(value)
    }

    /// Least, greatest and the wanted amount; `None` where there is no order between them, except that an amount of money in
    /// another currency than all declared ones is beyond both ends.
    fn against(self, value: &Value) -> Option<(i64, i64, i64)> {
        match (self, value) {
            (Self::Money(currency, least, greatest), Value::Money(money)) => {
                if currency == money.currency {
                    Some((least, greatest, decimal(&money.amount)))
                } else {
                    Some((i64::MAX, i64::MIN, 0))
                }
            }
            (Self::Scalar(least, greatest), value) => {
                scalar(value).map(|wanted| (least, greatest, wanted))
            }
            (Self::Money(..) | Self::Hours(..) | Self::Area(_), _) => None,
        }
    }

    fn may_cover(self, value: &Value) -> bool {
        match (self, value) {
            (Self::Hours(first, last), value) => value.interval().is_none_or(|wanted| {
                let (from, to) = hours(&wanted);
                first <= from && to <= last
            }),
            (Self::Area([west, south, east, north]), Value::Geo(place)) => {
                let [place_west, place_south, place_east, place_north] = area(place);
                let round = goes_round(place_west, place_east);
                (south <= place_south && place_north <= north)
                    && (round || (west <= place_west && place_east <= east))
            }
            (Self::Scalar(..) | Self::Money(..) | Self::Area(_), _) => true,
        }
    }

    fn may_overlap(self, value: &Value) -> bool {
        match (self, value) {
            (Self::Hours(first, last), value) => value.interval().is_none_or(|wanted| {
                let (from, to) = hours(&wanted);
                first <= to && from <= last
            }),
            (Self::Area([west, south, east, north]), Value::Geo(place)) => {
                let [place_west, place_south, place_east, place_north] = area(place);
                (south <= place_north && place_south <= north)
                    && (west <= place_east && place_west <= east)
            }
            (Self::Scalar(..) | Self::Money(..) | Self::Area(_), _) => true,
        }
    }

    /// Parallels only: two places are never nearer than their parallels.
    fn may_be_near(self, near: &Near) -> bool {
        let Self::Area([_, south, _, north]) = self else { return true };
        let (_, place_south, _, place_north) = near.place.edges();
        let apart = i64::from(south) - i64::from(place_north);
        let apart = apart.max(i64::from(place_south) - i64::from(north)).max(0).unsigned_abs();
        // A metre of tolerance for the floating-point distance.
        apart / 10_000 * MM_PER_10K_UNITS <= (u64::from(near.radius_m) + 1) * 1_000
    }
}

/// Whether an [`area`] goes all the way round.
fn goes_round(west: i32, east: i32) -> bool {
    i64::from(east) - i64::from(west) >= 3_600_000_000
}
