//! Suggests names for one that is not known.

/// The known names closest to `wrong`, best first, at most three. Empty if none is close.
#[must_use]
pub fn close_names<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let folded = wrong.to_lowercase();
    let limit = (wrong.chars().count() / 3).max(1);
    let mut close: Vec<(usize, &str)> = known
        .into_iter()
        .filter_map(|name| {
            let other = name.to_lowercase();
            let distance = if other == folded { 0 } else { distance(&folded, &other) };
            (distance <= limit).then_some((distance, name))
        })
        .collect();
    close.sort_unstable();
    close.dedup();
    close.into_iter().map(|(_, name)| name).take(3).collect()
}

/// `Did you mean a, b or c?`, with a space before it. Empty if no name is close.
#[must_use]
pub fn did_you_mean<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    match close_names(wrong, known).as_slice() {
        [] => String::new(),
        [one] => format!(" Did you mean `{one}`?"),
        [start @ .., last] => format!(" Did you mean `{}` or `{last}`?", start.join("`, `")),
    }
}

/// Insertions, deletions, replacements and swaps of neighbours that turn one
/// text into the other.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(128).collect(), b.chars().take(128).collect());
    let mut before: Vec<usize> = Vec::new();
    let mut previous: Vec<usize> = (0..=b.len()).collect();
    for i in 0..a.len() {
        let mut row = vec![i + 1];
        for j in 0..b.len() {
            let replace = previous[j] + usize::from(a[i] != b[j]);
            let mut best = replace.min(previous[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut previous, row);
    }
    previous[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_nearly_right_are_suggested() {
        let known = ["orders", "customers", "Orders_2024", "id"];
        assert_eq!(close_names("ordres", known), ["orders"]);
        assert_eq!(close_names("ORDERS", known), ["orders"]);
        assert_eq!(close_names("products", known), [""; 0]);
        assert_eq!(did_you_mean("idd", known), " Did you mean `id`?");
        assert_eq!(did_you_mean("a", ["b", "c"]), " Did you mean `b` or `c`?");
    }

    #[test]
    fn distances_count_edits() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abcd", "acbd"), 1);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
