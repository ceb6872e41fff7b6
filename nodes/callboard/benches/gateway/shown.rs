//! What was measured, as a person reads it: medians of the runs, differences within each run.

use crate::load::Took;
use crate::{CALLERS, Measured, SATURATING, TOKENS};

/// What the runs measured.
#[derive(Default)]
pub(crate) struct Table(Vec<Row>);

struct Row {
    what: String,
    unit: &'static str,
    decimals: usize,
    /// In each run, what was asked directly, the floor and the gateway did; none if there is no such thing.
    seen: Vec<[Option<f64>; 3]>,
    compared: Compared,
}

/// What is said of the gateway beside the floor.
#[derive(Clone, Copy, PartialEq)]
enum Compared {
    /// How much more it is than directly, and than the floor.
    Added,
    /// How many times the floor's.
    Share,
    Nothing,
}

/// One of the latencies of a run.
type OfRun = fn(&Measured) -> &Took;

/// In milliseconds.
fn ms(took: &Took, quantile: f64) -> f64 {
    took.value_at_quantile(quantile) as f64 / 1e6
}

impl Table {
    /// Takes one run.
    pub(crate) fn add(&mut self, direct: &Measured, floor: &Measured, gateway: &Measured) {
        let all = [direct, floor, gateway];
        let latencies: [(String, OfRun); 5] = [
            ("1 caller".into(), |m| &m.one),
            (format!("{CALLERS} callers, paced"), |m| &m.many),
            (format!("{SATURATING} callers, as fast as it goes"), |m| &m.saturated),
            (format!("first token, 1 stream of {TOKENS}"), |m| &m.stream),
            ("first token, streams at once".into(), |m| &m.streams),
        ];
        for (what, of) in latencies {
            for (name, quantile) in [("p50", 0.5), ("p99", 0.99)] {
                let seen = all.map(|m| Some(ms(of(m), quantile)));
                self.row(format!("{what}, {name}"), "ms", 3, seen, Compared::Added);
            }
        }
        self.row("requests".into(), "/s", 0, all.map(|m| Some(m.rate)), Compared::Share);
        let cpu = |m: &Measured| Some(m.cpu.as_secs_f64() * 1e3).filter(|cpu| *cpu > 0.0);
        self.row("processor a request".into(), "ms", 4, all.map(cpu), Compared::Share);
        for (i, when) in ["before", "half-way", "after"].into_iter().enumerate() {
            let memory = |m: &Measured| Some(m.memory_mb[i]).filter(|mb| *mb > 0.0);
            self.row(format!("memory, {when}"), "MB", 1, all.map(memory), Compared::Nothing);
        }
    }

    fn row(
        &mut self,
        what: String,
        unit: &'static str,
        decimals: usize,
        seen: [Option<f64>; 3],
        compared: Compared,
    ) {
        match self.0.iter_mut().find(|row| row.what == what) {
            Some(row) => row.seen.push(seen),
            None => self.0.push(Row { what, unit, decimals, seen: vec![seen], compared }),
        }
    }

    pub(crate) fn show(&self) -> String {
        let head = format!(
            "  {:42} {:>10} {:>10} {:>10} {:>14} {:>14}",
            "", "direct", "floor", "gateway", "over direct", "over the floor"
        );
        let rows = self.0.iter().map(Row::show);
        std::iter::once(head).chain(rows).collect::<Vec<_>>().join("\n")
    }
}

impl Row {
    fn show(&self) -> String {
        let number = |number: Option<f64>| match number {
            Some(number) => format!("{number:.*}", self.decimals),
            None => "-".into(),
        };
        let [direct, floor, gateway] =
            [0, 1, 2].map(|i| number(median(self.seen.iter().filter_map(|seen| seen[i]).collect())));
        let beside = |i: usize| {
            let pairs = self.seen.iter().filter_map(|seen| Some((seen[2]?, seen[i]?)));
            match self.compared {
                Compared::Nothing => String::new(),
                Compared::Added => match median(pairs.map(|(it, other)| it - other).collect()) {
                    Some(more) => format!("{more:+.3} {}", self.unit),
                    None => String::new(),
                },
                Compared::Share => match median(pairs.map(|(it, other)| it / other).collect()) {
                    Some(share) => format!("{share:.2} x"),
                    None => String::new(),
                },
            }
        };
        let what = format!("{} ({})", self.what, self.unit);
        format!("  {what:42} {direct:>10} {floor:>10} {gateway:>10} {:>14} {:>14}", beside(0), beside(1))
    }
}

fn median(mut numbers: Vec<f64>) -> Option<f64> {
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied()
}
