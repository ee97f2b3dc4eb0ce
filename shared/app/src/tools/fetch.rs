//! Reading a page of the public Web.

use super::Place;
use crate::{App, domain::tool::page::text_of, providers::outbound::Fetched};

/// How much of what a page says of itself is repeated, in bytes.
const SHOWN: usize = 128;

impl App {
    /// The text of the page at `url`, with its status and where it came from.
    pub(super) async fn fetch(&self, url: &str, place: Place<'_>) -> Result<String, String> {
        let web = self.0.means.fetcher.as_ref();
        let web = web.ok_or("pages cannot be read here")?;
        let page = web.get(url, place.moment.deadline).await;
        let page = page.map_err(|why| format!("the page was not read: {why}"))?;
        let text = readable(&page)?;
        let cut = if page.is_cut {
            "\nOnly the beginning of the page was read."
        } else {
            ""
        };
        let Fetched { status, url, .. } = &page;
        Ok(format!("Status: {status}\nAddress: {url}{cut}\n\n{text}"))
    }
}

/// The text of what was fetched, if it is text.
fn readable(fetched: &Fetched) -> Result<String, String> {
    let kind = fetched.kind.as_deref().unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default();
    let kind = kind.trim().to_ascii_lowercase();
    let is_text = kind.starts_with("text/")
        || [
            "application/json",
            "application/xml",
            "application/xhtml+xml",
        ]
        .contains(&kind.as_str())
        || (kind.starts_with("application/") && kind.ends_with("+json"));
    // Who says nothing of a page may mean any.
    let is_unsaid = kind.is_empty() && std::str::from_utf8(&fetched.body).is_ok();
    if !is_text && !is_unsaid {
        let kind = &kind[..kind.floor_char_boundary(SHOWN)];
        return Err(format!("the page is not text but {kind:?}"));
    }
    let text = String::from_utf8_lossy(&fetched.body);
    Ok(
        if kind.ends_with("html") || kind == "application/xhtml+xml" {
            text_of(&text)
        } else {
            text.replace('\0', "")
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fetched(kind: Option<&str>, body: &[u8]) -> Fetched {
        Fetched {
            status: 200,
            url: "https://example.com/".to_owned(),
            kind: kind.map(ToOwned::to_owned),
            body: body.to_vec(),
            is_cut: false,
        }
    }

    #[test]
    fn text_is_read_as_it_is_and_a_page_as_people_see_it() {
        let html = b"<p>a</p><script>b</script>";
        for kind in [
            "text/html; charset=utf-8",
            "TEXT/HTML",
            "application/xhtml+xml",
        ] {
            assert_eq!(readable(&fetched(Some(kind), html)).unwrap(), "a");
        }
        for kind in ["text/plain", "application/json", "application/ld+json"] {
            assert_eq!(readable(&fetched(Some(kind), b"{}")).unwrap(), "{}");
        }
        assert_eq!(readable(&fetched(None, b"hi")).unwrap(), "hi");
    }

    #[test]
    fn what_is_no_text_is_not_read() {
        for kind in ["image/png", "application/octet-stream", "video/mp4", "x"] {
            assert!(readable(&fetched(Some(kind), b"hi")).is_err(), "{kind}");
        }
        assert!(readable(&fetched(None, b"\xff\xfe")).is_err());
    }

    #[test]
    fn what_is_badly_encoded_is_read_all_the_same() {
        let text = readable(&fetched(Some("text/plain"), b"a\xffb\0")).unwrap();
        assert_eq!(text, "a\u{fffd}b");
    }
}
