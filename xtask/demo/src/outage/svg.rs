//! The outage as a picture.

use std::fmt;
use std::time::Duration;

use super::chart::{hit_ratio, p99_millis};
use super::servers::Outage;
use super::timeline::{Breaker, Column, Timeline};
use super::{BACK_AT, END, GONE_AT};

const WIDTH: f64 = 900.0;
const LEFT: f64 = 90.0;
const PANEL: f64 = 110.0;
const GAP: f64 = 34.0;
const TOP: f64 = 50.0;

/// A picture with one panel a measure, all over the same time.
pub(crate) struct Svg {
    title: String,
    columns: Vec<Column>,
    column: Duration,
}

/// One measure over time.
struct Panel {
    title: &'static str,
    unit: &'static str,
    values: Vec<f64>,
}

impl Svg {
    pub(crate) fn new(timeline: &Timeline, outage: Outage) -> Self {
        Self {
            title: outage.announcement(GONE_AT, BACK_AT),
            columns: timeline.columns(),
            column: timeline.column(),
        }
    }

    fn panels(&self) -> [Panel; 4] {
        let values = |value: &dyn Fn(&Column) -> f64| self.columns.iter().map(value).collect();
        let seconds = self.column.as_secs_f64();
        let breaker = |column: &Column| match column.breaker {
            Breaker::Closed => 0.0,
            Breaker::HalfOpen => 0.5,
            Breaker::Open => 1.0,
        };
        [
            Panel {
                title: "requests",
                unit: "/s",
                values: values(&|column| column.requests as f64 / seconds),
            },
            Panel {
                title: "p99 of a call",
                unit: " ms",
                values: values(&p99_millis),
            },
            Panel {
                title: "hit ratio",
                unit: " %",
                values: values(&|column| hit_ratio(column) * 100.0),
            },
            Panel {
                title: "breaker (1 = open)",
                unit: "",
                values: values(&breaker),
            },
        ]
    }
}

impl fmt::Display for Svg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let panels = self.panels();
        let height = TOP + panels.len() as f64 * (PANEL + GAP);
        writeln!(
            f,
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12">"#
        )?;
        writeln!(f, r#"<rect width="100%" height="100%" fill="white"/>"#)?;
        writeln!(
            f,
            r#"<text x="{LEFT}" y="24" font-size="14">{}</text>"#,
            self.title
        )?;
        let (gone, back) = (x_of(GONE_AT), x_of(BACK_AT));
        writeln!(
            f,
            r##"<rect x="{gone}" y="{TOP}" width="{}" height="{}" fill="#fbe3e0"/>"##,
            back - gone,
            height - TOP - GAP
        )?;
        for (position, panel) in panels.iter().enumerate() {
            panel.draw(f, TOP + position as f64 * (PANEL + GAP), self.column)?;
        }
        writeln!(f, "</svg>")
    }
}

impl Panel {
    fn draw(&self, f: &mut fmt::Formatter<'_>, top: f64, column: Duration) -> fmt::Result {
        let bottom = top + PANEL;
        let most = self.values.iter().copied().fold(0.0, f64::max);
        let scale = if most > 0.0 { PANEL / most } else { 0.0 };
        writeln!(
            f,
            r##"<line x1="{LEFT}" y1="{bottom}" x2="{WIDTH}" y2="{bottom}" stroke="#888"/>"##
        )?;
        writeln!(f, r#"<text x="4" y="{}">{}</text>"#, top + 14.0, self.title)?;
        writeln!(
            f,
            r##"<text x="4" y="{}" fill="#666">{most:.1}{} at most</text>"##,
            top + 30.0,
            self.unit
        )?;
        let points: Vec<_> = self
            .values
            .iter()
            .enumerate()
            .map(|(place, value)| {
                let middle = column.mul_f64(place as f64 + 0.5);
                format!("{:.1},{:.1}", x_of(middle), bottom - value * scale)
            })
            .collect();
        writeln!(
            f,
            r##"<polyline points="{}" fill="none" stroke="#2a6fb0" stroke-width="2"/>"##,
            points.join(" ")
        )
    }
}

fn x_of(at: Duration) -> f64 {
    LEFT + at.as_secs_f64() / END.as_secs_f64() * (WIDTH - LEFT)
}
