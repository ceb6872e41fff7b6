//! What the demo shows while it runs: bars on a terminal, plain lines elsewhere.

use console::Term;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::cell::{Cell, RefCell};

struct Bars {
    all: MultiProgress,
    campaign: ProgressBar,
    policy: ProgressBar,
    batch: ProgressBar,
}

/// The demo's output.
pub(super) struct Screen {
    out: Term,
    plain: bool,
    bars: RefCell<Option<Bars>>,
    /// What plain lines said last of each, so that nothing is said twice.
    said: RefCell<[String; 2]>,
    said_tenth: Cell<usize>,
    total: Cell<usize>,
}

impl Screen {
    pub(super) fn new(plain: bool) -> Self {
        let out = Term::stdout();
        Self {
            plain: plain || !out.is_term(),
            out,
            bars: RefCell::default(),
            said: RefCell::default(),
            said_tenth: Cell::new(0),
            total: Cell::new(0),
        }
    }

    /// Prints a line above the bars. A reader that has gone ends the demo with its process, not here.
    pub(super) fn line(&self, text: &str) {
        match &*self.bars.borrow() {
            Some(bars) if !self.plain => {
                let _ = bars.all.println(text);
            }
            _ => {
                let _ = self.out.write_line(text);
            }
        }
    }

    pub(super) fn title(&self, text: &str) {
        self.line(&format!("\n{}", console::style(text).bold()));
    }

    /// Something worth seeing.
    pub(super) fn note(&self, text: &str) {
        self.line(&console::style(format!("  -- {text}")).yellow().to_string());
    }

    pub(super) fn start_bars(&self, batch: usize) {
        self.total.set(batch);
        if self.plain {
            return;
        }
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::term(self.out.clone(), 10));
        let bar = |name: &'static str, length| {
            let bar = all.add(ProgressBar::new(length));
            let style =
                ProgressStyle::with_template("  {prefix:9} {bar:30.cyan} {pos:>4}/{len:4} {wide_msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.with_prefix(name)
        };
        let bars = Bars {
            campaign: bar("campaign", 100),
            policy: bar("policy", 100),
            batch: bar("batch", batch as u64),
            all: all.clone(),
        };
        *self.bars.borrow_mut() = Some(bars);
    }

    pub(super) fn finish_bars(&self) {
        if let Some(bars) = self.bars.borrow_mut().take() {
            for bar in [&bars.campaign, &bars.policy, &bars.batch] {
                bar.abandon();
            }
        }
    }

    pub(super) fn campaign(&self, percent: u64, text: &str) {
        self.large(0, "campaign", percent, text);
    }

    pub(super) fn policy(&self, percent: u64, text: &str) {
        self.large(1, "policy", percent, text);
    }

    fn large(&self, which: usize, name: &str, percent: u64, text: &str) {
        if let Some(bars) = &*self.bars.borrow() {
            let bar = if which == 0 { &bars.campaign } else { &bars.policy };
            bar.set_position(percent);
            bar.set_message(text.to_owned());
            return;
        }
        let line = format!("  {name:9} {percent:>3}%  {text}");
        let said = &mut self.said.borrow_mut()[which];
        if *said != line {
            self.line(&line);
            *said = line;
        }
    }

    pub(super) fn batch(&self, done: usize, text: &str) {
        // The two large tasks are counted too; the bar is about the batch.
        let done = done.min(self.total.get());
        if let Some(bars) = &*self.bars.borrow() {
            bars.batch.set_position(done as u64);
            bars.batch.set_message(text.to_owned());
            return;
        }
        let tenth = done * 10 / self.total.get().max(1);
        if tenth > self.said_tenth.replace(tenth) {
            self.line(&format!("  batch     {done:>3}/{}  {text}", self.total.get()));
        }
    }
}
