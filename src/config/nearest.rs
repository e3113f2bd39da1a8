//! "Did you mean …?": the known key that an unknown one was probably meant to be.

/// The end of a message about the unknown `key`: a suggestion, or nothing.
pub(super) fn hint(key: &str, known: &[&str]) -> String {
    let (section, name) = split(key);
    // The same name elsewhere is the better guess than a similar one here: `rate_limit` at the top of the file was
    // written before its section.
    let elsewhere = known.iter().find(|it| split(it).1 == name);
    let closest = |candidates: &mut dyn Iterator<Item = (&str, String)>| {
        candidates
            .map(|(it, shown)| (distance(name, it), shown))
            .filter(|(distance, _)| *distance <= name.chars().count().div_ceil(3))
            .min_by_key(|(distance, _)| *distance)
            .map(|(_, shown)| shown)
    };
    let here = &mut known
        .iter()
        .map(|it| split(it))
        .filter(|(its, _)| *its == section)
        .map(|(_, it)| (it, quoted(it)));
    let sections = &mut known
        .iter()
        .map(|it| split(it).0)
        .filter(|it| split(it).0 == section)
        .map(|it| (split(it).1, format!("the section [{it}]")));
    let found =
        elsewhere.map(|it| in_section(it)).or_else(|| closest(here)).or_else(|| closest(sections)).or_else(
            || {
                let distance = |it: &&&str| distance(name, split(it).1);
                known.iter().min_by_key(distance).filter(|it| distance(it) <= 2).map(|it| in_section(it))
            },
        );
    found.map_or_else(String::new, |it| format!("; did you mean {it}?"))
}

/// The one of `names` that `text` was probably meant to be: the same but for the case of letters, or the same last part
/// (`Berlin`), or few letters away.
pub(super) fn name<'a>(text: &str, names: &'a [String]) -> Option<&'a String> {
    let last = |name: &str| name.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
    let same = names.iter().find(|it| it.eq_ignore_ascii_case(text));
    let part = || names.iter().find(|it| last(it) == last(text));
    let close = || {
        let far = |it: &&String| distance(text, it);
        names.iter().min_by_key(far).filter(|it| far(it) <= text.chars().count().div_ceil(4))
    };
    same.or_else(part).or_else(close)
}

/// The section (empty at the top) and the name in it.
fn split(key: &str) -> (&str, &str) {
    key.rsplit_once('.').unwrap_or(("", key))
}

fn quoted(name: &str) -> String {
    format!("{name:?}")
}

fn in_section(key: &str) -> String {
    let (section, name) = split(key);
    format!("{name:?} in [{section}]")
}

/// How many letters must be added, dropped, exchanged or swapped with their neighbour to make `b` of `a`.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<_>, Vec<_>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<_>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let exchange = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = exchange.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 5] =
        ["hub.keep_alive", "hub.backoff", "download.rate_limit", "boot.boot_order.a", "health.hub"];

    #[test]
    fn slips_of_the_pen_find_their_key() {
        for (unknown, hinted) in [
            ("hub.keepalive", "; did you mean \"keep_alive\"?"),
            ("hub.keep-alive", "; did you mean \"keep_alive\"?"),
            ("hub.bakcoff", "; did you mean \"backoff\"?"),
            ("hub.rate_limit", "; did you mean \"rate_limit\" in [download]?"),
            ("rate_limit", "; did you mean \"rate_limit\" in [download]?"),
            ("hubb", "; did you mean the section [hub]?"),
            ("dowload", "; did you mean the section [download]?"),
            ("boot.boot_oder", "; did you mean the section [boot.boot_order]?"),
            ("download.keep_alve", "; did you mean \"keep_alive\" in [hub]?"),
            ("hub.colour", ""),
        ] {
            assert_eq!(hint(unknown, &KNOWN), hinted, "{unknown}");
        }
    }

    #[test]
    fn distance_counts_edits() {
        for (a, b, n) in
            [("", "", 0), ("abc", "", 3), ("abc", "acb", 1), ("kitten", "sitting", 3), ("é", "e", 1)]
        {
            assert_eq!(distance(a, b), n, "{a} {b}");
            assert_eq!(distance(b, a), n, "{b} {a}");
        }
    }
}
