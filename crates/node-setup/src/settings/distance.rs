//! Measures how similar two names are. Pure.

/// Returns how many letters have to be inserted, removed, replaced, or swapped with the next one to turn one name into the other.
pub(crate) fn between(one: &str, other: &str) -> usize {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, letter) in one.iter().enumerate() {
        let mut next = vec![i + 1];
        for (j, wanted) in other.iter().enumerate() {
            let at = |row: &[usize], j: usize| row.get(j).copied().unwrap_or(usize::MAX - 1);
            let mut cost = (at(&row, j) + usize::from(letter != wanted))
                .min(at(&row, j + 1) + 1)
                .min(at(&next, j) + 1);
            let swapped = i > 0
                && j > 0
                && one.get(i - 1) == Some(wanted)
                && other.get(j - 1) == Some(letter);
            if swapped {
                cost = cost.min(at(&before, j - 1) + 1);
            }
            next.push(cost);
        }
        before = std::mem::replace(&mut row, next);
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_of_a_letter_counts_once() {
        for (one, other, want) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "abc", 0),
            ("requre", "require", 1),
            ("pod-cdir", "pod-cidr", 1),
            ("deamon", "daemon", 1),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(
                (between(one, other), between(other, one)),
                (want, want),
                "{one} {other}"
            );
        }
    }
}
