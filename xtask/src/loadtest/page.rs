//! The summary as one page that needs nothing else: tables and charts.

use super::plot::{Band, Chart, Line, Mark, Scale, escaped};
use super::rows::{self, Rows};
use super::samples::Sample;
use super::schedule::Schedule;
use super::verdict;
use serde_json::Value;
use std::fmt::Write as _;

const STYLE: &str = "
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 960px; margin: 2em auto; padding: 0 1em; }
table { border-collapse: collapse; margin: 1em 0; width: 100%; }
th, td { text-align: left; padding: 0.2em 1em 0.2em 0; border-bottom: 1px solid #8884; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
.passed { color: #2f9e6e; } .failed { color: #c2405f; font-weight: bold; }
svg { display: block; width: 100%; margin: 1.2em 0; }
svg text { font: 12px system-ui, sans-serif; fill: currentColor; }
svg .title { font-size: 14px; font-weight: bold; } svg .small { font-size: 11px; opacity: 0.75; }
svg .end { text-anchor: end; } svg .middle { text-anchor: middle; }
svg .line { fill: none; stroke-width: 1.6; stroke-linejoin: round; }
svg .grid { stroke: currentColor; opacity: 0.15; } svg .mark { stroke: currentColor; stroke-dasharray: 4 3; }
svg .even { fill: currentColor; fill-opacity: 0.07; } svg .odd { fill: none; }
";

/// The most points of a line.
const POINTS: f64 = 300.0;

/// What the page shows.
pub(super) struct Page<'a> {
    /// The script and what it is for.
    pub(super) name: &'a str,
    pub(super) purpose: &'a str,
    /// The machine, the versions, the settings: a line each.
    pub(super) about: &'a [String],
    pub(super) verdict: &'a [verdict::Line],
    /// k6's summary.
    pub(super) summary: &'a Value,
    pub(super) rows: &'a Rows,
    pub(super) samples: &'a [Sample],
    /// The second, since 1970, that times are counted from.
    pub(super) from: u64,
    pub(super) schedule: &'a Schedule,
    pub(super) marks: &'a [Mark],
    pub(super) replicas: &'a [&'a str],
}

impl Page<'_> {
    /// The page. Writing to a string cannot fail.
    pub(super) fn html(&self) -> String {
        let mut html = String::new();
        let title = escaped(self.name);
        let _ = writeln!(
            html,
            "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\">\n\
             <title>{title}: load test</title>\n<style>{STYLE}</style></head>\n<body>\n<h1>{title}</h1>\n<p>{}</p>",
            escaped(self.purpose)
        );
        for line in self.about {
            let _ = writeln!(html, "<div>{}</div>", escaped(line));
        }
        self.verdict(&mut html);
        self.latencies(&mut html);
        for chart in self.charts() {
            html.push_str(&chart);
        }
        html.push_str("</body>\n</html>\n");
        html
    }

    fn verdict(&self, html: &mut String) {
        html.push_str("<table>\n<tr><th></th><th>what</th><th>expected</th><th>seen</th></tr>\n");
        for line in self.verdict {
            let (class, word) = match line.passed {
                Some(true) => ("passed", "passed"),
                Some(false) => ("failed", "FAILED"),
                None => ("", ""),
            };
            let _ = writeln!(
                html,
                "<tr><td class=\"{class}\">{word}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
                escaped(&line.what),
                escaped(&line.expected),
                escaped(&line.seen)
            );
        }
        html.push_str("</table>\n");
    }

    fn latencies(&self, html: &mut String) {
        html.push_str("<table>\n<tr><th>milliseconds</th>");
        for (head, _) in STATISTICS {
            let _ = write!(html, "<th class=\"number\">{head}</th>");
        }
        html.push_str("</tr>\n");
        for (name, values) in latencies(self.summary) {
            let _ = write!(html, "<tr><td>{}</td>", escaped(name));
            for value in values {
                let _ = write!(html, "<td class=\"number\">{value}</td>");
            }
            html.push_str("</tr>\n");
        }
        html.push_str("</table>\n");
    }

    fn charts(&self) -> Vec<String> {
        let last = self.samples.last().map_or(0.0, |sample| self.since(sample.at));
        let until = last.max(self.schedule.ends());
        let width = (until / POINTS).ceil().max(1.0);
        let stretch = width as u64;
        let phases = self.schedule.phases().iter();
        let band = |part: &super::schedule::Part| Band {
            name: part.name.clone(),
            begins: part.begins,
            ends: part.ends,
        };
        let bands: Vec<Band> = phases.map(band).collect();
        let chart = |title, unit, scale, lines| {
            let chart =
                Chart { title, unit, scale, lines, bands: &bands, marks: self.marks, until, step: width };
            chart.svg()
        };
        let latency = |metric| self.latency(metric, stretch);
        vec![
            chart("Submission, until it is acknowledged", "ms", Scale::Logarithmic, latency(rows::SUBMIT)),
            chart("From the admission to the start", "ms", Scale::Logarithmic, latency(rows::START)),
            chart("End to end, as the client sees it", "ms", Scale::Logarithmic, latency(rows::END_TO_END)),
            chart("Tasks a second", "", Scale::Linear, self.throughput(stretch)),
            self.others(stretch).map_or_else(String::new, |lines| {
                chart("Other than accepted, a second", "", Scale::Linear, lines)
            }),
            chart("Memory of each replica", "MB", Scale::Linear, self.memory(width)),
            chart("Cores busy", "", Scale::Linear, self.processor(width)),
        ]
    }

    fn since(&self, at: f64) -> f64 {
        at - self.from as f64
    }

    fn latency(&self, metric: &str, width: u64) -> Vec<Line> {
        let percentiles = self.rows.percentiles(metric, self.from, width);
        let line = |(index, name): (usize, &str)| Line {
            name: name.to_owned(),
            points: percentiles.iter().filter_map(|(at, p)| Some((*at, *p.get(index)?))).collect(),
        };
        ["p50", "p95", "p99"].into_iter().enumerate().map(line).collect()
    }

    fn throughput(&self, width: u64) -> Vec<Line> {
        let counted = |name: &str, metric: &str| Line {
            name: name.to_owned(),
            points: self.rows.rates(metric, self.from, width),
        };
        let ended = self.rates(width as f64, &|sample| sample.tasks.map(|tasks| tasks.ended() as f64));
        vec![counted("accepted", rows::ACCEPTED), Line { name: "ended".to_owned(), points: ended }]
    }

    /// What did not go as usual. In a chart of its own: where k6 drops iterations it drops many at once.
    fn others(&self, width: u64) -> Option<Vec<Line>> {
        let all = [
            ("refused", rows::REFUSED),
            ("dropped by k6", rows::DROPPED),
            ("calls repeated", rows::REPEATED),
        ];
        let counted = all.into_iter().map(|(name, metric)| Line {
            name: name.to_owned(),
            points: self.rows.rates(metric, self.from, width),
        });
        let lines: Vec<Line> = counted.filter(|line| !line.points.is_empty()).collect();
        (!lines.is_empty()).then_some(lines)
    }

    fn memory(&self, width: f64) -> Vec<Line> {
        let of = |index: usize, sample: &Sample| {
            let bytes = sample.memory.get(index).copied().flatten()?;
            Some((self.since(sample.at), bytes as f64 / 1e6))
        };
        let line = |(index, name): (usize, &&str)| Line {
            name: format!("replica {name}"),
            points: thinned(self.samples.iter().filter_map(|sample| of(index, sample)), width),
        };
        self.replicas.iter().enumerate().map(line).collect()
    }

    fn processor(&self, width: f64) -> Vec<Line> {
        let line = |name: &str, of: &dyn Fn(&Sample) -> Option<f64>| Line {
            name: name.to_owned(),
            points: self.rates(width, of),
        };
        let replica = |index: usize| move |sample: &Sample| sample.replicas_cpu.get(index).copied().flatten();
        let mut lines: Vec<Line> = (0..self.replicas.len())
            .zip(self.replicas)
            .map(|(index, name)| line(&format!("replica {name}"), &replica(index)))
            .collect();
        lines.push(line("k6", &|sample| sample.k6_cpu));
        lines.push(line("the whole machine", &|sample| sample.machine_cpu));
        lines
    }

    /// How fast a count goes up, over stretches of `width` seconds. One that begins anew has no rate there.
    fn rates(&self, width: f64, of: &dyn Fn(&Sample) -> Option<f64>) -> Vec<(f64, f64)> {
        let counted = self.samples.iter().filter_map(|sample| Some((self.since(sample.at), of(sample)?)));
        let counted = thinned(counted, width);
        let rates = counted.windows(2).filter_map(|pair| {
            let [(at, count), (later, more)] = pair else { return None };
            let rate = (more - count) / (later - at);
            (rate >= 0.0).then_some((f64::midpoint(*at, *later), rate))
        });
        rates.filter(|(at, _)| *at >= 0.0).collect()
    }
}

/// The points that are at least a width apart, or nearly: samples are taken a moment late now and then.
fn thinned(points: impl Iterator<Item = (f64, f64)>, width: f64) -> Vec<(f64, f64)> {
    let mut thinned: Vec<(f64, f64)> = Vec::new();
    for point in points {
        if thinned.last().is_none_or(|(at, _)| point.0 - at >= 0.9 * width) {
            thinned.push(point);
        }
    }
    thinned
}

/// What is shown of a latency, and what k6 calls it.
const STATISTICS: [(&str, &str); 6] = [
    ("tasks or calls", "count"),
    ("average", "avg"),
    ("p50", "med"),
    ("p95", "p(95)"),
    ("p99", "p(99)"),
    ("longest", "max"),
];

/// The latencies in k6's summary, by name.
pub(super) fn latencies(summary: &Value) -> Vec<(&str, Vec<String>)> {
    let metrics = summary["metrics"].as_object().into_iter().flatten();
    let shown = metrics.filter(|(name, metric)| {
        let ours = name.starts_with("task_") || name.starts_with("call_duration");
        ours && metric["values"]["count"].as_f64().is_some_and(|count| count > 0.0)
    });
    let figures = |metric: &Value| -> Vec<String> {
        let figure = |(_, statistic): &(&str, &str)| {
            let value = metric["values"][statistic].as_f64().unwrap_or_default();
            if *statistic == "count" { format!("{value}") } else { format!("{value:.1}") }
        };
        STATISTICS.iter().map(figure).collect()
    };
    let mut latencies: Vec<_> = shown.map(|(name, metric)| (name.as_str(), figures(metric))).collect();
    latencies.sort_unstable();
    latencies
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_shows_verdict_latencies_and_charts_and_needs_nothing_else() {
        let summary = serde_json::json!({"metrics": {
            "task_submit": {"values": {"count": 2, "avg": 1.25, "med": 1.0, "p(95)": 2.0, "p(99)": 2.0, "max": 2.0}},
            "task_start": {"values": {"count": 0}}, "iterations": {"values": {"count": 9}}}});
        let mut rows = Rows::default();
        for second in 1_000..1_010_u64 {
            rows.take(&format!("tasks_accepted,{}000,1.0", second));
            rows.take(&format!("task_submit,{}000,5.0", second));
        }
        let samples: Vec<Sample> = (0..10_u32)
            .map(|n| Sample {
                at: 1_000.2 + f64::from(n),
                memory: vec![Some(50_000_000)],
                machine_cpu: Some(f64::from(n)),
                ..Sample::default()
            })
            .collect();
        let line = verdict::Line {
            what: "checks".into(),
            expected: "rate<1 & more".into(),
            seen: "1".into(),
            passed: Some(false),
        };
        let page = Page {
            name: "smoke",
            purpose: "does it work?",
            about: &["2 cores".to_owned()],
            verdict: &[line],
            summary: &summary,
            rows: &rows,
            samples: &samples,
            from: 1_000,
            schedule: &Schedule(Vec::new()),
            marks: &[],
            replicas: &["a"],
        };
        let html = page.html();
        for text in
            ["rate&lt;1 &amp; more", "FAILED", "2 cores", "<td>task_submit</td>", ">1.2<", "replica a"]
        {
            assert!(html.contains(text), "{text} is not in\n{html}");
        }
        assert_eq!((html.matches("<svg").count(), html.matches("</svg>").count()), (6, 6));
        assert!(
            !html.contains("task_start") && !html.contains("http") && !html.contains("<script"),
            "{html}"
        );
    }

    #[test]
    fn points_are_thinned_to_a_width_with_some_tolerance() {
        let points = [(0.0, 1.0), (0.95, 2.0), (1.5, 3.0), (1.9, 4.0)];
        assert_eq!(thinned(points.into_iter(), 1.0), [(0.0, 1.0), (0.95, 2.0), (1.9, 4.0)]);
    }
}
