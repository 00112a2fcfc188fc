//! The closing table.

use std::fmt;
use std::time::Duration;

use crate::tally::{Tally, UseCase};

/// What the demo prints at the end.
pub(crate) struct Report {
    rows: [Row; 4],
    /// What the storages are called, the fastest first.
    tiers: Vec<&'static str>,
    requests: usize,
    reads: usize,
    /// How often the origin was asked.
    asked: usize,
    busiest: i64,
    took: Duration,
}

struct Row {
    name: &'static str,
    use_case: UseCase,
    p50: Duration,
    p99: Duration,
}

impl Report {
    pub(crate) fn new(tally: Tally, tiers: &[&'static str], took: Duration) -> Self {
        let (reads, asked) = (tally.sum(UseCase::reads), tally.sum(|one| one.asked));
        let Tally {
            sessions,
            places,
            limits,
            responses,
            uncounted: _,
            busiest,
        } = tally;
        Self {
            requests: responses.operations,
            rows: [
                Row::new("sessions", sessions),
                Row::new("geolocation", places),
                Row::new("rate limits", limits),
                Row::new("responses", responses),
            ],
            tiers: tiers.to_vec(),
            reads,
            asked,
            busiest,
            took,
        }
    }

    /// The rows of what was loaded where it was missing.
    fn loading(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| row.use_case.reads() > 0)
    }

    fn write_answers(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<13}", "answered by")?;
        for tier in &self.tiers {
            write!(f, " {tier:>10}")?;
        }
        let rest = ["absent", "loaded", "joined", "stale"];
        writeln!(f, "{}", rest.map(|name| format!(" {name:>10}")).concat())?;
        for row in self.loading() {
            row.write_answers(f, &self.tiers)?;
        }
        Ok(())
    }
}

impl Row {
    fn new(name: &'static str, mut use_case: UseCase) -> Self {
        let calls = &mut use_case.calls;
        calls.sort_unstable();
        Self {
            name,
            p50: percentile(calls, 50),
            p99: percentile(calls, 99),
            use_case,
        }
    }

    fn write_answers(&self, f: &mut fmt::Formatter<'_>, tiers: &[&str]) -> fmt::Result {
        let UseCase {
            tiers: hits,
            absent,
            loaded,
            joined,
            stale,
            ..
        } = &self.use_case;
        write!(f, "{:<13}", self.name)?;
        for tier in tiers {
            let hits = hits.get(tier).copied().unwrap_or_default();
            write!(f, " {:>10}", thousands(hits))?;
        }
        let rest = [absent, loaded, joined, stale];
        let rest = rest.map(|count| format!(" {:>10}", thousands(*count)));
        writeln!(f, "{}", rest.concat())
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
        self.write_answers(f)?;
        writeln!(f)?;
        writeln!(
            f,
            "{} requests in {:.1} s: {} requests/s. The origin was asked {} times instead of {}.",
            thousands(self.requests),
            self.took.as_secs_f64(),
            rate(self.requests, self.took),
            thousands(self.asked),
            thousands(self.reads),
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
        let reads = self.use_case.reads();
        let (ratio, saved) = if reads == 0 {
            ("-".to_owned(), "-".to_owned())
        } else {
            let saved = thousands(reads.saturating_sub(self.use_case.asked));
            let saved = format!("{saved} of {}", thousands(reads));
            (percent(self.use_case.hits(), reads), saved)
        };
        write!(
            f,
            "{:<13} {:>10} {ratio:>11} {:>10} {:>10} {saved:>20}",
            self.name,
            thousands(self.use_case.operations),
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

    #[test]
    fn the_answers_of_each_storage_have_a_column() {
        let sessions = UseCase {
            operations: 10,
            tiers: [("memory", 5), ("redis", 2)].into(),
            absent: 1,
            loaded: 1,
            joined: 1,
            asked: 3,
            ..UseCase::default()
        };
        let tally = Tally {
            sessions,
            ..Tally::default()
        };
        let report = Report::new(tally, &["memory", "redis"], Duration::from_secs(1)).to_string();
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let lines: Vec<_> = report.lines().map(words).collect();
        let answers = [
            "answered by memory redis absent loaded joined stale",
            "sessions 5 2 1 1 1 0",
        ];
        assert!(lines.windows(2).any(|pair| pair == answers), "{report}");
        let saved = "sessions 10 80.0 % 0.0 µs 0.0 µs 7 of 10";
        assert!(lines.iter().any(|line| line == saved), "{report}");
        assert!(report.contains("3 times instead of 10"), "{report}");
    }
}
