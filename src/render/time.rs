//! Points and lengths of time, and shares, as a person reads them.

use crate::model::{Timestamp, Window};

const SECOND_US: i64 = 1_000_000;

/// `2026-11-23 08:15:30`, UTC, cut to the second.
pub fn second(time: Timestamp) -> String {
    let text = time.to_string();
    match text.split_once('T') {
        Some((date, clock)) => format!("{date} {}", clock.get(..8).unwrap_or(clock)),
        None => text,
    }
}

/// `2026-11-23 08:15:30 to 09:00:00 UTC`; the ends that are not known are left out.
pub fn window(window: Window) -> String {
    let (from, to) = (window.from != Timestamp::MIN, window.to != Timestamp::MAX);
    match (from, to) {
        (true, true) => {
            let (from, to) = (second(window.from), second(window.to));
            let same_day = from.split_once(' ').zip(to.split_once(' ')).filter(|((a, _), (b, _))| a == b);
            let to = same_day.map_or(to.as_str(), |(_, (_, clock))| clock);
            format!("{from} to {to} UTC")
        }
        (true, false) => format!("since {} UTC", second(window.from)),
        (false, true) => format!("until {} UTC", second(window.to)),
        (false, false) => "all that is stored".into(),
    }
}

/// `350 ms`, `1.23 s`, `4m 05s`, `2h 03m`, `3d 04h`.
pub fn length(us: i64) -> String {
    let sign = if us < 0 { "-" } else { "" };
    let us = i64::try_from(us.unsigned_abs()).unwrap_or(i64::MAX);
    let seconds = us / SECOND_US;
    let text = match seconds {
        _ if us == 0 => "0 s".to_string(),
        _ if us < 1_000 => format!("{us} us"),
        _ if us < 10_000 => format!("{:.1} ms", us as f64 / 1e3),
        _ if us < SECOND_US => format!("{} ms", us / 1_000),
        0..10 => format!("{:.2} s", us as f64 / 1e6),
        10..60 => format!("{:.1} s", us as f64 / 1e6),
        60..3_600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h {:02}m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{}d {:02}h", seconds / 86_400, seconds % 86_400 / 3_600),
    };
    format!("{sign}{text}")
}

/// The same of nanoseconds.
pub fn length_ns(ns: u64) -> String {
    length(i64::try_from(ns / 1_000).unwrap_or(i64::MAX))
}

/// `98.7 %`.
pub fn share(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// `12,345`.
pub fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_readable() {
        for (us, text) in [
            (0, "0 s"),
            (999, "999 us"),
            (1_500, "1.5 ms"),
            (350_000, "350 ms"),
            (1_234_567, "1.23 s"),
            (59_900_000, "59.9 s"),
            (245_000_000, "4m 05s"),
            (7_380_000_000, "2h 03m"),
            (i64::MIN, "-106751991d 04h"),
        ] {
            assert_eq!(length(us), text);
        }
    }

    #[test]
    fn windows_counts_and_shares_are_readable() {
        let day = Timestamp(1_795_392_000_000_000);
        let window_of = |from, to| window(Window { from, to });
        assert_eq!(window_of(day, day.plus_us(90_000_000)), "2026-11-23 00:00:00 to 00:01:30 UTC");
        assert_eq!(window_of(day, Timestamp::MAX), "since 2026-11-23 00:00:00 UTC");
        assert_eq!(window(Window::ALL), "all that is stored");
        assert_eq!([count(0), count(999), count(1_234_567)], ["0", "999", "1,234,567"]);
        assert_eq!(share(0.98749), "98.7 %");
    }
}
