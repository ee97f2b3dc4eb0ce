//! The text of a web page: roughly what a reader sees of it. For a model to read, never to be shown as HTML.

/// Elements whose content nobody reads.
const UNREAD: [&str; 5] = ["script", "style", "noscript", "template", "svg"];
/// Elements that begin a line of their own.
const BLOCKS: [&str; 24] = [
    "address",
    "article",
    "aside",
    "blockquote",
    "br",
    "dd",
    "div",
    "dt",
    "footer",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "header",
    "hr",
    "li",
    "main",
    "p",
    "section",
    "table",
    "title",
    "tr",
];
/// The longest reference to a character that is read, in bytes.
const LONGEST_REFERENCE: usize = 10;

/// The text of `html`. Takes time in proportion to its length, however it is made.
pub fn text_of(html: &str) -> String {
    let mut text = Text::default();
    let mut rest = html;
    while let Some(begin) = rest.find('<') {
        text.add(&rest[..begin]);
        rest = &rest[begin..];
        rest = match rest.strip_prefix("<!--") {
            Some(comment) => after(comment, "-->"),
            None => tag(rest, &mut text),
        };
    }
    text.add(rest);
    text.0.trim().to_owned()
}

/// What follows the tag that `rest` begins with; a `<` that begins none is text.
fn tag<'a>(rest: &'a str, text: &mut Text) -> &'a str {
    let inner = &rest[1..];
    let inner = inner.strip_prefix('/').unwrap_or(inner);
    let is_closing = inner.len() + 2 == rest.len();
    let name: String = inner
        .chars()
        .take_while(char::is_ascii_alphanumeric)
        .map(|letter| letter.to_ascii_lowercase())
        .take(12)
        .collect();
    if name.is_empty() && !inner.starts_with(['!', '?']) {
        text.add("<");
        return &rest[1..];
    }
    if BLOCKS.contains(&name.as_str()) {
        text.line();
    }
    let rest = after(inner, ">");
    if is_closing || !UNREAD.contains(&name.as_str()) {
        return rest;
    }
    // Up to where it is closed, in whatever case that is written.
    let closing = format!("</{name}");
    let found = rest.match_indices("</").find(|(at, _)| {
        let there = rest.get(*at..at + closing.len());
        there.is_some_and(|there| there.eq_ignore_ascii_case(&closing))
    });
    found.map_or("", |(at, _)| after(&rest[at..], ">"))
}

/// What follows the first `end` in `text`; nothing without one.
fn after<'a>(text: &'a str, end: &str) -> &'a str {
    text.split_once(end).map_or("", |(_, rest)| rest)
}

/// Text in which spaces are one, and lines end where blocks do.
#[derive(Default)]
struct Text(String);

impl Text {
    fn add(&mut self, text: &str) {
        let mut rest = text;
        while let Some(letter) = rest.chars().next() {
            let (letter, length) = if letter == '&' {
                referenced(rest).unwrap_or((letter, 1))
            } else {
                (letter, letter.len_utf8())
            };
            rest = &rest[length..];
            if letter.is_whitespace() {
                if !self.0.is_empty() && !self.0.ends_with([' ', '\n']) {
                    self.0.push(' ');
                }
            } else if !letter.is_control() {
                self.0.push(letter);
            }
        }
    }

    fn line(&mut self) {
        let length = self.0.trim_end_matches(' ').len();
        self.0.truncate(length);
        if !self.0.is_empty() && !self.0.ends_with('\n') {
            self.0.push('\n');
        }
    }
}

/// The character that the reference at the beginning of `text` stands for, and how long the reference is.
fn referenced(text: &str) -> Option<(char, usize)> {
    let end = text
        .bytes()
        .take(LONGEST_REFERENCE)
        .position(|byte| byte == b';')?;
    let name = &text[1..end];
    let letter = match name {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        "nbsp" => ' ',
        "ndash" => '–',
        "mdash" => '—',
        "hellip" => '…',
        _ => {
            let number = name.strip_prefix('#')?;
            let number = match number.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16),
                None => number.parse(),
            };
            number.ok().and_then(char::from_u32)?
        }
    };
    Some((letter, end + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_page_is_what_is_read_of_it() {
        let html = "<!doctype html><html><head><title>Tea &amp; co</title><style>p{color:red}</style></head>\
                    <body><!-- <p>hidden</p> --><SCRIPT>if (1 < 2) alert('</p>')</SCRIPT >\
                    <h1>Tea</h1>\n\n  <p>Green&nbsp;tea,  <b>black</b>\ttea &#8212; &#x41;</p><p>1 < 2</p></body>";
        let text = "Tea & co\nTea\nGreen tea, black tea — A\n1 < 2";
        assert_eq!(text_of(html), text);
    }

    #[test]
    fn what_is_not_closed_ends_with_the_page() {
        for html in [
            "a<!-- b",
            "a<script>b",
            "a<p b",
            "a<script",
            "a<style>b</styl",
            "a<",
        ] {
            let text = text_of(html);
            assert!(text == "a" || text == "a<", "{html}: {text}");
        }
    }

    #[test]
    fn a_reference_to_nothing_is_text() {
        for html in [
            "&",
            "&;",
            "&bogus;",
            "&#xD800;",
            "&#99999999;",
            "&#;",
            "&amp",
            "&é;",
        ] {
            assert_eq!(text_of(html), html);
        }
    }

    #[test]
    fn a_page_of_nothing_but_openings_takes_no_longer_than_its_length() {
        for piece in [
            "<",
            "<!--",
            "<script>",
            "&",
            "</",
            "<p",
            "</p",
            "<script></scrip",
        ] {
            let page = piece.repeat(256 * 1024 / piece.len());
            assert!(text_of(&page).len() <= page.len());
        }
    }
}
