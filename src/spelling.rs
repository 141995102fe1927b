//! Suggests names for one that is not known.

use strsim::osa_distance;

/// Characters of a name that are compared. The time of a comparison grows with the square of the length, and
/// a request can contain a name of any length.
const COMPARED: usize = 128;

/// The known names closest to `wrong`, best first, at most three. Empty if none is close.
#[must_use]
pub fn close_names<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let folded = wrong.to_lowercase();
    let start = compared(&folded);
    let limit = (wrong.chars().count() / 3).max(1);
    let mut close: Vec<(usize, &str)> = known
        .into_iter()
        .filter_map(|name| {
            let other = name.to_lowercase();
            let distance = if other == folded { 0 } else { osa_distance(start, compared(&other)) };
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

fn compared(name: &str) -> &str {
    name.char_indices().nth(COMPARED).map_or(name, |(end, _)| &name[..end])
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
    fn a_swap_is_one_edit() {
        assert_eq!(close_names("acbd", ["abcd"]), ["abcd"]);
    }

    #[test]
    fn only_the_beginning_of_a_long_name_is_compared() {
        let known = format!("{}a", "x".repeat(COMPARED));
        let wrong = format!("{}{}", "x".repeat(COMPARED), "ü".repeat(1 << 20));
        assert_eq!(close_names(&wrong, [known.as_str()]), [known.as_str()]);
    }
}
