//! Searching the earlier messages of a conversation.

use serde::Serialize;

use super::Place;
use crate::{
    App,
    domain::message::{Message, Range, Role, Seq},
};

/// How far back is searched, in messages.
const FARTHEST: usize = 1_000;
/// How many are read at once.
const AT_ONCE: usize = 100;
/// How much is read at most, in bytes: who sends long messages is not to make each search dear.
const MOST: usize = 2 * 1024 * 1024;
/// How many different words are looked for: each is looked for in all that is read.
const MOST_WORDS: usize = 16;
/// How many messages are shown.
const HITS: usize = 10;
/// How much of each is shown, in bytes: about so much before the words that were found, and in all.
const SHOWN: (usize, usize) = (120, 480);

#[derive(Serialize)]
struct Hits {
    /// How many messages were looked at, the newest before the question.
    looked_at: usize,
    /// Whether there may be earlier ones that were not.
    earlier_not_looked_at: bool,
    messages: Vec<Hit>,
}

#[derive(Serialize)]
struct Hit {
    at: String,
    by: &'static str,
    text: String,
}

impl App {
    /// The newest messages before the question that hold all words of `query`, as JSON.
    pub(super) async fn search(&self, query: &str, place: Place<'_>) -> Result<String, String> {
        let past = place.past.ok_or("there are no earlier messages here")?;
        let query = query.to_lowercase();
        let words = words(&query)?;
        let (mut hits, mut before) = (Vec::new(), past.before);
        let (mut seen, mut read) = (0, 0);
        'reading: while before > Seq::FIRST {
            if hits.len() >= HITS || seen >= FARTHEST || read >= MOST {
                break;
            }
            let range = Range {
                after: None,
                before: Some(before),
                limit: AT_ONCE,
            };
            let stretch = self.stores().messages.range_about(past.log, range).await;
            let messages = stretch.map_err(|fault| {
                tracing::warn!(error = fault.why(), "messages could not be searched");
                "the messages cannot be read now"
            })?;
            if messages.messages.is_empty() {
                before = Seq::FIRST;
                break;
            }
            let newest_first = messages.messages.iter().rev();
            for message in newest_first {
                if hits.len() >= HITS || read >= MOST {
                    break 'reading;
                }
                before = message.seq;
                seen += 1;
                read += message.content.len();
                hits.extend(hit(message, &words));
            }
        }
        let found = Hits {
            looked_at: seen,
            earlier_not_looked_at: before > Seq::FIRST,
            messages: hits,
        };
        serde_json::to_string(&found).map_err(|_| "the messages cannot be shown".to_owned())
    }
}

/// The words of `query`, each once.
fn words(query: &str) -> Result<Vec<&str>, String> {
    let mut words: Vec<_> = query.split_whitespace().collect();
    words.sort_unstable();
    words.dedup();
    if words.len() > MOST_WORDS {
        return Err(format!("too many words: at most {MOST_WORDS}"));
    }
    Ok(words)
}

/// `message`, if it holds all of `words`, which are in small letters, in any order: what is around the first of them that it
/// says.
fn hit(message: &Message, words: &[&str]) -> Option<Hit> {
    let small = message.content.to_lowercase();
    let mut found = small.len();
    for word in words {
        found = found.min(small.find(word)?);
    }
    // Small letters are sometimes longer or shorter: about here.
    let content = &message.content;
    let (begin, length) = (found.saturating_sub(SHOWN.0), SHOWN.1);
    let begin = content.floor_char_boundary(begin);
    let end = content.floor_char_boundary(begin.saturating_add(length));
    Some(Hit {
        at: message.created_at.to_string(),
        by: match message.role {
            Some(Role::User) => "user",
            Some(Role::Assistant) => "assistant",
            None => "member",
        },
        text: content[begin..end].to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{MessageId, Timestamp, UserId};

    fn message(content: &str) -> Message {
        Message {
            id: MessageId::new(Seq::FIRST, 7),
            seq: Seq::FIRST,
            author: UserId::parse("user", "alice").unwrap(),
            role: Some(Role::User),
            in_reply_to: None,
            answer: None,
            content: content.to_owned(),
            meta: None,
            created_at: Timestamp::from_micros(0),
            edited_at: None,
            deleted_at: None,
        }
    }

    #[test]
    fn words_are_found_whatever_their_capitals() {
        assert!(hit(&message("My CAT is Grün"), &["cat", "is", "grün"]).is_some());
        assert!(hit(&message("My dog"), &["cat"]).is_none());
        assert!(hit(&message(""), &["cat"]).is_none());
    }

    #[test]
    fn all_words_are_found_in_any_order_and_none_is_left_out() {
        let said = message("The launch code is four,\n\tand the colour is blue");
        assert!(hit(&said, &["blue", "launch", "code"]).is_some());
        assert!(hit(&said, &["blue", "launch", "red"]).is_none());
    }

    #[test]
    fn each_word_is_looked_for_once_and_more_than_sixteen_are_refused() {
        assert_eq!(words("cat dog  cat\ncat").unwrap(), ["cat", "dog"]);
        let sixteen: Vec<_> = (0..MOST_WORDS).map(|n| n.to_string()).collect();
        let sixteen = sixteen.join(" ");
        let twice = format!("{sixteen} {sixteen}");
        assert_eq!(words(&twice).unwrap().len(), MOST_WORDS);
        let why = words(&format!("{sixteen} more")).unwrap_err();
        assert_eq!(why, "too many words: at most 16");
    }

    #[test]
    fn of_a_long_message_the_words_and_what_is_around_them_is_shown() {
        let content = format!("{}needle{}", "ä".repeat(5_000), "ö".repeat(5_000));
        let shown = hit(&message(&content), &["needle"]).unwrap().text;
        assert!(shown.contains("needle") && shown.len() <= SHOWN.1);
    }

    #[test]
    fn letters_whose_small_ones_are_longer_do_no_harm() {
        // Two bytes each, three in small letters.
        let content = format!("{}needle", "İ".repeat(2_000));
        assert!(hit(&message(&content), &["needle"]).is_some());
    }
}
