//! Numbers as people read them: three significant digits and a unit that fits.

/// Seconds as `1.23 us`, `45.6 ms`, `7.89 s` or `12 min 5 s`.
pub fn duration(seconds: f64) -> String {
    let units = [(1e-6, 1e9, "ns"), (1e-3, 1e6, "us"), (1.0, 1e3, "ms"), (120.0, 1.0, "s")];
    if !seconds.is_finite() {
        return "?".to_owned();
    }
    // A value that rounds up to 1000 of a unit belongs to the next one.
    match units.iter().find(|(limit, _, _)| seconds.abs() < limit * 0.9995) {
        Some((_, factor, unit)) => format!("{} {unit}", significant(seconds * factor)),
        None => {
            let whole = seconds.round() as u64;
            format!("{} min {} s", whole / 60, whole % 60)
        }
    }
}

/// Bytes as `512 B`, `1.23 KB`, `45.6 MB` or `7.89 GB`, with decimal prefixes.
pub fn bytes(count: f64) -> String {
    let units = [(1e3, 1.0, "B"), (1e6, 1e3, "KB"), (1e9, 1e6, "MB"), (f64::INFINITY, 1e9, "GB")];
    let (_, size, unit) =
        units.iter().find(|(limit, _, _)| count < limit * 0.9995).unwrap_or(&units[3]);
    if *unit == "B" {
        return format!("{} B", count.round());
    }
    format!("{} {unit}", significant(count / size))
}

/// A ratio as `0.0123`, `1.94`, `23.4` or `1234`.
pub fn ratio(value: f64) -> String {
    significant(value)
}

/// A share of one as `97 %`, with a decimal below 10 %.
pub fn percent(share: f64) -> String {
    let points = share * 100.0;
    if points.abs() < 9.95 && points.abs() >= 0.05 && points.fract().abs() > 0.05 {
        format!("{points:.1} %")
    } else {
        format!("{points:.0} %")
    }
}

/// A whole number with separators between thousands: `1,234,567`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Three significant digits, without an exponent.
fn significant(value: f64) -> String {
    // The exponent after rounding: 9.996 is 1.00e1, and so has one digit behind the point.
    let rounded = format!("{value:.2e}");
    let exponent = rounded.split_once('e').and_then(|(_, exponent)| exponent.parse().ok());
    let decimals = (2 - exponent.unwrap_or(0_i32)).clamp(0, 6) as usize;
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_three_digits_and_a_fitting_unit() {
        let cases = [
            (0.0, "0.00 ns"),
            (1.234e-6, "1.23 us"),
            (0.000_999_9, "1.00 ms"),
            (0.0456, "45.6 ms"),
            (0.9999, "1.00 s"),
            (12.345, "12.3 s"),
            (725.0, "12 min 5 s"),
            (f64::NAN, "?"),
        ];
        for (seconds, text) in cases {
            assert_eq!(duration(seconds), text, "{seconds}");
        }
    }

    #[test]
    fn bytes_ratios_shares_and_counts_read_well() {
        assert_eq!(bytes(512.0), "512 B");
        assert_eq!(bytes(12_345_678.0), "12.3 MB");
        assert_eq!(bytes(999_960.0), "1.00 MB");
        assert_eq!(ratio(1.937), "1.94");
        assert_eq!(ratio(9.996), "10.0");
        assert_eq!(ratio(0.012_34), "0.0123");
        assert_eq!(ratio(1234.4), "1234");
        assert_eq!(percent(0.973), "97 %");
        assert_eq!(percent(0.0123), "1.2 %");
        assert_eq!(percent(0.0), "0 %");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(count(12), "12");
    }
}
