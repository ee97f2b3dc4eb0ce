//! Chats: conversations with an agent.

use std::collections::VecDeque;

use super::{
    AgentId, ChatId, Error, Sees, Timestamp, UserId,
    agent::Profile,
    message::{Message, Role},
    model::Turn,
    text,
};

/// How many messages a model is told at most, the one to be answered included.
pub const WINDOW_MESSAGES: usize = 20;
/// How many tokens a model is told at most, beside the message to be answered; four bytes are taken for one.
pub const WINDOW_TOKENS: usize = 8_000;
const BYTES_PER_TOKEN: usize = 4;

/// What who names a chat that is not there, or not there for them, is answered.
pub const NO_CHAT: Error = Error::NotFound("Chat");

/// A chat's head.
#[derive(Debug, Clone)]
pub struct Chat {
    /// Its id.
    pub id: ChatId,
    /// Who answers in it.
    pub agent: AgentId,
    /// What kind of agent that was when the chat was made: what lists are filtered by.
    pub kind: String,
    /// Whose it is, in the team's words; of nobody in particular without it.
    pub user: Option<UserId>,
    /// Whether the team attached something when it was made. It lies apart: what is said in a chat does not carry it.
    pub has_metadata: bool,
    /// When it was made.
    pub created_at: Timestamp,
}

impl Chat {
    /// The most bytes of a chat's metadata.
    pub const MAX_METADATA: usize = 16 * 1024;
}

/// A chat as lists show it.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Its id.
    pub id: ChatId,
    /// Who answers in it.
    pub agent: AgentId,
    /// What kind of agent that was when the chat was made.
    pub kind: String,
    /// Whose it is.
    pub user: Option<UserId>,
    /// When it was made.
    pub created_at: Timestamp,
}

impl From<&Chat> for Listed {
    fn from(chat: &Chat) -> Self {
        Self {
            id: chat.id,
            agent: chat.agent,
            kind: chat.kind.clone(),
            user: chat.user.clone(),
            created_at: chat.created_at,
        }
    }
}

/// Which chats of a team are listed: all without it.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Those of this user.
    pub user: Option<UserId>,
    /// Those with an agent of this kind.
    pub kind: Option<String>,
}

impl Filter {
    /// Reads parameter `agentType`, in which no agent's kind is longer than an agent's kind may be.
    pub fn kind(kind: &str) -> Result<String, Error> {
        text::check("agentType", kind, Profile::MAX_KIND)?;
        Ok(kind.to_owned())
    }
}

/// Whose chats are whose.
impl Sees {
    /// Whose chat this caller makes, who names `user`.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`] if that is not the one user it may speak for.
    pub fn makes_for(&self, user: Option<UserId>) -> Result<Option<UserId>, Error> {
        match (self, user) {
            (Self::Team | Self::Named, user) => Ok(user),
            (Self::Only(own), None) => Ok(Some(own.clone())),
            (Self::Only(own), Some(user)) if *own == user => Ok(Some(user)),
            (Self::Only(_), Some(_)) => Err(NOT_ITS_USER),
        }
    }

    /// Whose chats this caller lists, who names `user`: everybody's if nobody's.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`] if that is not the one user it may speak for, [`Error::Invalid`] if it must name one.
    pub fn lists(&self, user: Option<UserId>) -> Result<Option<UserId>, Error> {
        match (self, user) {
            (Self::Named, None) => Err(Error::invalid(
                "userId",
                "Missing userId. A publishable key lists the chats of one user",
            )),
            (Self::Team | Self::Only(_), user) => self.makes_for(user),
            (Self::Named, user) => Ok(user),
        }
    }

    /// Whether a chat of `owner` is there for this caller, who names `user` or nobody.
    pub fn sees(&self, owner: Option<&UserId>, user: Option<&UserId>) -> bool {
        let is_own = match self {
            Self::Team | Self::Named => true,
            Self::Only(own) => owner == Some(own),
        };
        is_own && (user.is_none() || user == owner)
    }
}

const NOT_ITS_USER: Error = Error::Forbidden("This key was made for another user");

/// What a model is told of `messages`, which end with the one to be answered: the last of them, as many as fit.
///
/// It begins with what a person said: several providers take nothing else, and an answer says little without its
/// question. Each answer comes right after its question, wherever it is in the log. What is blank is left out, since
/// several providers refuse it; but not what is to be answered.
pub fn window(messages: &[Message]) -> Vec<Turn> {
    let mut left = WINDOW_TOKENS * BYTES_PER_TOKEN;
    let mut told = VecDeque::new();
    for (back, message) in messages.iter().rev().take(WINDOW_MESSAGES).enumerate() {
        // The last one is what it is all about.
        if back > 0 {
            match left.checked_sub(message.content.len()) {
                Some(rest) => left = rest,
                None => break,
            }
            if message.content.trim().is_empty() {
                continue;
            }
        }
        told.push_front(message);
    }
    let turn = |message: &Message| match message.role {
        Some(Role::Assistant) => Turn::Assistant {
            text: message.content.clone(),
            calls: Vec::new(),
        },
        Some(Role::User) | None => Turn::User(message.content.clone()),
    };
    let mut turns = Vec::new();
    for message in &told {
        match (message.role, message.in_reply_to) {
            // It came with its question, or has none here.
            (Some(Role::Assistant), Some(_)) => {}
            (Some(Role::Assistant), None) if turns.is_empty() => {}
            (Some(Role::Assistant | Role::User) | None, _) => {
                let answer = told.iter().find(|it| it.in_reply_to == Some(message.id));
                turns.push(turn(message));
                turns.extend(answer.map(|answer| turn(answer)));
            }
        }
    }
    turns
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MessageId, message::Seq};

    fn user(id: &str) -> UserId {
        UserId::parse("userId", id).unwrap()
    }

    fn said(seq: u64, role: Role, content: &str) -> Message {
        Message {
            id: MessageId::new(Seq::new(seq), 1),
            seq: Seq::new(seq),
            author: user("u"),
            role: Some(role),
            in_reply_to: None,
            answer: None,
            content: content.to_owned(),
            meta: None,
            created_at: Timestamp::from_micros(0),
            edited_at: None,
            deleted_at: None,
        }
    }

    fn asked(text: &str) -> Turn {
        Turn::User(text.to_owned())
    }

    /// So many messages, questions and answers in turn, the last one a question.
    fn talk(messages: u64, bytes: usize) -> Vec<Message> {
        let role = |seq| match (messages - seq) % 2 {
            0 => Role::User,
            _ => Role::Assistant,
        };
        let messages = 1..=messages;
        messages
            .map(|seq| said(seq, role(seq), &format!("{seq:0bytes$}")))
            .collect()
    }

    #[test]
    fn a_model_is_told_the_last_messages_from_a_question_on() {
        let told = window(&talk(101, 1));
        assert_eq!(told.len(), 19);
        assert_eq!(told[0], asked("83"));
        assert_eq!(told[18], asked("101"));
        assert_eq!(window(&talk(7, 1)).len(), 7);
    }

    #[test]
    fn a_model_is_told_no_more_than_fits_beside_the_question() {
        let told = window(&talk(9, 8_000));
        // Four times 8,000 bytes are 8,000 tokens.
        assert_eq!(told.len(), 5);
        assert_eq!(window(&talk(9, 40_000)).len(), 1);
    }

    #[test]
    fn an_answer_is_told_right_after_its_question() {
        let mut log = vec![
            said(1, Role::User, "one"),
            said(2, Role::User, "two"),
            said(3, Role::Assistant, "to two"),
            said(4, Role::Assistant, "to one"),
            said(5, Role::User, "three"),
        ];
        log[2].in_reply_to = Some(log[1].id);
        log[3].in_reply_to = Some(log[0].id);
        let answered = |text: &str| Turn::Assistant {
            text: text.to_owned(),
            calls: Vec::new(),
        };
        let (one, two) = (asked("one"), asked("two"));
        let told = [
            one,
            answered("to one"),
            two,
            answered("to two"),
            asked("three"),
        ];
        assert_eq!(window(&log), told);
        // Nothing of what came after the one that is to be answered, and nothing without its question.
        assert_eq!(window(&log[..2]), [asked("one"), asked("two")]);
        assert_eq!(window(&log[1..]), told[2..]);
    }

    #[test]
    fn what_is_blank_is_left_out_but_not_what_is_to_be_answered() {
        let mut log = vec![
            said(1, Role::User, "one"),
            said(2, Role::Assistant, " \n"),
            said(3, Role::User, "\t"),
            said(4, Role::Assistant, "to nothing"),
            said(5, Role::User, " "),
        ];
        log[1].in_reply_to = Some(log[0].id);
        log[3].in_reply_to = Some(log[2].id);
        assert_eq!(window(&log), [asked("one"), asked(" ")]);
    }

    #[test]
    fn a_key_of_one_user_makes_lists_and_sees_the_chats_of_that_user_alone() {
        let key = Sees::Only(user("ann"));
        assert_eq!(key.makes_for(None).unwrap(), Some(user("ann")));
        assert_eq!(key.lists(None).unwrap(), Some(user("ann")));
        assert!(key.makes_for(Some(user("bob"))).is_err());
        assert!(key.lists(Some(user("bob"))).is_err());
        assert!(key.sees(Some(&user("ann")), None));
        assert!(!key.sees(Some(&user("bob")), None));
        assert!(!key.sees(None, None));
    }

    #[test]
    fn a_key_that_visitors_share_lists_the_chats_of_a_user_it_names() {
        assert!(Sees::Named.lists(None).is_err());
        assert_eq!(
            Sees::Named.lists(Some(user("ann"))).unwrap(),
            Some(user("ann"))
        );
        assert!(Sees::Named.sees(Some(&user("ann")), None));
    }

    #[test]
    fn who_names_a_user_sees_no_chat_of_another() {
        for key in [Sees::Team, Sees::Named] {
            assert!(key.sees(Some(&user("ann")), Some(&user("ann"))));
            assert!(!key.sees(Some(&user("ann")), Some(&user("bob"))));
            assert!(!key.sees(None, Some(&user("bob"))));
        }
        assert_eq!(Sees::Team.lists(None).unwrap(), None);
    }
}
