//! What a server's answer means for a download. Pure: status and headers in, a verdict out.

use std::time::Duration;

use reqwest::header::{
    CONTENT_ENCODING, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, LAST_MODIFIED, LOCATION,
    RETRY_AFTER,
};
use reqwest::{StatusCode, Url};

use super::super::Error;
use super::Validator;

/// Longer validators are none: they would not fit into a checkpoint.
const LONGEST_VALIDATOR: usize = 512;

/// What was asked for, and what is known of the file.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    /// The server, for messages.
    pub(super) host: String,
    /// From which byte on.
    pub(super) offset: u64,
    /// Up to which byte, without that; `None` is to the end.
    pub(super) until: Option<u64>,
    /// The file's length: as an earlier answer said.
    pub(super) total: Option<u64>,
    /// The file's length: as the update's author said.
    pub(super) size: Option<u64>,
    /// The file's validators, from an earlier answer.
    pub(super) validator: Validator,
}

/// What to do with an answer.
#[derive(Debug)]
pub(super) enum Verdict {
    /// Its body is what was asked for.
    Body(File),
    /// Its body is the whole file although the rest was asked for, and the file is the same, for all we know.
    Whole(File),
    /// The file is another one now; if there is a body, it is the whole of it.
    Changed(Option<File>),
    /// The server gives no part, or not the right one.
    RangeRefused(String),
    /// Go there.
    Redirect(String),
    /// No use in asking again.
    Fatal(Error),
    /// Ask again, after so long if the server said so.
    Later(Error, Option<Duration>),
}

/// What an answer says about the file.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct File {
    pub(super) total: Option<u64>,
    pub(super) validator: Validator,
}

/// Judges status and headers. `length` is the body's length as the HTTP library understood it, `now` is Unix time.
pub(super) fn judge(
    ask: &Ask,
    status: StatusCode,
    headers: &HeaderMap,
    length: Option<u64>,
    now: u64,
) -> Verdict {
    let refused = || Error::Status { host: ask.host.clone(), code: status.as_u16() };
    match status.as_u16() {
        200 | 206 => judge_body(ask, status, headers, length),
        301 | 302 | 303 | 307 | 308 => match text(headers, LOCATION) {
            Some(location) => Verdict::Redirect(location),
            None => Verdict::Fatal(Error::Redirect(format!("from {} without a location", ask.host))),
        },
        416 => Verdict::RangeRefused("status 416".into()),
        408 | 425 | 429 | 500..=599 => Verdict::Later(refused(), retry_after(headers, now)),
        400..=499 => Verdict::Fatal(refused()),
        code => Verdict::Fatal(answer(ask, format!("status {code}, which is no answer to the request"))),
    }
}

fn judge_body(ask: &Ask, status: StatusCode, headers: &HeaderMap, length: Option<u64>) -> Verdict {
    if let Some(encoding) = text(headers, CONTENT_ENCODING)
        && !encoding.eq_ignore_ascii_case("identity")
    {
        return Verdict::Fatal(answer(ask, "a content encoding that was not asked for".into()));
    }
    // Hotel and factory networks answer for everyone until somebody logs in. That passes.
    if text(headers, CONTENT_TYPE).is_some_and(|kind| kind.to_ascii_lowercase().starts_with("text/html")) {
        return Verdict::Later(answer(ask, "a web page instead of a file".into()), None);
    }
    let validator = validator(headers);
    if status == StatusCode::PARTIAL_CONTENT {
        return judge_part(ask, headers, length, validator);
    }
    if let (Some(length), Some(wanted)) = (length, ask.size)
        && length != wanted
    {
        return Verdict::Fatal(Error::Size { found: length.to_string(), wanted });
    }
    let changed = is_another(ask, &validator, length);
    let file = File { total: length.or(ask.size), validator };
    match (ask.offset, ask.until) {
        (0, None) => Verdict::Body(file),
        _ if changed => Verdict::Changed(Some(file)),
        _ => Verdict::Whole(file),
    }
}

fn judge_part(ask: &Ask, headers: &HeaderMap, length: Option<u64>, validator: Validator) -> Verdict {
    if ask.offset == 0 && ask.until.is_none() {
        return Verdict::Fatal(answer(ask, "a part although the whole was asked for".into()));
    }
    let range = text(headers, CONTENT_RANGE).and_then(|range| content_range(&range));
    let Some((first, last, total)) = range else {
        return Verdict::RangeRefused("a part without saying which".into());
    };
    let wanted = ask.until.map_or(total, |until| until.min(total)) - 1;
    if first != ask.offset || last != wanted || length.is_some_and(|length| length != last - first + 1) {
        return Verdict::RangeRefused(format!("bytes {first}-{last}, asked for {}-{wanted}", ask.offset));
    }
    if is_another(ask, &validator, Some(total)) {
        return Verdict::Changed(None);
    }
    if let Some(wanted) = ask.size.filter(|size| *size != total) {
        return Verdict::Fatal(Error::Size { found: total.to_string(), wanted });
    }
    let known = ask.validator.clone();
    // Of ranges the last one counts: whether the next one is of the same file is told by whoever sends that.
    let validator = if ask.until.is_some() { validator.or(known) } else { known.or(validator) };
    Verdict::Body(File { total: Some(total), validator })
}

/// Whether the file is not the one that was begun. Whoever asks for ranges checks each piece by itself, and where several
/// servers share an address, each may have a name and a time of its own for the same file: there only its length counts.
fn is_another(ask: &Ask, validator: &Validator, total: Option<u64>) -> bool {
    let is_as_long = ask.total.zip(total).is_none_or(|(then, now)| then == now);
    !is_as_long || ask.until.is_none() && differs(&ask.validator, validator)
}

/// `bytes 21010-47021/47022` (RFC 9110, section 14.4). A length of `*` is not good enough to put parts together.
fn content_range(text: &str) -> Option<(u64, u64, u64)> {
    let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?;
    let (first, last, total): (u64, u64, u64) = (number(first)?, number(last)?, number(total)?);
    (first <= last && last < total).then_some((first, last, total))
}

/// Whether both name a version of the file, and not the same. A strong entity tag is one of all its bytes (RFC 9110,
/// section 8.8.1), whatever time the server's copy is of.
pub(super) fn differs(then: &Validator, now: &Validator) -> bool {
    if then.strong().is_some() && then.strong() == now.strong() {
        return false;
    }
    let other = |then: &Option<String>, now: &Option<String>| match (then, now) {
        (Some(then), Some(now)) => then != now,
        (None, _) | (_, None) => false,
    };
    other(&then.etag, &now.etag) || other(&then.last_modified, &now.last_modified)
}

fn validator(headers: &HeaderMap) -> Validator {
    let short = |name| text(headers, name).filter(|value| value.len() <= LONGEST_VALIDATOR);
    Validator { etag: short(ETAG), last_modified: short(LAST_MODIFIED) }
}

impl Validator {
    /// What to send as `If-Range`: a strong entity tag, or the time of the last change.
    pub(super) fn if_range(&self) -> Option<&str> {
        self.strong().or(self.last_modified.as_deref())
    }

    fn strong(&self) -> Option<&str> {
        self.etag.as_deref().filter(|etag| etag.starts_with('"'))
    }

    fn or(self, other: Self) -> Self {
        Self { etag: self.etag.or(other.etag), last_modified: self.last_modified.or(other.last_modified) }
    }
}

/// `Retry-After` in either of its forms (RFC 9110, section 10.2.3); nonsense is as good as nothing.
fn retry_after(headers: &HeaderMap, now: u64) -> Option<Duration> {
    let value = text(headers, RETRY_AFTER)?;
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    Some(Duration::from_secs(http_date(value)?.saturating_sub(now)))
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`, the one form that servers may send, as Unix time.
fn http_date(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let rest = text.split_once(", ")?.1.strip_suffix(" GMT")?;
    let mut words = rest.split(' ');
    let day: u64 = words.next()?.parse().ok()?;
    let name = words.next()?;
    let month = MONTHS.iter().position(|month| *month == name)? as u64 + 1;
    let year: u64 = words.next()?.parse().ok()?;
    let mut clock = words.next()?.split(':').map(|part| part.parse::<u64>().ok().filter(|n| *n < 61));
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    if !(1970..10_000).contains(&year) || !(1..=31).contains(&day) {
        return None;
    }
    // Years begin in March, so that a leap day is the last of its year.
    let (years, months) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = years * 365 + years / 4 - years / 100 + years / 400 + (153 * months + 2) / 5 + day - 1;
    Some((days - 719_468) * 86_400 + hour * 3600 + minute * 60 + second)
}

/// Where a redirect leads: https, to a host, without a user name, and not where we have been.
pub(super) fn follow(from: &Url, location: &str, been: &[Url]) -> Result<Url, Error> {
    let host = from.host_str().unwrap_or_default();
    let refuse = |why: &str| Err(Error::Redirect(format!("from {host} {why}")));
    let Ok(mut next) = from.join(location) else {
        return refuse("to something that is no address");
    };
    next.set_fragment(None);
    if next.scheme() != "https" {
        return refuse("to an address that is not https");
    }
    if !next.username().is_empty() || next.password().is_some() || !next.has_host() {
        return refuse("to an address with a user name");
    }
    if been.contains(&next) {
        return refuse("leads in a circle");
    }
    Ok(next)
}

fn answer(ask: &Ask, what: String) -> Error {
    Error::Answer { host: ask.host.clone(), what }
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_unix_times() {
        for (text, time) in [
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777)),
            ("Tue, 29 Feb 2000 12:00:00 GMT", Some(951_825_600)),
            ("Tue, 19 Jan 2038 03:14:08 GMT", Some(2_147_483_648)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", None),
            ("Sun, 99 Nov 1994 08:49:37 GMT", None),
            ("Sun, 06 Nov 1994 08:77:37 GMT", None),
            ("tomorrow", None),
            ("", None),
        ] {
            assert_eq!(http_date(text), time, "{text}");
        }
    }

    #[test]
    fn p048_a_wait_that_cannot_be_read_is_none() {
        let now = 784_111_777;
        for (text, wait) in [
            ("0", Some(0)),
            ("120", Some(120)),
            (" 7 ", Some(7)),
            ("99999999999999999999", Some(u64::MAX)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60)),
            ("Sun, 06 Nov 1994 08:48:37 GMT", Some(0)),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
            ("", None),
        ] {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, text.parse().expect("a header"))]);
            assert_eq!(retry_after(&headers, now), wait.map(Duration::from_secs), "{text}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }

    #[test]
    fn only_strong_validators_make_a_condition() {
        let validator = |etag: Option<&str>, time: Option<&str>| Validator {
            etag: etag.map(Into::into),
            last_modified: time.map(Into::into),
        };
        assert_eq!(validator(Some("\"a\""), Some("then")).if_range(), Some("\"a\""));
        assert_eq!(validator(Some("W/\"a\""), Some("then")).if_range(), Some("then"));
        assert_eq!(validator(Some("W/\"a\""), None).if_range(), None);
        assert!(differs(&validator(Some("W/\"a\""), None), &validator(Some("W/\"b\""), None)));
        assert!(differs(&validator(None, Some("then")), &validator(Some("a"), Some("now"))));
        assert!(!differs(&validator(None, Some("then")), &validator(Some("a"), None)));
        // Copies of a file have times of their own.
        let at = |etag, time| validator(Some(etag), Some(time));
        assert!(!differs(&at("\"a\"", "then"), &at("\"a\"", "now")));
        assert!(differs(&at("W/\"a\"", "then"), &at("W/\"a\"", "now")));
        assert!(differs(&at("\"a\"", "then"), &at("\"b\"", "then")));
    }

    #[test]
    fn of_ranges_only_the_length_says_that_the_file_is_another_one() {
        let ask = |until, total| Ask {
            host: "host".into(),
            offset: 100,
            until,
            total: Some(total),
            size: None,
            validator: Validator { etag: Some("\"a\"".into()), last_modified: Some("then".into()) },
        };
        let of = |etag: &'static str| HeaderMap::from_iter([(ETAG, etag.parse().expect("a header"))]);
        let part = |until: Option<u64>, etag| {
            let range = format!("bytes 100-{}/900", until.unwrap_or(900) - 1);
            let mut headers = of(etag);
            headers.insert(CONTENT_RANGE, range.parse().expect("a header"));
            headers
        };
        let judged = |ask: &Ask, status, headers: &HeaderMap| judge(ask, status, headers, None, 0);
        let (partial, ok) = (StatusCode::PARTIAL_CONTENT, StatusCode::OK);
        for etag in ["\"a\"", "\"b\""] {
            let (until, is_same) = (Some(200), etag == "\"a\"");
            let found = judged(&ask(until, 900), partial, &part(until, etag));
            assert!(matches!(found, Verdict::Body(file) if file.validator.etag.as_deref() == Some(etag)));
            assert!(matches!(judged(&ask(until, 901), partial, &part(until, etag)), Verdict::Changed(None)));
            assert!(matches!(judged(&ask(until, 900), ok, &of(etag)), Verdict::Whole(_)));
            // The rest of a file has to be of that file.
            let found = judged(&ask(None, 900), partial, &part(None, etag));
            assert_eq!(matches!(found, Verdict::Body(_)), is_same);
            assert_eq!(matches!(found, Verdict::Changed(None)), !is_same);
        }
    }
}
