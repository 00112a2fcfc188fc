//! The closing table.

use std::fmt;
use std::time::Duration;

use crate::tally::{Tally, UseCase};

/// What the demo prints at the end.
pub(crate) struct Report {
    rows: [Row; 3],
    requests: usize,
    busiest: i64,
    took: Duration,
}

struct Row {
    name: &'static str,
    operations: usize,
    reads: usize,
    hits: usize,
    p50: Duration,
    p99: Duration,
}

impl Report {
    pub(crate) fn new(tally: Tally, took: Duration) -> Self {
        let Tally {
            sessions,
            limits,
            responses,
            uncounted: _,
            busiest,
        } = tally;
        Self {
            requests: responses.reads,
            rows: [
                Row::new("sessions", sessions),
                Row::new("rate limits", limits),
                Row::new("responses", responses),
            ],
            busiest,
            took,
        }
    }
}

impl Row {
    fn new(name: &'static str, use_case: UseCase) -> Self {
        let UseCase {
            mut calls,
            reads,
            hits,
        } = use_case;
        calls.sort_unstable();
        Self {
            name,
            operations: calls.len(),
            reads,
            hits,
            p50: percentile(&calls, 50),
            p99: percentile(&calls, 99),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f)?;
        writeln!(
            f,
            "use case      operations   hit ratio        p50        p99   origin loads saved"
        )?;
        for row in &self.rows {
            writeln!(f, "{row}")?;
        }
        writeln!(f)?;
        let reads: usize = self.rows.iter().map(|row| row.reads).sum();
        let hits: usize = self.rows.iter().map(|row| row.hits).sum();
        writeln!(
            f,
            "{} requests in {:.1} s: {} requests/s. The origin was asked {} times instead of {}.",
            thousands(self.requests),
            self.took.as_secs_f64(),
            rate(self.requests, self.took),
            thousands(reads - hits),
            thousands(reads),
        )?;
        writeln!(
            f,
            "The busiest client asked one endpoint {} times within its minute.",
            thousands(usize::try_from(self.busiest).unwrap_or_default())
        )
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ratio, saved) = if self.reads == 0 {
            ("-".to_owned(), "-".to_owned())
        } else {
            let saved = format!("{} of {}", thousands(self.hits), thousands(self.reads));
            (percent(self.hits, self.reads), saved)
        };
        write!(
            f,
            "{:<13} {:>10} {ratio:>11} {:>10} {:>10} {saved:>20}",
            self.name,
            thousands(self.operations),
            microseconds(self.p50),
            microseconds(self.p99),
        )
    }
}

/// 1234567 as `1,234,567`.
pub(crate) fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The value that `percent` of the sorted values do not exceed; zero where there are none.
pub(crate) fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted
        .get(rank.saturating_sub(1))
        .copied()
        .unwrap_or_default()
}

pub(crate) fn percent(part: usize, whole: usize) -> String {
    let per_mille = (part * 1000 + whole / 2) / whole;
    format!("{}.{} %", per_mille / 10, per_mille % 10)
}

pub(crate) fn microseconds(span: Duration) -> String {
    let tenths = span.as_nanos().div_ceil(100);
    format!("{}.{} µs", tenths / 10, tenths % 10)
}

fn rate(count: usize, span: Duration) -> String {
    let nanoseconds = span.as_nanos().max(1);
    let per_second = count as u128 * 1_000_000_000 / nanoseconds;
    thousands(usize::try_from(per_second).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let calls: Vec<_> = (1..=200).map(Duration::from_micros).collect();
        assert_eq!(percentile(&calls, 50), Duration::from_micros(100));
        assert_eq!(percentile(&calls, 99), Duration::from_micros(198));
        assert_eq!(percentile(&calls[..1], 99), Duration::from_micros(1));
        assert_eq!(percentile(&[], 50), Duration::ZERO);
    }

    #[test]
    fn numbers_are_easy_to_read() {
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(999), "999");
        assert_eq!(thousands(1_234_567), "1,234,567");
        assert_eq!(percent(2, 3), "66.7 %");
        assert_eq!(percent(5, 5), "100.0 %");
        assert_eq!(microseconds(Duration::from_nanos(1_234)), "1.3 µs");
        assert_eq!(rate(300, Duration::from_secs(2)), "150");
    }
}
