//! Error and cost by rate as a picture: two panels of plain SVG over one axis of rates, light or dark as the reader's
//! page is. Values in, text out.

use std::fmt::Write as _;

/// What was measured at a rate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Samples a second and busy CPU.
    pub hz: u32,
    /// 95th percentile of how far shares are off, in points.
    pub error_points: f64,
    /// The agent's CPU time, in per cent of a core.
    pub cpu_percent: f64,
}

/// The rate that is the default.
const DEFAULT_HZ: u32 = 199;
const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 360.0;
/// Of both panels.
const TOP: f64 = 76.0;
const BOTTOM: f64 = 300.0;
const PANEL_WIDTH: f64 = 352.0;
/// Rates that the axis reaches from and to.
const RATES: (f64, f64) = (40.0, 1250.0);
/// Shares of the functions that were measured.
const SHARES: [f64; 3] = [0.6, 0.3, 0.1];

const STYLE: &str = "\
text { font: 12px system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif; fill: #57606a }
.title { font-size: 14px; font-weight: 600; fill: #1f2328 }
.value { fill: #1f2328 }
.back { fill: #ffffff; stroke: #d0d7de }
.grid { stroke: #e4e8ec }
.axis { stroke: #8c959f }
.default { fill: #ddf4ff }
.theory { fill: none; stroke: #8250df; stroke-width: 1.5; stroke-dasharray: 5 4 }
.error { fill: #0969da }
.cost { fill: #bc4c00 }
.costs { fill: none; stroke: #bc4c00; stroke-width: 1.5 }
@media (prefers-color-scheme: dark) {
  text { fill: #9198a1 }
  .title, .value { fill: #f0f6fc }
  .back { fill: #0d1117; stroke: #3d444d }
  .grid { stroke: #22272e }
  .axis { stroke: #656c76 }
  .default { fill: #12283f }
  .theory { stroke: #ab7df8 }
  .error { fill: #4493f8 }
  .cost { fill: #f0883e }
  .costs { stroke: #f0883e }
}
";

/// The picture of `points`, measured over windows of `window_s` seconds of CPU time.
pub fn svg(points: &[Point], window_s: f64) -> String {
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
         aria-label=\"Error of shares and the agent's CPU time at five sampling rates\">\n\
         <style>\n{STYLE}</style>\n\
         <rect class=\"back\" x=\"0.5\" y=\"0.5\" width=\"{}\" height=\"{}\" rx=\"6\"/>\n",
        WIDTH - 1.0,
        HEIGHT - 1.0
    );
    let theory = |hz: f64| theory_points(&SHARES, hz * window_s);
    let errors = points.iter().map(|point| point.error_points).chain([theory(RATES.0 + 5.0)]);
    let left = Panel::new(56.0, errors);
    left.frame(&mut out, "How far a share is off the truth, in points", points);
    // As close as a curve looks smooth.
    let curve = (0..=60).map(|step| RATES.0 * (RATES.1 / RATES.0).powf(f64::from(step) / 60.0));
    left.line(&mut out, "theory", curve.map(|hz| (hz, theory(hz))));
    let errors = points.iter().map(|point| (point.hz, point.error_points));
    // On the side of the curve where the dot is.
    left.dots(&mut out, "error", errors, |hz, value| value < theory(hz));
    let note = format!("95th percentile over windows of {window_s} s of CPU time");
    left.note(&mut out, &note);
    left.legend(&mut out);

    let right = Panel::new(56.0 + PANEL_WIDTH + 64.0, points.iter().map(|point| point.cpu_percent));
    right.frame(&mut out, "What the agent takes, in % of a core", points);
    let costs = || points.iter().map(|point| (point.hz, point.cpu_percent));
    right.line(&mut out, "costs", costs().map(|(hz, percent)| (f64::from(hz), percent)));
    right.dots(&mut out, "cost", costs(), |_, _| false);
    right.note(&mut out, "two busy CPUs, frame pointers, once it runs");
    out.push_str("</svg>\n");
    out
}

/// The error in points that a share of independent samples exceeds in 5 % of cases: `n` of them miss a share p by
/// σ = √(p(1-p)/n), as good as normally; over all `shares` together.
pub fn theory_points(shares: &[f64], n: f64) -> f64 {
    let within = |error: f64| {
        let one = |p: &f64| erf(error / (2.0 * p * (1.0 - p) / n).sqrt());
        shares.iter().map(one).sum::<f64>() / shares.len() as f64
    };
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..50 {
        let middle = f64::midpoint(low, high);
        if within(middle) < 0.95 { low = middle } else { high = middle }
    }
    high * 100.0
}

/// The error function for x >= 0, to 1.5e-7 (Abramowitz and Stegun, 7.1.26).
fn erf(x: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.327_591_1 * x);
    let terms = [0.254_829_592, -0.284_496_736, 1.421_413_741, -1.453_152_027, 1.061_405_429];
    1.0 - terms.iter().rev().fold(0.0, |sum, term| (sum + term) * t) * (-x * x).exp()
}

/// One of the two.
struct Panel {
    left: f64,
    /// What the axis reaches to, and its steps.
    most: f64,
    step: f64,
}

impl Panel {
    /// At `left`, high enough for `values`.
    fn new(left: f64, values: impl Iterator<Item = f64>) -> Panel {
        let most = values.filter(|value| value.is_finite()).fold(0.0, f64::max).max(1e-6) * 1.12;
        let decade = 10f64.powf((most / 4.0).log10().floor());
        let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * decade);
        let step = steps.into_iter().find(|step| most / step <= 5.0).unwrap_or(most);
        Panel { left, most, step }
    }

    fn x(&self, hz: f64) -> f64 {
        self.left + (hz / RATES.0).ln() / (RATES.1 / RATES.0).ln() * PANEL_WIDTH
    }

    fn y(&self, value: f64) -> f64 {
        BOTTOM - value / self.most * (BOTTOM - TOP)
    }

    /// Title, grid, both axes, and a band where the default is.
    fn frame(&self, out: &mut String, title: &str, points: &[Point]) {
        let (left, right) = (self.left, self.left + PANEL_WIDTH);
        let _ = writeln!(out, "<text class=\"title\" x=\"{left}\" y=\"28\">{title}</text>");
        let middle = self.x(f64::from(DEFAULT_HZ));
        let (band, height) = (middle - 20.0, BOTTOM - TOP);
        let _ = writeln!(
            out,
            "<rect class=\"default\" x=\"{band:.1}\" y=\"{TOP}\" width=\"40\" height=\"{height}\"/>\n\
             <text x=\"{middle:.1}\" y=\"{}\" text-anchor=\"middle\">default</text>",
            BOTTOM - 8.0
        );
        let decimals = if self.step < 0.1 { 2 } else { usize::from(self.step < 1.0) };
        for tick in (0..).map(|tick| f64::from(tick) * self.step).take_while(|value| *value <= self.most) {
            let (y, text_y, end) = (self.y(tick), self.y(tick) + 4.0, left - 8.0);
            let class = if tick == 0.0 { "axis" } else { "grid" };
            let _ = writeln!(
                out,
                "<path class=\"{class}\" d=\"M{left} {y:.1}H{right}\"/>\
                 <text x=\"{end}\" y=\"{text_y:.1}\" text-anchor=\"end\">{tick:.decimals$}</text>"
            );
        }
        for point in points {
            let (x, end, text_y) = (self.x(f64::from(point.hz)), BOTTOM + 5.0, BOTTOM + 20.0);
            let _ = writeln!(
                out,
                "<path class=\"axis\" d=\"M{x:.1} {BOTTOM}V{end}\"/>\
                 <text x=\"{x:.1}\" y=\"{text_y}\" text-anchor=\"middle\">{}</text>",
                point.hz
            );
        }
        let (x, y) = (self.left + PANEL_WIDTH / 2.0, BOTTOM + 42.0);
        let _ = writeln!(
            out,
            "<text x=\"{x}\" y=\"{y}\" text-anchor=\"middle\">samples a second and busy CPU (Hz)</text>"
        );
    }

    fn note(&self, out: &mut String, text: &str) {
        let _ = writeln!(out, "<text x=\"{}\" y=\"48\">{text}</text>", self.left);
    }

    fn line(&self, out: &mut String, class: &str, points: impl Iterator<Item = (f64, f64)>) {
        let places: Vec<String> = points
            .filter(|(_, value)| *value <= self.most)
            .map(|(hz, value)| format!("{:.1} {:.1}", self.x(hz), self.y(value)))
            .collect();
        let _ = writeln!(out, "<path class=\"{class}\" d=\"M{}\"/>", places.join("L"));
    }

    /// A dot for each value, which stands above it, or below where `lower` says so.
    fn dots(
        &self,
        out: &mut String,
        class: &str,
        points: impl Iterator<Item = (u32, f64)>,
        lower: impl Fn(f64, f64) -> bool,
    ) {
        for (hz, value) in points {
            let (x, y) = (self.x(f64::from(hz)), self.y(value));
            let text_y = if lower(f64::from(hz), value) { y + 19.0 } else { y - 10.0 };
            let _ = writeln!(
                out,
                "<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\"/>\
                 <text class=\"value\" x=\"{x:.1}\" y=\"{text_y:.1}\" text-anchor=\"middle\">{value:.2}</text>"
            );
        }
    }

    fn legend(&self, out: &mut String) {
        let right = self.left + PANEL_WIDTH;
        let (dot, text, first, second) = (right - 148.0, right - 132.0, TOP + 18.0, TOP + 38.0);
        let _ = writeln!(
            out,
            "<circle class=\"error\" cx=\"{dot}\" cy=\"{first}\" r=\"4\"/>\
             <text x=\"{text}\" y=\"{}\">measured</text>\n\
             <path class=\"theory\" d=\"M{} {second}H{}\"/>\
             <text x=\"{text}\" y=\"{}\">independent samples</text>",
            first + 4.0,
            dot - 10.0,
            dot + 10.0,
            second + 4.0
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn theory_is_the_normal_one() {
        // One share of a half: 1.96 √(.25 / 1000) = 3.099 points.
        assert!((theory_points(&[0.5], 1000.0) - 3.099).abs() < 0.01);
        let (few, many) = (theory_points(&SHARES, 1000.0), theory_points(&SHARES, 4000.0));
        assert!((few / many - 2.0).abs() < 0.01, "four times the samples, half the error: {few} {many}");
    }

    #[test]
    fn every_value_is_inside_the_picture_and_told() {
        let point = |hz, error_points, cpu_percent| Point { hz, error_points, cpu_percent };
        let points = [point(49, 3.61, 0.11), point(199, 1.8, 0.25), point(997, 0.85, 0.71)];
        let text = svg(&points, 10.0);
        for told in ["3.61", "0.11", "1.80", "0.25", "0.85", "0.71", ">49<", ">199<", ">997<", "default"] {
            assert!(text.contains(told), "{told} in {text}");
        }
        for at in text.split("cy=\"").skip(1) {
            let y: f64 = at.split('"').next().unwrap().parse().unwrap();
            assert!((TOP..=BOTTOM).contains(&y), "{y}");
        }
        assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
    }
}
