//! Axes: ranges, ticks, and how numbers are written.

/// How distances on an axis relate to values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Equal distances are equal differences.
    Linear,
    /// Equal distances are equal ratios; values must be positive.
    Log,
}

/// How numbers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// As they are, large ones with k and M.
    Number,
    /// Shares of one, as percent.
    Percent,
    /// Seconds: `350 ms`, `2 s`, `10 min`.
    Seconds,
    /// Bytes, powers of 1,000: `1.2 kB`.
    Bytes,
}

impl Format {
    /// `value` for people: three digits, with its unit.
    #[must_use]
    pub fn write(self, value: f64) -> String {
        if !value.is_finite() {
            return "-".to_owned();
        }
        match self {
            Self::Number => scaled(value, &[(1e9, "G"), (1e6, "M"), (1e4, "k")], ""),
            Self::Percent => percent(value),
            Self::Seconds => seconds(value),
            Self::Bytes => scaled(value, &[(1e9, " GB"), (1e6, " MB"), (1e3, " kB")], " B"),
        }
    }
}

/// Near 100 % the digits that matter are those behind the nines.
fn percent(share: f64) -> String {
    let value = 100.0 * share;
    if value.abs() < 1.0 {
        return format!("{} %", digits(value));
    }
    let distance = (100.0 - value).abs();
    let decimals = match distance {
        0.0 => 0,
        d if d < 0.01 => 4,
        d if d < 0.1 => 3,
        d if d < 10.0 => 2,
        _ => 1,
    };
    format!("{} %", trimmed(value, decimals))
}

fn seconds(value: f64) -> String {
    match value.abs() {
        0.0 => "0 s".to_owned(),
        v if v < 1e-3 => format!("{} µs", digits(value * 1e6)),
        v if v < 1.0 => format!("{} ms", digits(value * 1e3)),
        v if v < 120.0 => format!("{} s", digits(value)),
        v if v < 7_200.0 => format!("{} min", digits(value / 60.0)),
        _ => format!("{} h", digits(value / 3_600.0)),
    }
}

fn scaled(value: f64, units: &[(f64, &str)], small: &str) -> String {
    for (size, unit) in units {
        if value.abs() >= *size {
            let size = if *unit == "k" { 1e3 } else { *size };
            return format!("{}{unit}", digits(value / size));
        }
    }
    format!("{}{small}", digits(value))
}

/// Three significant digits, no zeros at the end.
fn digits(value: f64) -> String {
    let decimals = match value.abs() {
        v if v >= 100.0 || v == 0.0 => 0,
        v if v >= 10.0 => 1,
        v if v >= 1.0 => 2,
        v if v >= 0.1 => 3,
        _ => 4,
    };
    trimmed(value, decimals)
}

fn trimmed(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    let text =
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

/// An axis.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    /// What is measured, with its unit if the numbers do not carry it.
    pub label: String,
    /// Linear or logarithmic.
    pub scale: Scale,
    /// How its numbers are written.
    pub format: Format,
    /// Values that must be visible, whatever the points are.
    pub include: Vec<f64>,
    /// Values it never goes beyond.
    pub limits: (f64, f64),
    /// Names of the places 0, 1, 2, … instead of numbers.
    pub categories: Vec<String>,
    /// Ticks at these values only: the sizes measured, for instance.
    pub ticks: Vec<f64>,
    /// Ends close to the outermost points instead of at round values.
    pub tight: bool,
}

impl Axis {
    /// A linear axis whose range follows the points.
    #[must_use]
    pub fn linear(label: impl Into<String>, format: Format) -> Self {
        Self {
            label: label.into(),
            scale: Scale::Linear,
            format,
            include: Vec::new(),
            limits: (f64::NEG_INFINITY, f64::INFINITY),
            categories: Vec::new(),
            ticks: Vec::new(),
            tight: false,
        }
    }

    /// A logarithmic axis whose range follows the points.
    #[must_use]
    pub fn log(label: impl Into<String>, format: Format) -> Self {
        Self { scale: Scale::Log, ..Self::linear(label, format) }
    }

    /// A linear axis of shares, never beyond 0 and 1 and always up to 1.
    #[must_use]
    pub fn share(label: impl Into<String>) -> Self {
        Self { include: vec![1.0], limits: (0.0, 1.0), ..Self::linear(label, Format::Percent) }
    }

    /// Places with names.
    #[must_use]
    pub fn categories(label: impl Into<String>, names: Vec<String>) -> Self {
        Self { categories: names, ..Self::linear(label, Format::Number) }
    }

    /// The same axis, showing `value` whatever the points are.
    #[must_use]
    pub fn including(mut self, value: f64) -> Self {
        self.include.push(value);
        self
    }

    /// The same axis, ending close to the outermost points.
    #[must_use]
    pub const fn tight(mut self) -> Self {
        self.tight = true;
        self
    }

    /// The same axis with ticks at these values only.
    #[must_use]
    pub fn with_ticks(mut self, ticks: Vec<f64>) -> Self {
        self.ticks = ticks;
        self
    }

    fn usable(&self, value: f64) -> bool {
        value.is_finite() && (self.scale == Scale::Linear || value > 0.0)
    }
}

/// An axis with its range and ticks settled.
#[derive(Clone, Debug)]
pub(super) struct Settled {
    scale: Scale,
    low: f64,
    high: f64,
    /// Values with their labels; lines without label where the label is empty.
    pub(super) ticks: Vec<(f64, String)>,
}

/// Largest number of labelled ticks.
const TICKS_MAX: f64 = 7.0;
/// Distances between ticks of longer times, seconds.
const TIME_STEPS: [f64; 14] = [
    15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1_800.0, 3_600.0, 7_200.0, 14_400.0, 21_600.0,
    43_200.0, 86_400.0,
];

/// Ticks at the multiples of `step`.
fn ticks(axis: &Axis, low: f64, high: f64, step: f64) -> Vec<(f64, String)> {
    let mut ticks = Vec::new();
    let mut number = (low / step - 1e-9).ceil();
    while number * step <= high + 1e-9 * step {
        let value = number * step;
        ticks.push((value, axis.format.write(value)));
        number += 1.0;
    }
    ticks
}

impl Settled {
    /// Settles `axis` for these values.
    pub(super) fn new(axis: &Axis, values: impl Iterator<Item = f64>) -> Self {
        if !axis.categories.is_empty() {
            let ticks = axis.categories.iter().enumerate();
            return Self {
                scale: Scale::Linear,
                low: -0.5,
                high: axis.categories.len() as f64 - 0.5,
                ticks: ticks.map(|(index, name)| (index as f64, name.clone())).collect(),
            };
        }
        let shown = values.chain(axis.include.iter().copied()).filter(|value| axis.usable(*value));
        let (low, high) = shown.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
            (low.min(value), high.max(value))
        });
        let (low, high) = if low > high { (1.0, 10.0) } else { (low, high) };
        let mut settled = match axis.scale {
            Scale::Linear => Self::linear(axis, low, high),
            Scale::Log => Self::log(axis, low, high),
        };
        if !axis.ticks.is_empty() {
            settled.ticks =
                axis.ticks.iter().map(|tick| (*tick, axis.format.write(*tick))).collect();
        }
        settled
    }

    fn linear(axis: &Axis, low: f64, high: f64) -> Self {
        let span = if high > low { high - low } else { low.abs().max(1e-3) * 0.2 };
        let rough = span / (TICKS_MAX - 2.0);
        let power = 10_f64.powf(rough.log10().floor());
        let decimal = [1.0, 2.0, 2.5, 5.0, 10.0].map(|factor| factor * power);
        let round: &[f64] =
            if axis.format == Format::Seconds && rough > 10.0 { &TIME_STEPS } else { &decimal };
        let step = round.iter().copied().find(|step| *step >= rough * 0.999).unwrap_or(power);
        let (bottom, top) = axis.limits;
        if axis.tight {
            let (low, high) = ((low - 0.02 * span).max(bottom), (high + 0.02 * span).min(top));
            let ticks = ticks(axis, low, high, step);
            return Self { scale: Scale::Linear, low, high, ticks };
        }
        // Room around the points, but none beyond what is possible or where an end was asked for.
        let low_end = if axis.include.contains(&low) { low } else { low - 0.04 * span };
        let high_end = if axis.include.contains(&high) { high } else { high + 0.06 * span };
        let low = ((low_end / step).floor() * step).max(bottom);
        let high = ((high_end / step - 1e-9).ceil() * step).min(top);
        let high = if high > low { high } else { low + step };
        Self { scale: Scale::Linear, low, high, ticks: ticks(axis, low, high, step) }
    }

    fn log(axis: &Axis, low: f64, high: f64) -> Self {
        let (mut low, mut high) = (low / 1.08, high * 1.12);
        if high / low < 4.0 {
            (low, high) = (low / 1.6, high * 1.6);
        }
        let decades = (high / low).log10();
        let mut ticks = Vec::new();
        let mut decade = low.log10().floor();
        let every = (decades / TICKS_MAX).ceil().max(1.0);
        while 10_f64.powf(decade) <= high {
            for factor in [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0] {
                let value = factor * 10_f64.powf(decade);
                if value < low || value > high {
                    continue;
                }
                let spoken = (factor == 1.0 && decade.rem_euclid(every) == 0.0)
                    || (decades < 2.2 && (factor == 2.0 || factor == 5.0));
                let label = if spoken { axis.format.write(value) } else { String::new() };
                ticks.push((value, label));
            }
            decade += 1.0;
        }
        Self { scale: Scale::Log, low, high, ticks }
    }

    /// Where a value lies, 0 at the low end and 1 at the high end; clamped to the axis.
    pub(super) fn place(&self, value: f64) -> f64 {
        let share = match self.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Log if value <= 0.0 => 0.0,
            Scale::Log => (value / self.low).ln() / (self.high / self.low).ln(),
        };
        share.clamp(0.0, 1.0)
    }

    /// Whether the value lies on the axis.
    pub(super) fn shows(&self, value: f64) -> bool {
        value.is_finite() && value >= self.low && value <= self.high
    }

    /// The value at the low end.
    pub(super) const fn low(&self) -> f64 {
        self.low
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_keep_the_digits_that_matter() {
        for (format, value, text) in [
            (Format::Percent, 1.0, "100 %"),
            (Format::Percent, 0.99987, "99.987 %"),
            (Format::Percent, 0.9, "90 %"),
            (Format::Percent, 0.0, "0 %"),
            (Format::Percent, 0.0001, "0.01 %"),
            (Format::Seconds, 0.339, "339 ms"),
            (Format::Seconds, 2.5, "2.5 s"),
            (Format::Seconds, 600.0, "10 min"),
            (Format::Number, 190_000.0, "190k"),
            (Format::Number, 1_000.0, "1000"),
            (Format::Number, 1_000_000.0, "1M"),
            (Format::Bytes, 41_800.0, "41.8 kB"),
            (Format::Number, f64::NAN, "-"),
        ] {
            assert_eq!(format.write(value), text);
        }
    }

    #[test]
    fn a_share_never_leaves_its_limits() {
        let settled = Settled::new(&Axis::share("recall"), [0.91, 0.999].into_iter());
        assert!(settled.low() <= 0.91 && settled.place(1.0) == 1.0);
        assert_eq!(settled.ticks.last().unwrap().1, "100 %");
        assert!(settled.ticks.len() <= 8, "{:?}", settled.ticks);
    }

    #[test]
    fn ticks_of_any_range_are_few_and_inside() {
        for (low, high) in [(0.0, 1.0), (3.0, 3.0), (-5.0, 1e9), (1e-9, 2e-9), (0.0, 0.0)] {
            for axis in [Axis::linear("", Format::Number), Axis::log("", Format::Number)] {
                let settled = Settled::new(&axis, [low, high].into_iter());
                let spoken = settled.ticks.iter().filter(|(_, label)| !label.is_empty());
                assert!((1..=16).contains(&spoken.count()), "{low} {high} {settled:?}");
                assert!(
                    settled
                        .ticks
                        .iter()
                        .all(|(at, _)| settled.shows(*at) || axis.scale == Scale::Linear)
                );
            }
        }
    }

    #[test]
    fn what_cannot_be_shown_is_left_out_of_the_range() {
        let settled =
            Settled::new(&Axis::log("", Format::Number), [f64::NAN, 0.0, 10.0].into_iter());
        assert!(settled.low() > 1.0);
        let none = Settled::new(&Axis::linear("", Format::Number), std::iter::empty());
        assert!(none.place(2.0).is_finite());
    }
}
