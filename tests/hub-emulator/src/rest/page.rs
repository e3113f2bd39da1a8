//! The browser page: one file, compiled in. It asks the doors below `/emulator` and nobody else, which its policy
//! (`Content-Security-Policy`) holds the browser to.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::Response;
use hyper::header::{self, HeaderName, HeaderValue};
use sha2::{Digest as _, Sha256};

use crate::images::{Body, full};

const PAGE: &str = include_str!("../page/page.html");

/// Nothing but the one script and the one style of the page, by their hashes.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let (style, script) = (hash("style"), hash("script"));
    format!(
        "default-src 'none'; style-src {style}; script-src {script}; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
});

/// The page.
pub(super) fn serve() -> Response<Body> {
    let mut response = Response::new(full(PAGE));
    let policy =
        HeaderValue::from_str(&POLICY).unwrap_or_else(|_| HeaderValue::from_static("default-src 'none'"));
    for (name, value) in [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
        (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
    ] {
        response.headers_mut().insert(name, value);
    }
    response
}

/// The source expression of the page's one element of this name.
fn hash(element: &str) -> String {
    let content = PAGE.split_once(&format!("<{element}>")).map_or("", |(_, rest)| rest);
    let content = content.split_once(&format!("</{element}>")).map_or("", |(content, _)| content);
    format!("'sha256-{}'", STANDARD.encode(Sha256::digest(content)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_one_file_that_needs_nothing_from_elsewhere() {
        for element in ["style", "script"] {
            assert_eq!(PAGE.matches(&format!("<{element}")).count(), 1);
            assert_ne!(hash(element), hash("nothing"));
        }
        // Neither resources nor the means to take text for markup.
        for word in [
            "http://",
            "https://cdn",
            "src=",
            "@import",
            "url(",
            "innerHTML",
            "eval(",
            " style=",
            " onclick=",
        ] {
            assert!(!PAGE.contains(word), "{word}");
        }
    }
}
