//! From a chart to SVG.

use std::fmt::Write as _;

use super::axis::Settled;
use super::{Chart, Point, Series, Style, escape};

const WIDTH: f64 = 640.0;
const PLOT_HEIGHT: f64 = 290.0;
const LEFT: f64 = 76.0;
const RIGHT: f64 = 18.0;
const LEGEND_ROW: f64 = 18.0;
const TOP: f64 = 12.0;
const MARK_ROOM: f64 = 16.0;
const BOTTOM: f64 = 50.0;
const FONT: f64 = 12.0;
/// Mean width of a character of the fonts named below, of the font's size.
const CHARACTER: f64 = 0.56;

/// Colours that people with any colour vision tell apart (Okabe and Ito 2008, darkened where they vanish on white), and their
/// counterparts on a dark ground.
const COLOURS: [(&str, &str); 8] = [
    ("#0063a6", "#62b5f0"),
    ("#c4500a", "#ff9a56"),
    ("#00795c", "#3fd0a5"),
    ("#9c3f78", "#eb9ac6"),
    ("#5e5e00", "#d6d24a"),
    ("#2f4b7c", "#a6bcf5"),
    ("#a3202f", "#ff8791"),
    ("#555555", "#bdbdbd"),
];
const DASHES: [&str; 4] = ["", "7 3", "2 3", "9 3 2 3"];

const INK: &str = "#1b1b1b";
const FAINT: &str = "#6a6a6a";
const GRID: &str = "#e2e2e2";
const BAND: &str = "#d9a400";
const GROUND: &str = "#ffffff";

/// Overrides for readers who prefer dark; a page that shows the figure may set `data-theme`.
fn style_sheet() -> String {
    let mut dark = String::new();
    for (index, (_, colour)) in COLOURS.iter().enumerate() {
        // Writing to a string does not fail.
        let _ = write!(dark, ".s{index}{{stroke:{colour}}}.f{index}{{fill:{colour}}}");
    }
    format!(
        "<style>text{{font-family:system-ui,'Helvetica Neue',Arial,'DejaVu Sans',sans-serif}}\
         @media screen and (prefers-color-scheme:dark){{.ink{{fill:#ececec}}.faint{{fill:#a8a8a8}}.line{{stroke:#a8a8a8}}\
         .grid{{stroke:#3a3a3a}}.ground{{fill:#16181c}}.hole{{fill:#16181c}}{dark}}}</style>"
    )
}

struct Canvas<'a> {
    chart: &'a Chart,
    out: String,
    x: Settled,
    y: Settled,
    top: f64,
    height: f64,
}

pub(super) fn svg(chart: &Chart) -> String {
    let every = || chart.series.iter().flat_map(|series| &series.points);
    let marks = chart.marks.iter().flat_map(|mark| [Some(mark.from), mark.to]).flatten();
    let x = Settled::new(&chart.x, every().map(|point| point.x).chain(marks));
    let heights = every().flat_map(|point| {
        let (low, high) = point.interval.unwrap_or((point.y, point.y));
        [point.y, low, high]
    });
    let targets = chart.targets.iter().map(|target| target.y);
    let y = Settled::new(&chart.y, heights.chain(targets));
    let legend = legend_rows(chart);
    let top = TOP
        + legend.len() as f64 * LEGEND_ROW
        + if chart.marks.is_empty() { 6.0 } else { MARK_ROOM + 6.0 };
    let height = top + PLOT_HEIGHT + BOTTOM;
    let mut canvas = Canvas { chart, out: String::new(), x, y, top, height };
    canvas.open();
    canvas.legend(&legend);
    canvas.grid();
    canvas.marks();
    canvas.targets();
    for (index, series) in chart.series.iter().enumerate() {
        canvas.series(index, series);
    }
    canvas.frame();
    canvas.out.push_str("</svg>\n");
    canvas.out
}

fn text_width(text: &str) -> f64 {
    text.chars().count() as f64 * FONT * CHARACTER
}

/// Series by the row of the legend they are named in, with the place of each. A single series is named by the title.
fn legend_rows(chart: &Chart) -> Vec<Vec<(usize, f64)>> {
    let mut rows: Vec<Vec<(usize, f64)>> = Vec::new();
    if chart.series.len() < 2 {
        return rows;
    }
    let mut at = f64::INFINITY;
    for (index, series) in chart.series.iter().enumerate() {
        let width = 34.0 + text_width(&series.name) + 14.0;
        if at + width > WIDTH - RIGHT {
            rows.push(Vec::new());
            at = LEFT;
        }
        if let Some(row) = rows.last_mut() {
            row.push((index, at));
        }
        at += width;
    }
    rows
}

impl Canvas<'_> {
    fn add(&mut self, element: std::fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = self.out.write_fmt(element);
        self.out.push('\n');
    }

    fn px(&self, x: f64) -> f64 {
        LEFT + self.x.place(x) * (WIDTH - LEFT - RIGHT)
    }

    fn py(&self, y: f64) -> f64 {
        self.top + (1.0 - self.y.place(y)) * PLOT_HEIGHT
    }

    fn open(&mut self) {
        let title = escape(&self.chart.title);
        let height = self.height;
        self.add(format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH:.0} {height:.0}\" width=\"{WIDTH:.0}\" \
             height=\"{height:.0}\" role=\"img\" aria-label=\"{title}\" font-size=\"{FONT:.0}\" \
             font-family=\"'DejaVu Sans',Arial,sans-serif\">"
        ));
        self.add(format_args!("<title>{title}</title>"));
        let style = style_sheet();
        self.add(format_args!("{style}"));
        self.add(format_args!(
            "<rect class=\"ground\" width=\"{WIDTH:.0}\" height=\"{height:.0}\" fill=\"{GROUND}\"/>"
        ));
    }

    fn text(&mut self, x: f64, y: f64, anchor: &str, class: &str, text: &str) {
        let fill = if class == "faint" { FAINT } else { INK };
        let text = escape(text);
        self.add(format_args!(
            "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"{fill}\">{text}</text>"
        ));
    }

    fn legend(&mut self, rows: &[Vec<(usize, f64)>]) {
        for (row, entries) in rows.iter().enumerate() {
            let y = TOP + 6.0 + row as f64 * LEGEND_ROW;
            for (index, x) in entries {
                let series = &self.chart.series[*index];
                if series.style == Style::Bars {
                    let (fill, class) = (colour(*index), index % COLOURS.len());
                    self.add(format_args!(
                        "<rect class=\"f{class}\" x=\"{:.1}\" y=\"{:.1}\" width=\"14\" height=\"9\" fill=\"{fill}\"/>",
                        x + 8.0,
                        y - 5.0
                    ));
                } else {
                    self.polyline(*index, &[(*x, y), (x + 28.0, y)]);
                    if series.style == Style::Line {
                        self.marker(*index, x + 14.0, y, "");
                    }
                }
                self.text(x + 34.0, y + 4.0, "start", "ink", &series.name);
            }
        }
    }

    fn grid(&mut self) {
        let (bottom, right) = (self.top + PLOT_HEIGHT, WIDTH - RIGHT);
        for (value, label) in self.y.ticks.clone() {
            let y = self.py(value);
            let width = if label.is_empty() { 0.4 } else { 1.0 };
            self.add(format_args!(
                "<line class=\"grid\" x1=\"{LEFT:.1}\" x2=\"{right:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"{GRID}\" stroke-width=\"{width}\"/>"
            ));
            if !label.is_empty() {
                self.text(LEFT - 8.0, y + 4.0, "end", "ink", &label);
            }
        }
        let categories = !self.chart.x.categories.is_empty();
        let mut free_from = f64::NEG_INFINITY;
        for (value, label) in self.x.ticks.clone() {
            let x = self.px(value);
            if !categories {
                let (top, width) = (self.top, if label.is_empty() { 0.4 } else { 1.0 });
                self.add(format_args!(
                    "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{top:.1}\" y2=\"{bottom:.1}\" stroke=\"{GRID}\" stroke-width=\"{width}\"/>"
                ));
            }
            let half = text_width(&label) / 2.0;
            if !label.is_empty() && (categories || x - half > free_from) {
                self.category(x, bottom, &label);
                free_from = x + half + 4.0;
            }
        }
        let middle = f64::midpoint(LEFT, right);
        self.text(middle, bottom + 40.0, "middle", "ink", &self.chart.x.label.clone());
        let (y, label) = (self.top + PLOT_HEIGHT / 2.0, escape(&self.chart.y.label));
        self.add(format_args!(
            "<text class=\"ink\" transform=\"translate(15 {y:.1}) rotate(-90)\" text-anchor=\"middle\" fill=\"{INK}\">{label}</text>"
        ));
    }

    /// A label below the axis; names of categories that are too wide take two lines.
    fn category(&mut self, x: f64, bottom: f64, label: &str) {
        let count = self.chart.x.categories.len().max(1) as f64;
        let room = (WIDTH - LEFT - RIGHT) / count;
        let halves = label
            .split_once(' ')
            .filter(|_| !self.chart.x.categories.is_empty() && text_width(label) > room);
        match halves {
            Some((first, second)) => {
                self.text(x, bottom + 14.0, "middle", "ink", first);
                self.text(x, bottom + 26.0, "middle", "ink", second);
            }
            None => self.text(x, bottom + 17.0, "middle", "ink", label),
        }
    }

    fn marks(&mut self) {
        let bottom = self.top + PLOT_HEIGHT;
        let mut free_from = f64::NEG_INFINITY;
        for mark in &self.chart.marks {
            let x = self.px(mark.from);
            let top = self.top;
            match mark.to {
                Some(to) => {
                    let width = (self.px(to) - x).max(1.0);
                    self.add(format_args!(
                        "<rect x=\"{x:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{PLOT_HEIGHT:.1}\" fill=\"{BAND}\" fill-opacity=\"0.16\"/>"
                    ));
                }
                None => self.add(format_args!(
                    "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{top:.1}\" y2=\"{bottom:.1}\" stroke=\"{BAND}\" stroke-width=\"1.5\"/>"
                )),
            }
            let width = text_width(&mark.label);
            let at = x.min(WIDTH - RIGHT - width);
            if at >= free_from {
                self.text(at, self.top - 5.0, "start", "faint", &mark.label);
                free_from = at + width + 8.0;
            }
        }
    }

    fn targets(&mut self) {
        for target in &self.chart.targets {
            if !self.y.shows(target.y) {
                continue;
            }
            let (y, right) = (self.py(target.y), WIDTH - RIGHT);
            self.add(format_args!(
                "<line class=\"line\" x1=\"{LEFT:.1}\" x2=\"{right:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"{FAINT}\" stroke-dasharray=\"4 4\"/>"
            ));
            let below = y + 13.0;
            let at = if below < self.top + PLOT_HEIGHT { below } else { y - 4.0 };
            self.text(right - 4.0, at, "end", "faint", &target.label);
        }
    }

    fn series(&mut self, index: usize, series: &Series) {
        let usable: Vec<&Point> = series
            .points
            .iter()
            .filter(|point| point.x.is_finite() && point.y.is_finite())
            .collect();
        match series.style {
            Style::Bars => self.bars(index, &usable),
            Style::Steps => {
                let mut line: Vec<(f64, f64)> = Vec::with_capacity(usable.len() * 2);
                for point in usable {
                    let (x, y) = (self.px(point.x), self.py(point.y));
                    if let Some((_, before)) = line.last().copied() {
                        line.push((x, before));
                    }
                    line.push((x, y));
                }
                self.polyline(index, &line);
            }
            Style::Line | Style::Curve => {
                let line: Vec<_> =
                    usable.iter().map(|point| (self.px(point.x), self.py(point.y))).collect();
                self.polyline(index, &line);
                if series.style == Style::Line {
                    for point in usable {
                        self.whisker(index, self.px(point.x), point.interval);
                        let note = format!(
                            "{}: {} at {}",
                            series.name,
                            self.chart.y.format.write(point.y),
                            self.spoken_x(point.x)
                        );
                        self.marker(index, self.px(point.x), self.py(point.y), &note);
                    }
                }
            }
        }
    }

    fn spoken_x(&self, x: f64) -> String {
        let name = self.chart.x.categories.iter().enumerate();
        let name = name.into_iter().find(|(index, _)| (*index as f64 - x).abs() < 0.5);
        name.map_or_else(|| self.chart.x.format.write(x), |(_, name)| name.clone())
    }

    fn bars(&mut self, index: usize, points: &[&Point]) {
        let all = self.chart.series.iter().filter(|series| series.style == Style::Bars).count();
        let slot = (WIDTH - LEFT - RIGHT) / self.chart.x.categories.len().max(1) as f64;
        let width = (slot * 0.8 / all.max(1) as f64).min(46.0);
        let (fill, class) = (colour(index), index % COLOURS.len());
        for point in points {
            let x = self.px(point.x) + (index as f64 - all as f64 / 2.0) * width;
            let (y, base) = (self.py(point.y), self.py(self.y.low().max(0.0)));
            let note = escape(&format!(
                "{}: {}",
                self.chart.series[index].name,
                self.chart.y.format.write(point.y)
            ));
            self.add(format_args!(
                "<rect class=\"f{class}\" x=\"{:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{fill}\"><title>{note}</title></rect>",
                x + 0.5,
                (width - 1.0).max(1.0),
                (base - y).max(0.6)
            ));
            self.whisker(7, x + width / 2.0, point.interval);
        }
    }

    fn whisker(&mut self, index: usize, x: f64, interval: Option<(f64, f64)>) {
        let Some((low, high)) = interval.filter(|(low, high)| high > low) else { return };
        let (y1, y2) = (self.py(low), self.py(high));
        let (stroke, class) = (colour(index), index % COLOURS.len());
        let (left, right) = (x - 4.0, x + 4.0);
        self.add(format_args!(
            "<path class=\"s{class}\" d=\"M{left:.1} {y1:.1}H{right:.1}M{left:.1} {y2:.1}H{right:.1}M{x:.1} {y1:.1}V{y2:.1}\" \
             stroke=\"{stroke}\" stroke-width=\"1.1\" fill=\"none\"/>"
        ));
    }

    fn polyline(&mut self, index: usize, points: &[(f64, f64)]) {
        if points.len() < 2 {
            return;
        }
        let mut path = String::with_capacity(points.len() * 12);
        for (x, y) in points {
            let _ = write!(path, "{x:.1},{y:.1} ");
        }
        let (stroke, class) = (colour(index), index % COLOURS.len());
        let dash = DASHES[index % DASHES.len()];
        self.add(format_args!(
            "<polyline class=\"s{class}\" points=\"{}\" fill=\"none\" stroke=\"{stroke}\" stroke-width=\"1.8\" \
             stroke-linejoin=\"round\" stroke-dasharray=\"{dash}\"/>",
            path.trim_end()
        ));
    }

    fn marker(&mut self, index: usize, x: f64, y: f64, note: &str) {
        let (fill, class) = (colour(index), index % COLOURS.len());
        let shape = match index % 4 {
            0 => format!("M{:.1} {y:.1}a3.6 3.6 0 1 0 7.2 0a3.6 3.6 0 1 0 -7.2 0Z", x - 3.6),
            1 => format!("M{:.1} {:.1}h6.6v6.6h-6.6Z", x - 3.3, y - 3.3),
            2 => format!("M{x:.1} {:.1}l4.2 7.4h-8.4Z", y - 4.6),
            _ => format!("M{x:.1} {:.1}l4.5 4.5l-4.5 4.5l-4.5 -4.5Z", y - 4.5),
        };
        let note = if note.is_empty() {
            String::new()
        } else {
            format!("<title>{}</title>", escape(note))
        };
        self.add(format_args!(
            "<path class=\"f{class}\" d=\"{shape}\" fill=\"{fill}\">{note}</path>"
        ));
    }

    fn frame(&mut self) {
        let (bottom, right) = (self.top + PLOT_HEIGHT, WIDTH - RIGHT);
        let top = self.top;
        self.add(format_args!(
            "<path class=\"line\" d=\"M{LEFT:.1} {top:.1}V{bottom:.1}H{right:.1}\" fill=\"none\" stroke=\"{FAINT}\"/>"
        ));
    }
}

const fn colour(index: usize) -> &'static str {
    COLOURS[index % COLOURS.len()].0
}

#[cfg(test)]
mod tests {
    use super::super::{Axis, Format, Mark, Target};
    use super::*;

    fn chart() -> Chart {
        let mut chart = Chart::new(
            "Recall <over> \"nodes\"",
            Axis::log("nodes & more", Format::Number),
            Axis::share("recall@5"),
        );
        for name in ["ours", "plain"] {
            let points =
                [1e3, 1e4, 1e5].map(|x| Point { x, y: 0.99, interval: Some((0.98, 1.0)) }).to_vec();
            chart.series.push(Series { name: name.to_owned(), style: Style::Line, points });
        }
        chart
    }

    #[test]
    fn text_from_outside_cannot_become_markup() {
        let svg = chart().svg();
        assert!(
            svg.contains("Recall &lt;over&gt; &quot;nodes&quot;")
                && svg.contains("nodes &amp; more")
        );
        assert!(!svg.contains("<over>"));
    }

    #[test]
    fn numbers_that_are_none_are_left_out() {
        let mut chart = chart();
        chart.series[0].points.push(Point::new(f64::NAN, f64::INFINITY));
        chart.series[1].points.clear();
        chart.targets.push(Target { y: f64::NAN, label: String::new() });
        chart.marks.push(Mark { from: 5e3, to: None, label: "cut".to_owned() });
        let svg = chart.svg();
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn equal_charts_give_equal_bytes() {
        assert_eq!(chart().svg(), chart().svg());
    }
}
