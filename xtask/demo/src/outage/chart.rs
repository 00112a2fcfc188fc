//! The outage on the terminal.

use std::fmt;
use std::time::Duration;

use super::timeline::{Breaker, Column, PhaseTally, Timeline};
use super::{BACK_AT, GONE_AT};
use crate::report::{microseconds, percent, percentile, thousands};

/// Bars from low to high.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// What the timeline looks like in lines of text.
pub(crate) struct Chart {
    columns: Vec<Column>,
    column: Duration,
    phases: [(&'static str, PhaseTally); 3],
}

impl Chart {
    pub(crate) fn new(timeline: &Timeline) -> Self {
        Self {
            columns: timeline.columns(),
            column: timeline.column(),
            phases: timeline.phases(),
        }
    }

    fn bars(&self, value: impl Fn(&Column) -> f64) -> (String, f64) {
        let values: Vec<_> = self.columns.iter().map(value).collect();
        let most = values.iter().copied().fold(0.0, f64::max);
        let bar = |value: &f64| BARS[level(*value, most)];
        (values.iter().map(bar).collect(), most)
    }

    fn breaker(&self) -> String {
        let mark = |column: &Column| match column.breaker {
            Breaker::Closed => '·',
            Breaker::HalfOpen => 'h',
            Breaker::Open => 'O',
        };
        self.columns.iter().map(mark).collect()
    }

    /// Marks below the columns in which Redis went and came back.
    fn marks(&self) -> String {
        let place = |at: Duration| (at.as_secs_f64() / self.column.as_secs_f64()) as usize;
        let gone = format!("^ {} s: gone", GONE_AT.as_secs());
        let back = format!("^ {} s: back", BACK_AT.as_secs());
        let gap = place(BACK_AT).saturating_sub(place(GONE_AT));
        format!("{}{gone:gap$}{back}", " ".repeat(place(GONE_AT)))
    }
}

impl fmt::Display for Chart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (requests, most) = self.bars(|column| column.requests as f64);
        let most = most / self.column.as_secs_f64();
        writeln!(f)?;
        writeln!(f, "requests/s  {requests}  {most:.0} at most")?;
        let (p99, slowest) = self.bars(p99_millis);
        writeln!(f, "p99         {p99}  {slowest:.1} ms at most")?;
        let (hits, most) = self.bars(hit_ratio);
        writeln!(f, "hit ratio   {hits}  {:.0} % at most", most * 100.0)?;
        writeln!(
            f,
            "breaker     {}  · closed, h half-open, O open",
            self.breaker()
        )?;
        writeln!(f, "            {}", self.marks())?;
        writeln!(f)?;
        writeln!(
            f,
            "callers saw   requests     failed  uncounted   hit ratio        p50        p99    slowest"
        )?;
        for (name, tally) in &self.phases {
            row(f, name, tally)?;
        }
        writeln!(f)
    }
}

fn row(f: &mut fmt::Formatter<'_>, name: &str, tally: &PhaseTally) -> fmt::Result {
    let mut calls = tally.calls.clone();
    calls.sort_unstable();
    writeln!(
        f,
        "{name:<11} {:>10} {:>10} {:>10} {:>11} {:>10} {:>10} {:>10}",
        thousands(tally.requests),
        thousands(tally.failed),
        thousands(tally.uncounted),
        percent(tally.hits, tally.reads.max(1)),
        microseconds(percentile(&calls, 50)),
        microseconds(percentile(&calls, 99)),
        microseconds(calls.last().copied().unwrap_or_default()),
    )?;
    match &tally.last_error {
        Some(error) => writeln!(f, "            the last failure: {error}"),
        None => Ok(()),
    }
}

/// The 99th percentile of a column's calls in milliseconds.
pub(super) fn p99_millis(column: &Column) -> f64 {
    let mut calls = column.calls.clone();
    calls.sort_unstable();
    percentile(&calls, 99).as_secs_f64() * 1000.0
}

/// The part of a column's reads that found something.
pub(super) fn hit_ratio(column: &Column) -> f64 {
    column.hits as f64 / column.reads.max(1) as f64
}

/// Which of the bars stands for `value`.
fn level(value: f64, most: f64) -> usize {
    if most <= 0.0 {
        return 0;
    }
    let level = value / most * (BARS.len() - 1) as f64;
    (level.round() as usize).min(BARS.len() - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_reach_from_the_lowest_to_the_highest() {
        assert_eq!(level(0.0, 10.0), 0);
        assert_eq!(level(10.0, 10.0), 7);
        assert_eq!(level(5.0, 10.0), 4);
        assert_eq!(level(1.0, 0.0), 0);
    }
}
