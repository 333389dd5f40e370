//! Points and bounding boxes on the Earth (WGS 84), in exact 1e-7 degrees.

use std::fmt;

use super::{Decimal, ValueError, ValueKind, json::malformed};

/// Units in a degree.
pub(crate) const UNITS_PER_DEGREE: u64 = 10_000_000;
const UNITS_PER_DEGREE_I32: i32 = 10_000_000;
const FULL_CIRCLE: i64 = 360 * 10_000_000;

/// A point, or a box between two parallels and two meridians. Coordinates are whole units of 1e-7
/// degree (11 mm at the equator), latitude -90 to 90, longitude -180 to 180.
///
/// A box whose `west` is greater than its `east` crosses the antimeridian (RFC 7946 §5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Geo {
    /// A point.
    Point {
        /// Latitude.
        lat: i32,
        /// Longitude.
        lon: i32,
    },
    /// A bounding box, edges included.
    Box {
        /// Western edge.
        west: i32,
        /// Southern edge.
        south: i32,
        /// Eastern edge.
        east: i32,
        /// Northern edge.
        north: i32,
    },
}

impl Geo {
    /// The whole Earth.
    pub const EARTH: Self = Self::Box {
        west: -180 * UNITS_PER_DEGREE_I32,
        south: -90 * UNITS_PER_DEGREE_I32,
        east: 180 * UNITS_PER_DEGREE_I32,
        north: 90 * UNITS_PER_DEGREE_I32,
    };

    /// The point at a latitude and longitude in degrees.
    pub fn point(lat: Decimal, lon: Decimal) -> Option<Self> {
        Self::checked_point(units(lat)?, units(lon)?)
    }

    /// The box with these edges in degrees, in the order of RFC 7946.
    pub fn bounds(west: Decimal, south: Decimal, east: Decimal, north: Decimal) -> Option<Self> {
        Self::checked_box(units(west)?, units(south)?, units(east)?, units(north)?)
    }

    pub(crate) fn checked_point(lat: i32, lon: i32) -> Option<Self> {
        (valid_lat(lat) && valid_lon(lon)).then_some(Self::Point { lat, lon })
    }

    pub(crate) fn checked_box(west: i32, south: i32, east: i32, north: i32) -> Option<Self> {
        (valid_lon(west)
            && valid_lon(east)
            && valid_lat(south)
            && valid_lat(north)
            && south <= north)
            .then_some(Self::Box { west, south, east, north })
    }

    /// West, south, east, north; a point is a box of no extent.
    pub fn edges(&self) -> (i32, i32, i32, i32) {
        match *self {
            Self::Point { lat, lon } => (lon, lat, lon, lat),
            Self::Box { west, south, east, north } => (west, south, east, north),
        }
    }

    /// Whether all of `other` lies in this place.
    pub fn contains(&self, other: &Self) -> bool {
        let (west, south, east, north) = self.edges();
        let (other_west, other_south, other_east, other_north) = other.edges();
        if south > other_south || other_north > north {
            return false;
        }
        let width = eastward(west, east);
        if width == FULL_CIRCLE {
            return true;
        }
        let start = eastward(west, other_west) % FULL_CIRCLE;
        start + eastward(other_west, other_east) <= width
    }

    /// Whether the two have a point in common.
    pub fn overlaps(&self, other: &Self) -> bool {
        let (west, south, east, north) = self.edges();
        let (other_west, other_south, other_east, other_north) = other.edges();
        if south > other_north || other_south > north {
            return false;
        }
        eastward(west, other_west) % FULL_CIRCLE <= eastward(west, east)
            || eastward(other_west, west) % FULL_CIRCLE <= eastward(other_west, other_east)
    }

    /// Great-circle metres from the nearest point of this place to the nearest of `other`, zero if
    /// they overlap (haversine on a sphere of 6,371,008.8 m, the IUGG mean radius; under 0.6 % off
    /// the ellipsoid). For two boxes it is taken between nearest corners, hence an upper bound.
    pub fn distance_m(&self, other: &Self) -> f64 {
        if self.overlaps(other) {
            return 0.0;
        }
        let mut nearest = f64::INFINITY;
        for (a, b) in [(self, other), (other, self)] {
            for (lat, lon) in a.corners() {
                let (near_lat, near_lon) = b.nearest_to(lat, lon);
                nearest = nearest.min(haversine(lat, lon, near_lat, near_lon));
            }
        }
        nearest
    }

    fn corners(&self) -> [(i32, i32); 4] {
        let (west, south, east, north) = self.edges();
        [(south, west), (south, east), (north, west), (north, east)]
    }

    /// The point of this place with the nearest parallel and the nearest meridian.
    fn nearest_to(&self, lat: i32, lon: i32) -> (i32, i32) {
        let (west, south, east, north) = self.edges();
        let near_lat = lat.clamp(south, north);
        let from_west = eastward(west, lon) % FULL_CIRCLE;
        let width = eastward(west, east);
        let near_lon = if from_west <= width {
            lon
        } else if from_west - width <= FULL_CIRCLE - from_west {
            east
        } else {
            west
        };
        (near_lat, near_lon)
    }
}

/// Units travelled east from one meridian to another, 0..=360 degrees; 360 only from -180 to 180.
fn eastward(from: i32, to: i32) -> i64 {
    let travelled = i64::from(to) - i64::from(from);
    if travelled < 0 { travelled + FULL_CIRCLE } else { travelled }
}

fn valid_lat(lat: i32) -> bool {
    lat.unsigned_abs() <= 90 * UNITS_PER_DEGREE_I32.unsigned_abs()
}

fn valid_lon(lon: i32) -> bool {
    lon.unsigned_abs() <= 180 * UNITS_PER_DEGREE_I32.unsigned_abs()
}

fn haversine(lat1: i32, lon1: i32, lat2: i32, lon2: i32) -> f64 {
    const MEAN_RADIUS_M: f64 = 6_371_008.8;
    let radians = |units: i32| {
        f64::from(units) / f64::from(UNITS_PER_DEGREE_I32) * std::f64::consts::PI / 180.0
    };
    let (lat1, lat2) = (radians(lat1), radians(lat2));
    let half_lat = ((lat2 - lat1) / 2.0).sin();
    let half_lon = ((radians(lon2) - radians(lon1)) / 2.0).sin();
    let h = half_lat * half_lat + lat1.cos() * lat2.cos() * half_lon * half_lon;
    2.0 * MEAN_RADIUS_M * h.clamp(0.0, 1.0).sqrt().asin()
}

/// Degrees to units; digits beyond the seventh are cut off toward zero.
fn units(degrees: Decimal) -> Option<i32> {
    let (mantissa, scale) = (i128::from(degrees.mantissa()), u32::from(degrees.scale()));
    let units = mantissa.checked_mul(i128::from(UNITS_PER_DEGREE))? / 10i128.pow(scale);
    i32::try_from(units).ok()
}

/// Units to degrees.
pub(crate) fn degrees(units: i32) -> Decimal {
    Decimal::new(i64::from(units), 7).unwrap_or(Decimal::ZERO)
}

impl fmt::Display for Geo {
    /// `lat,lon` for a point and `west,south,east,north` for a box.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Point { lat, lon } => write!(f, "{},{}", degrees(lat), degrees(lon)),
            Self::Box { west, south, east, north } => write!(
                f,
                "{},{},{},{}",
                degrees(west),
                degrees(south),
                degrees(east),
                degrees(north)
            ),
        }
    }
}

impl std::str::FromStr for Geo {
    type Err = ValueError;

    /// Reads `lat,lon`, or `west,south,east,north` (the order of RFC 7946 and OGC API), in degrees.
    /// Four numbers separated by spaces only are schema.org's `box`: south west north east.
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let wrong = || {
            malformed(
                ValueKind::Geo,
                text,
                "write a point as lat,lon or a box as west,south,east,north in degrees",
            )
        };
        let commas = text.contains(',');
        let numbers: Vec<Decimal> = text
            .split(|c: char| c == ',' || c.is_ascii_whitespace())
            .filter(|part| !part.is_empty())
            .take(5)
            .map(str::parse)
            .collect::<Result<_, _>>()
            .map_err(|_| wrong())?;
        let geo = match (numbers.as_slice(), commas) {
            ([lat, lon], _) => Self::point(*lat, *lon),
            ([west, south, east, north], true) | ([south, west, north, east], false) => {
                Self::bounds(*west, *south, *east, *north)
            }
            _ => None,
        };
        geo.ok_or_else(wrong)
    }
}
