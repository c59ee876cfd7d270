//! A figure as it is written: a value, and where it lies with 95 % confidence.

use ungil_advise::{Estimate, quantity};

/// What stands where nothing was measured.
pub const NOT_MEASURED: &str = "-";

/// A figure as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figure {
    /// The value with its unit.
    pub value: String,
    /// The ends of its interval in brackets, or nothing.
    pub interval: String,
}

impl Figure {
    fn alone(value: String) -> Figure {
        Figure { value, interval: String::new() }
    }

    /// A plain word.
    pub fn word(word: &str) -> Figure {
        Figure::alone(word.to_owned())
    }

    /// A time.
    pub fn duration(seconds: f64) -> Option<Figure> {
        seconds.is_finite().then(|| Figure::alone(quantity::duration(seconds)))
    }

    /// An amount of memory.
    pub fn bytes(count: u64) -> Figure {
        Figure::alone(quantity::bytes(count as f64))
    }

    /// A number without unit.
    pub fn ratio(value: f64) -> Option<Figure> {
        value.is_finite().then(|| Figure::alone(quantity::ratio(value)))
    }

    /// `151 ms [149..153]`.
    pub fn estimated_duration(estimate: &Estimate) -> Option<Figure> {
        estimated(estimate, quantity::duration)
    }

    /// `1.94x [1.90..1.97]`.
    pub fn estimated_times(estimate: &Estimate) -> Option<Figure> {
        let figure = estimated(estimate, quantity::ratio)?;
        Some(Figure { value: format!("{}x", figure.value), ..figure })
    }
}

fn estimated(estimate: &Estimate, write: fn(f64) -> String) -> Option<Figure> {
    if !estimate.value.is_finite() {
        return None;
    }
    let value = write(estimate.value);
    let interval = estimate
        .interval
        .filter(|interval| interval.low.is_finite() && interval.high.is_finite())
        .map_or(String::new(), |interval| {
            let (low, high) = (write(interval.low), write(interval.high));
            let shared =
                unit(&value).filter(|own| [&low, &high].iter().all(|end| unit(end) == Some(own)));
            format!("[{}..{}]", without(&low, shared), without(&high, shared))
        });
    Some(Figure { value, interval })
}

/// The unit behind a number; none for minutes with seconds, which cannot be taken apart.
fn unit(text: &str) -> Option<&str> {
    text.split_once(' ').map(|(_, unit)| unit).filter(|unit| !unit.contains(' '))
}

fn without<'a>(text: &'a str, unit: Option<&str>) -> &'a str {
    match unit {
        Some(unit) => text.strip_suffix(unit).unwrap_or(text).trim_end(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ungil_advise::Interval;

    fn estimate(value: f64, low: f64, high: f64) -> Estimate {
        Estimate { value, interval: Some(Interval { low, high }), samples: 9 }
    }

    fn text(figure: Option<Figure>) -> String {
        figure.map_or(NOT_MEASURED.to_owned(), |figure| {
            format!("{} {}", figure.value, figure.interval).trim_end().to_owned()
        })
    }

    #[test]
    fn the_unit_is_written_once_where_all_three_share_it() {
        let written =
            |value, low, high| text(Figure::estimated_duration(&estimate(value, low, high)));
        assert_eq!(written(0.151, 0.149, 0.153), "151 ms [149..153]");
        assert_eq!(written(1.01, 0.98, 1.03), "1.01 s [980 ms..1.03 s]");
        assert_eq!(written(725.0, 700.0, 750.0), "12 min 5 s [11 min 40 s..12 min 30 s]");
    }

    #[test]
    fn ratios_have_no_unit() {
        assert_eq!(
            text(Figure::estimated_times(&estimate(1.937, 1.9, 1.97))),
            "1.94x [1.90..1.97]"
        );
    }

    #[test]
    fn figures_that_are_not_finite_were_not_measured() {
        assert_eq!(text(Figure::estimated_duration(&estimate(f64::NAN, 1.0, 2.0))), "-");
        assert_eq!(text(Figure::estimated_times(&estimate(2.0, f64::NAN, 3.0))), "2.00x");
        assert_eq!(text(Figure::estimated_times(&estimate(f64::INFINITY, 1.0, 3.0))), "-");
        assert_eq!(Figure::duration(f64::NAN), None);
        assert_eq!(Figure::ratio(f64::NEG_INFINITY), None);
    }
}
