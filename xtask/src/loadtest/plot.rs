//! Charts of lines over time, as SVG that needs nothing else.

use std::fmt::Write as _;

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 250.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 46.0;
const BOTTOM: f64 = 28.0;
/// About how many lines a grid has.
const TICKS: f64 = 5.0;
const TIME_TICKS: f64 = 12.0;

/// Colours that are told apart by most, on light and on dark.
pub(super) const COLOURS: [&str; 5] = ["#3b82c4", "#d97a1e", "#c2405f", "#2f9e6e", "#8a63c9"];

/// One line, as times in seconds and values. It is broken where a time is missing.
pub(super) struct Line {
    pub(super) name: String,
    pub(super) points: Vec<(f64, f64)>,
}

/// A stretch of time with a name.
pub(super) struct Band {
    pub(super) name: String,
    pub(super) begins: f64,
    pub(super) ends: f64,
}

/// Something that happened at a moment.
pub(super) struct Mark {
    pub(super) name: String,
    pub(super) at: f64,
}

/// How values are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scale {
    /// From zero, evenly.
    Linear,
    /// Each power of ten takes the same room: for values that differ by much.
    Logarithmic,
}

/// A chart.
pub(super) struct Chart<'a> {
    pub(super) title: &'a str,
    pub(super) unit: &'a str,
    pub(super) scale: Scale,
    pub(super) lines: Vec<Line>,
    pub(super) bands: &'a [Band],
    pub(super) marks: &'a [Mark],
    /// The time it ends at, in seconds.
    pub(super) until: f64,
    /// The time from one point of a line to the next.
    pub(super) step: f64,
}

/// Where a value lies, from 0 (bottom) to 1 (top).
struct Axis {
    scale: Scale,
    low: f64,
    high: f64,
}

impl Axis {
    fn of(scale: Scale, values: impl Iterator<Item = f64>) -> Self {
        let (mut least, mut most) = (f64::INFINITY, 0.0_f64);
        for value in values.filter(|value| *value > 0.0) {
            least = least.min(value);
            most = most.max(value);
        }
        match scale {
            Scale::Linear => {
                let most = if most > 0.0 { most } else { 1.0 };
                let step = step(most, TICKS);
                Self { scale, low: 0.0, high: (most / step).ceil() * step }
            }
            Scale::Logarithmic => {
                let (least, most) = if most > 0.0 { (least, most) } else { (1.0, 10.0) };
                let low = 10_f64.powf(least.log10().floor());
                let high = 10_f64.powf(most.log10().ceil());
                Self { scale, low, high: if high > low { high } else { low * 10.0 } }
            }
        }
    }

    fn share(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Linear => value / self.high,
            Scale::Logarithmic => (value.max(self.low) / self.low).log10() / (self.high / self.low).log10(),
        }
    }

    fn ticks(&self) -> Vec<f64> {
        match self.scale {
            Scale::Linear => {
                let step = step(self.high, TICKS);
                (0..).map(|n| f64::from(n) * step).take_while(|tick| *tick <= self.high * 1.001).collect()
            }
            Scale::Logarithmic => {
                let decades = (self.high / self.low).log10().round() as i32;
                let within: &[f64] = if decades > 2 { &[1.0] } else { &[1.0, 2.0, 5.0] };
                let all = (0..=decades).flat_map(|n| within.iter().map(move |f| f * 10_f64.powi(n)));
                all.map(|tick| tick * self.low).filter(|tick| *tick <= self.high * 1.001).collect()
            }
        }
    }
}

/// A step of 1, 2 or 5 times a power of ten, so that about `ticks` of them cover `span`.
fn step(span: f64, ticks: f64) -> f64 {
    let rough = span / ticks;
    let power = 10_f64.powf(rough.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|f| f * power).find(|s| *s >= rough * 0.999).unwrap_or(power)
}

/// A step of time that people count in.
fn time_step(span: f64) -> f64 {
    let steps = [1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0];
    steps.into_iter().find(|step| span / step <= TIME_TICKS).unwrap_or(7200.0)
}

/// A number with as many digits as it needs.
fn number(value: f64) -> String {
    let digits = if value >= 10.0 || value.fract() == 0.0 { 0 } else { 1 };
    let digits = if value > 0.0 && value < 0.1 { 2 } else { digits };
    format!("{value:.digits$}")
}

/// A time as minutes and seconds.
fn clock(seconds: f64) -> String {
    format!("{}:{:02}", (seconds / 60.0).floor(), (seconds % 60.0).round())
}

/// Text that may stand between tags.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

impl Chart<'_> {
    /// The chart. Writing to a string cannot fail.
    pub(super) fn svg(&self) -> String {
        let values = self.lines.iter().flat_map(|line| line.points.iter().map(|(_, value)| *value));
        let axis = Axis::of(self.scale, values);
        let mut svg = String::new();
        let _ = writeln!(
            svg,
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">",
            escaped(self.title)
        );
        let _ = writeln!(svg, "<text class=\"title\" x=\"{LEFT}\" y=\"16\">{}</text>", escaped(self.title));
        self.legend(&mut svg);
        self.frame(&mut svg, &axis);
        for (line, colour) in self.lines.iter().zip(COLOURS.iter().cycle()) {
            let _ =
                writeln!(svg, "<path class=\"line\" stroke=\"{colour}\" d=\"{}\"/>", self.path(line, &axis));
        }
        svg.push_str("</svg>\n");
        svg
    }

    fn x(&self, at: f64) -> f64 {
        LEFT + (at / self.until.max(1.0)).clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
    }

    fn legend(&self, svg: &mut String) {
        let mut x = LEFT;
        for (line, colour) in self.lines.iter().zip(COLOURS.iter().cycle()) {
            let end = x + 16.0;
            let _ = writeln!(svg, "<path class=\"line\" stroke=\"{colour}\" d=\"M{x:.0} 30 L{end:.0} 30\"/>");
            let _ = writeln!(svg, "<text x=\"{:.0}\" y=\"34\">{}</text>", x + 22.0, escaped(&line.name));
            x += 42.0 + 7.0 * line.name.chars().count() as f64;
        }
    }

    fn frame(&self, svg: &mut String, axis: &Axis) {
        let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
        for (at, band) in self.bands.iter().enumerate() {
            let (x, end) = (self.x(band.begins), self.x(band.ends));
            let shade = if at % 2 == 0 { "even" } else { "odd" };
            let (width, height) = (end - x, bottom - TOP);
            let _ = writeln!(
                svg,
                "<rect class=\"{shade}\" x=\"{x:.1}\" y=\"{TOP}\" width=\"{width:.1}\" height=\"{height}\"/>\
                 <text class=\"small\" x=\"{:.1}\" y=\"{}\">{}</text>",
                x + 4.0,
                TOP + 12.0,
                escaped(&band.name)
            );
        }
        for tick in axis.ticks() {
            let y = y(axis, tick);
            let _ = writeln!(
                svg,
                "<path class=\"grid\" d=\"M{LEFT} {y:.1} L{right} {y:.1}\"/>\
                 <text class=\"small end\" x=\"{:.0}\" y=\"{:.1}\">{} {}</text>",
                LEFT - 6.0,
                y + 4.0,
                number(tick),
                escaped(self.unit)
            );
        }
        let step = time_step(self.until);
        let times = (0..).map(|n| f64::from(n) * step).take_while(|at| *at <= self.until);
        for at in times {
            let _ = writeln!(
                svg,
                "<text class=\"small middle\" x=\"{:.1}\" y=\"{:.0}\">{}</text>",
                self.x(at),
                bottom + 18.0,
                clock(at)
            );
        }
        for mark in self.marks {
            let x = self.x(mark.at);
            let _ = writeln!(
                svg,
                "<path class=\"mark\" d=\"M{x:.1} {TOP} L{x:.1} {bottom}\"/>\
                 <text class=\"small\" x=\"{:.1}\" y=\"{:.0}\">{}</text>",
                x + 4.0,
                TOP + 26.0,
                escaped(&mark.name)
            );
        }
    }

    fn path(&self, line: &Line, axis: &Axis) -> String {
        let mut path = String::new();
        let mut last = f64::NEG_INFINITY;
        for (at, value) in &line.points {
            // More than one point is missing between.
            let command = if at - last > 2.5 * self.step { 'M' } else { 'L' };
            let _ = write!(path, "{command}{:.1} {:.1}", self.x(*at), y(axis, *value));
            last = *at;
        }
        path
    }
}

fn y(axis: &Axis, value: f64) -> f64 {
    let bottom = HEIGHT - BOTTOM;
    bottom - axis.share(value).clamp(0.0, 1.0) * (bottom - TOP)
}

#[cfg(test)]
mod tests;
