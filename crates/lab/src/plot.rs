//! Figures as SVG: lines with error bars, distributions, bars, time series with fault marks.
//!
//! Every element carries its colours for paper as attributes, so that any renderer shows it; a style sheet inside the figure replaces them
//! where the reader prefers a dark screen. Series differ in marker and dash as well as in colour, so that a grey print can be read.

mod axis;
mod draw;

pub use axis::{Axis, Format, Scale};

/// One measured point.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// Where on the horizontal axis; the number of the category, from 0, if that axis has categories.
    pub x: f64,
    /// Where on the vertical axis.
    pub y: f64,
    /// Ends of the interval the value lies in with 95 % confidence.
    pub interval: Option<(f64, f64)>,
}

impl Point {
    /// A point known exactly.
    #[must_use]
    pub const fn new(x: f64, y: f64) -> Self {
        Self { x, y, interval: None }
    }
}

/// How a series is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Markers with error bars, joined by a line.
    Line,
    /// A line without markers, for series of many points.
    Curve,
    /// Steps, for distribution functions: the value holds until the next point.
    Steps,
    /// Bars side by side; for axes with categories.
    Bars,
}

/// One series of a figure.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// What the legend calls it.
    pub name: String,
    /// How it is drawn.
    pub style: Style,
    /// Its points, by `x`.
    pub points: Vec<Point>,
}

/// A time or span in which something was done to the network.
#[derive(Clone, Debug, PartialEq)]
pub struct Mark {
    /// Where it begins on the horizontal axis.
    pub from: f64,
    /// Where it ends, if it lasts.
    pub to: Option<f64>,
    /// What it is.
    pub label: String,
}

/// A value to reach, drawn as a line across.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// The value on the vertical axis.
    pub y: f64,
    /// What it is.
    pub label: String,
}

/// A figure.
#[derive(Clone, Debug, PartialEq)]
pub struct Chart {
    /// What it shows; for readers who hear it too.
    pub title: String,
    /// Horizontal axis.
    pub x: Axis,
    /// Vertical axis.
    pub y: Axis,
    /// What is drawn, in the order of the legend.
    pub series: Vec<Series>,
    /// Faults.
    pub marks: Vec<Mark>,
    /// Values to reach.
    pub targets: Vec<Target>,
}

impl Chart {
    /// An empty figure.
    #[must_use]
    pub fn new(title: impl Into<String>, x: Axis, y: Axis) -> Self {
        Self {
            title: title.into(),
            x,
            y,
            series: Vec::new(),
            marks: Vec::new(),
            targets: Vec::new(),
        }
    }

    /// Whether there is anything to draw.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.series.iter().all(|series| series.points.is_empty())
    }

    /// The figure as an SVG document that needs nothing else.
    #[must_use]
    pub fn svg(&self) -> String {
        draw::svg(self)
    }
}

/// Replaces what has a meaning in XML and HTML, and control characters.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(c),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}
