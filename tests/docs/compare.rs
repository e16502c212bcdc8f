//! Whether a command printed what a document shows, but for what differs from run to run: pure.
//!
//! Blanks count once; MAC addresses, decimals, times and the host's part of a subnet are alike; `…` is any text within a
//! line, and alone on a line any number of lines.

/// Whether `printed` is what is shown.
pub fn alike(shown: &str, printed: &str) -> bool {
    let lines = |text: &str| text.trim().lines().map(masked).collect::<Vec<_>>();
    agree(&lines(shown), &lines(printed), "…", line_agrees)
}

fn line_agrees(shown: &str, printed: &str) -> bool {
    let mut parts = shown.split('…');
    let Some(rest) = printed.strip_prefix(parts.next().unwrap_or_default()) else {
        return false;
    };
    let parts: Vec<&str> = parts.collect();
    let Some((last, between)) = parts.split_last() else {
        return rest.is_empty();
    };
    let after = between.iter().try_fold(rest, |rest, part| {
        Some(&rest[rest.find(part)? + part.len()..])
    });
    after.is_some_and(|rest| rest.ends_with(last))
}

/// Whether two lists agree item by item, where `any` stands for any number of items.
fn agree(shown: &[String], printed: &[String], any: &str, same: fn(&str, &str) -> bool) -> bool {
    let Some((first, rest)) = shown.split_first() else {
        return printed.is_empty();
    };
    if first == any {
        return (0..=printed.len()).any(|skip| agree(rest, &printed[skip..], any, same));
    }
    printed
        .split_first()
        .is_some_and(|(one, more)| same(first, one) && agree(rest, more, any, same))
}

/// Units of a time that stands apart from its number.
const UNITS: [&str; 5] = ["s", "ms", "min", "h", "d"];

fn masked(line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    let unit = |word: &str| UNITS.into_iter().find(|unit| bare(word) == *unit);
    let is_time = |at: usize| {
        is_number(words[at]) && words.get(at + 1).is_some_and(|next| unit(next).is_some())
    };
    let word = |at: usize| match at.checked_sub(1).filter(|before| is_time(*before)) {
        Some(_) => {
            unit(words[at]).map_or(words[at].to_owned(), |unit| words[at].replace(unit, "T"))
        }
        None if is_time(at) => "N".to_owned(),
        None => words[at].split('=').map(mask).collect::<Vec<_>>().join("="),
    };
    (0..words.len()).map(word).collect::<Vec<_>>().join(" ")
}

fn bare(word: &str) -> &str {
    word.trim_matches(|c: char| !c.is_alphanumeric())
}

fn is_number(word: &str) -> bool {
    word.chars().all(|c| c.is_ascii_digit() || c == '.')
}

fn mask(word: &str) -> String {
    let core = bare(word);
    let number = core.trim_end_matches(|c: char| c.is_alphabetic());
    let is_decimal = number.split('.').count() == 2 && is_number(number) && !number.ends_with('.');
    let is_time =
        number != core && is_number(number) && ["ms", "s", "min"].contains(&&core[number.len()..]);
    if !number.is_empty() && (is_decimal || is_time) {
        return word.replace(core, "N");
    }
    without_subnet(&without_macs(word))
}

/// `172.30.N.` for the subnet that a host happened to get.
fn without_subnet(word: &str) -> String {
    let mut parts = word.split("172.30.");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |done, part| match part.split_once('.') {
        Some((subnet, rest)) if is_number(subnet) && subnet != "0" => {
            format!("{done}172.30.N.{rest}")
        }
        _ => format!("{done}172.30.{part}"),
    })
}

/// `MAC` for each MAC address.
fn without_macs(word: &str) -> String {
    let is_mac = |text: &str| {
        text.len() == 17
            && text
                .split(':')
                .all(|two| two.len() == 2 && u8::from_str_radix(two, 16).is_ok())
    };
    let windows = (0..word.len()).filter_map(|at| word.get(at..at + 17));
    match windows.into_iter().find(|text| is_mac(text)) {
        Some(mac) => without_macs(&word.replace(mac, "MAC")),
        None => word.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_varies_is_alike() {
        for (shown, printed) in [
            ("h1  ·  0.13  0.05", "h1  ·     0.44  1.05\n"),
            ("up 12 s, 3 peers", "up 7 min, 3 peers"),
            ("(pid …, up 3 s)", "(pid 7, up 4 h)"),
            ("1430 bytes, time=0.1 ms", "1430 bytes, time=0.061 ms"),
            ("took (3.1 ms)", "took (12.9 ms)"),
            (
                "172.30.5.0/24 via 172.30.5.0",
                "172.30.77.0/24 via 172.30.77.0",
            ),
            (
                r#"{"VtepMAC":"86:4b:9c:65:f2:12"}"#,
                r#"{"VtepMAC":"0a:00:00:00:00:01"}"#,
            ),
            ("pid …, up", "pid 12 34, up"),
            ("a\n…\nz", "a\nb\nc\nz"),
            ("a\n…\nz", "a\nz"),
            ("time=0.1 ms", "time=0.1 ms"),
        ] {
            assert!(alike(shown, printed), "{shown} / {printed}");
        }
    }

    #[test]
    fn what_counts_is_compared() {
        for (shown, printed) in [
            ("2 peers", "3 peers"),
            ("up 3 s, 2 peers", "up 3 s, 3 peers"),
            ("172.30.0.0/16", "172.30.4.0/16"),
            ("10.64.0.1", "10.64.0.2"),
            ("a\nb", "a"),
            ("a …", "b c"),
            ("a … c", "a c d"),
            ("a\n…\nz", "a\nb"),
            ("v1.2.3", "v1.2.4"),
        ] {
            assert!(!alike(shown, printed), "{shown} / {printed}");
        }
    }
}
