//! What a model was told and what it wanted called, round by round.
//!
//! **Invariant:** however a model behaves, an answer takes at most [`MAX_ROUNDS`] rounds of calls and one more question,
//! each round at most [`MAX_CALLS`] calls, all of them at most [`MAX_MADE`] that are made, and each call adds at most
//! [`MAX_ARGUMENTS`] and [`MAX_RESULT`] bytes to what is told; of one that is beyond them it is told that the limit is reached.
//! How many a reply holds is bounded where it is heard. No tool is called that the agent was not given.

use crate::domain::{
    model::{Finish, ModelReply, Tokens, ToolCall, ToolSpec, Turn},
    tool::Tool,
};

/// How often tools are called before a model has to answer.
pub(super) const MAX_ROUNDS: usize = 5;
/// How many calls of one round are made; of more a model is told that they are too many.
pub(super) const MAX_CALLS: usize = 8;
/// The longest arguments of a call that is told again without being made, in bytes.
const MAX_PASSED_OVER: usize = 1_024;
/// How many calls are made for one answer: what is called beyond is told so.
pub(super) const MAX_MADE: usize = 16;
/// How many of these search the conversation: each reads much of it.
const MAX_SEARCHES: usize = 3;
/// How many of these read pages.
const MAX_FETCHES: usize = 5;
/// The longest arguments of a call, in bytes.
pub(super) const MAX_ARGUMENTS: usize = 8 * 1024;
/// The longest result of a call, in bytes: more is cut.
pub(super) const MAX_RESULT: usize = 8 * 1024;
/// The longest name and id of a call, in bytes: who makes up more is not talked to.
const MAX_NAME: usize = 256;
/// The longest name of a tool that all providers take, in bytes.
const MAX_TOLD_NAME: usize = 64;
/// What a model is told that it called, if no provider would take what it did.
const NO_NAME: &str = "no_such_tool";

/// What a model is told when it has called for the last time.
const NO_MORE: &str =
    "\n(No more tools can be called for this answer. Answer with what you know now.)";
const CUT: &str = "\n(The rest was cut.)";
/// Why a call is not made.
const LIMIT: &str = "The limit of calls for this answer is reached";
const AT_ONCE: &str = "The limit of 8 calls at once is reached. Call again for this one";

/// A call that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Called {
    /// The name that the model said.
    pub(super) name: String,
    /// What it wanted, as it said it.
    pub(super) arguments: String,
    /// What came of it.
    pub(super) result: String,
}

/// What is to be done about a reply.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The model has said what it has to say.
    Answered(Finish),
    /// It wants these calls, each once, in this order; then it is asked again.
    Call(Vec<Wanted>),
    /// It called on and on, although it was told not to.
    Endless,
}

/// A call that a model wants.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// What the model knows it by.
    id: String,
    name: String,
    /// What it wants.
    pub(super) arguments: String,
    /// The tool, if the agent was given one of that name and can be asked so.
    pub(super) tool: Result<Tool, &'static str>,
}

/// The rounds of one answer.
#[derive(Debug)]
pub(super) struct Rounds<'a> {
    tools: &'a [Tool],
    turns: Vec<Turn>,
    made: usize,
    /// What was granted: it is called, or was.
    granted: Vec<Tool>,
    called: Vec<Called>,
    passed_over: usize,
    /// What the model is told besides the results of this round.
    rest: Rest,
    tokens: Tokens,
    open: Option<Open>,
}

/// The calls of a round that are not made, since there are too many at once.
#[derive(Debug, Default)]
struct Rest {
    /// What the model knows those by of which it is told.
    ids: Vec<String>,
    /// How many there were beside these.
    dropped: usize,
}

/// A round in which a model was asked, and of which nobody has said yet what it used.
#[derive(Debug)]
struct Open {
    /// What it was told, in bytes.
    told: usize,
    /// How many bytes were said before it.
    said: usize,
}

impl<'a> Rounds<'a> {
    /// The rounds that begin after `turns`, in which `tools` may be called.
    pub(super) fn new(turns: &[Turn], tools: &'a [Tool]) -> Self {
        Self {
            tools,
            turns: turns.to_vec(),
            made: 0,
            granted: Vec::new(),
            called: Vec::new(),
            passed_over: 0,
            rest: Rest::default(),
            tokens: Tokens::default(),
            open: None,
        }
    }

    /// What the model is told next.
    pub(super) fn turns(&self) -> &[Turn] {
        &self.turns
    }

    /// The model is asked now, with `system` and `tools` besides the turns; `said` bytes were said before.
    pub(super) fn open(&mut self, system: &str, tools: &[ToolSpec], said: usize) {
        let turns = self.turns.iter().map(|turn| match turn {
            Turn::User(text) => text.len(),
            Turn::Assistant { text, calls } => {
                let calls = calls
                    .iter()
                    .map(|call| call.name.len() + call.arguments.len());
                text.len() + calls.sum::<usize>()
            }
            Turn::Tool { result, .. } => result.len(),
        });
        let tools = tools
            .iter()
            .map(|tool| tool.name.len() + tool.description.len() + tool.parameters.as_str().len());
        let told = turns.sum::<usize>() + tools.sum::<usize>() + system.len();
        self.open = Some(Open { told, said });
    }

    /// The round that was opened used `tokens`, as it is known now.
    pub(super) fn close(&mut self, tokens: Tokens) {
        self.open = None;
        self.tokens += tokens;
    }

    /// Leaves out what somebody said and nobody answered, but for the last of it. Whether there was any, and nothing was
    /// called yet.
    pub(super) fn forget_unanswered(&mut self) -> bool {
        if self.made > 0 {
            return false;
        }
        let before = self.turns.len();
        let mut left = Vec::with_capacity(before);
        let mut turns = std::mem::take(&mut self.turns).into_iter().peekable();
        while let Some(turn) = turns.next() {
            let is_answered = !matches!(turns.peek(), Some(Turn::User(_)));
            if is_answered || !matches!(turn, Turn::User(_)) {
                left.push(turn);
            }
        }
        self.turns = left;
        self.turns.len() < before
    }

    /// What all rounds have used, with `said` bytes said in all. Of an open one that is an estimate: four bytes are taken
    /// for a token.
    pub(super) fn tokens(&self, said: usize) -> Tokens {
        let about = |bytes: usize| u64::try_from(bytes.div_ceil(4)).unwrap_or(u64::MAX);
        let mut tokens = self.tokens;
        if let Some(open) = &self.open {
            tokens += Tokens {
                input: about(open.told),
                output: about(said.saturating_sub(open.said)),
            };
        }
        tokens
    }

    /// All calls that were made, in their order.
    pub(super) fn called(&self) -> &[Called] {
        &self.called
    }

    /// How many calls were not made, since there were too many at once.
    pub(super) const fn passed_over(&self) -> usize {
        self.passed_over
    }

    /// Hears what the model replied.
    pub(super) fn hear(&mut self, reply: ModelReply) -> Step {
        self.close(reply.tokens);
        match reply.finish {
            Finish::Stop | Finish::ToolCalls if !reply.calls.is_empty() => {}
            // What was broken off may have been broken off within a call.
            Finish::Stop
            | Finish::ToolCalls
            | Finish::Length
            | Finish::Filtered
            | Finish::Cancelled => return Step::Answered(reply.finish),
        }
        if self.made >= MAX_ROUNDS {
            return Step::Endless;
        }
        let mut calls = reply.calls;
        let dropped = reply.dropped;
        let passed_over = calls.len().saturating_sub(MAX_CALLS);
        self.passed_over += passed_over.saturating_add(dropped);
        let mut wanted = Vec::new();
        self.rest = Rest {
            ids: Vec::new(),
            dropped,
        };
        for (place, call) in calls.iter_mut().enumerate() {
            if place < MAX_CALLS {
                wanted.push(self.judged(call));
            } else {
                tidy(call, MAX_PASSED_OVER);
                self.rest.ids.push(call.id.clone());
            }
        }
        self.turns.push(Turn::Assistant {
            text: reply.text,
            calls,
        });
        Step::Call(wanted)
    }

    /// What `call` asks for. What is too long of it is taken out, and what providers do not take, since the model is told it
    /// again.
    fn judged(&mut self, call: &mut ToolCall) -> Wanted {
        let tool = Tool::named(&call.name).filter(|tool| self.tools.contains(tool));
        let mut tool = tool.ok_or("There is no such tool");
        if call.arguments.len() > MAX_ARGUMENTS {
            tool = Err("The arguments are too long");
        }
        let tool = tool.and_then(|tool| self.grant(tool));
        let name = tidy(call, MAX_ARGUMENTS);
        Wanted {
            id: call.id.clone(),
            name,
            arguments: call.arguments.clone(),
            tool,
        }
    }

    /// `tool`, if it may be called once more for this answer.
    fn grant(&mut self, tool: Tool) -> Result<Tool, &'static str> {
        let calls = self.granted.iter().filter(|granted| **granted == tool);
        if self.granted.len() >= MAX_MADE || calls.count() >= most(tool) {
            return Err(LIMIT);
        }
        self.granted.push(tool);
        Ok(tool)
    }

    /// Tells what came of each call of the last round, in their order.
    pub(super) fn tell(&mut self, results: Vec<(Wanted, String)>) {
        self.made += 1;
        for (wanted, mut result) in results {
            if result.len() > MAX_RESULT {
                cut(&mut result, MAX_RESULT - CUT.len());
                result.push_str(CUT);
            }
            self.called.push(Called {
                name: wanted.name,
                arguments: wanted.arguments,
                result: result.clone(),
            });
            self.turns.push(Turn::Tool {
                call: wanted.id,
                result,
            });
        }
        let Rest { ids, dropped } = std::mem::take(&mut self.rest);
        // After the last round nothing can be called again.
        let why = if self.made < MAX_ROUNDS {
            AT_ONCE
        } else {
            LIMIT
        };
        self.turns.extend(ids.into_iter().map(|call| Turn::Tool {
            call,
            result: format!("Error: {why}"),
        }));
        if let Some(Turn::Tool { result, .. }) = self.turns.last_mut() {
            if dropped > 0 {
                result.push_str("\n(");
                result.push_str(&dropped.to_string());
                result.push_str(" more calls were not heard.)");
            }
            if self.made == MAX_ROUNDS {
                result.push_str(NO_MORE);
            }
        }
    }
}

/// How often `tool` is called for one answer.
const fn most(tool: Tool) -> usize {
    match tool {
        Tool::SearchMessages => MAX_SEARCHES,
        Tool::HttpFetch => MAX_FETCHES,
        Tool::Calculator | Tool::CurrentTime | Tool::WebSearch | Tool::GenerateImage => MAX_MADE,
    }
}

/// Takes out of `call` what is too long, and what providers do not take, since the model is told it again. The name that it
/// said.
fn tidy(call: &mut ToolCall, longest: usize) -> String {
    if call.arguments.len() > longest {
        "{}".clone_into(&mut call.arguments);
    }
    cut(&mut call.name, MAX_NAME);
    cut(&mut call.id, MAX_NAME);
    let name = call.name.clone();
    if !can_be_told(&name) {
        NO_NAME.clone_into(&mut call.name);
    }
    name
}

/// Whether all providers take `name` as one of a tool that was called. `OpenAI` and Anthropic refuse others.
fn can_be_told(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    (1..=MAX_TOLD_NAME).contains(&name.len()) && name.bytes().all(is_plain)
}

/// Cuts `text` to at most `max` bytes.
fn cut(text: &mut String, max: usize) {
    text.truncate(text.floor_char_boundary(max));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(name: &str, arguments: &str) -> ToolCall {
        ToolCall {
            id: format!("id of {name}"),
            name: name.to_owned(),
            arguments: arguments.to_owned(),
            signatures: Vec::new(),
        }
    }

    fn reply(calls: Vec<ToolCall>, finish: Finish) -> ModelReply {
        ModelReply {
            text: "hm".to_owned(),
            calls,
            tokens: Tokens {
                input: 10,
                output: 1,
            },
            dropped: 0,
            finish,
        }
    }

    fn tell(rounds: &mut Rounds<'_>, step: Step, result: &str) {
        let Step::Call(wanted) = step else {
            panic!("{step:?}");
        };
        let results = wanted.into_iter().map(|it| (it, result.to_owned()));
        rounds.tell(results.collect());
    }

    #[test]
    fn what_a_model_says_without_a_call_is_its_answer() {
        let mut rounds = Rounds::new(&[Turn::User("hi".to_owned())], &Tool::ALL);
        let step = rounds.hear(reply(vec![], Finish::Stop));
        assert_eq!(step, Step::Answered(Finish::Stop));
        assert_eq!(rounds.turns().len(), 1);
        assert_eq!(rounds.tokens(0).total(), 11);
    }

    #[test]
    fn a_tool_that_was_not_given_is_never_called() {
        let mut rounds = Rounds::new(&[], &[Tool::Calculator]);
        for name in ["http_fetch", "shell", "Calculator", "calculator ", ""] {
            let step = rounds.hear(reply(vec![call(name, "{}")], Finish::ToolCalls));
            let Step::Call(wanted) = &step else {
                panic!("{step:?}");
            };
            assert_eq!(wanted[0].tool, Err("There is no such tool"), "{name}");
            tell(&mut rounds, step, "There is no such tool");
        }
        assert_eq!(rounds.called().len(), 5);
    }

    #[test]
    fn each_call_is_told_its_own_result() {
        let mut rounds = Rounds::new(&[], &Tool::ALL);
        let calls = vec![call("calculator", "{}"), call("web_search", "{}")];
        let step = rounds.hear(reply(calls.clone(), Finish::ToolCalls));
        tell(&mut rounds, step, "4");
        let tool = |id: &str| Turn::Tool {
            call: id.to_owned(),
            result: "4".to_owned(),
        };
        let asked = Turn::Assistant {
            text: "hm".to_owned(),
            calls,
        };
        let turns = [asked, tool("id of calculator"), tool("id of web_search")];
        assert_eq!(rounds.turns(), turns);
    }

    #[test]
    fn a_model_that_calls_endlessly_is_told_to_stop_and_then_not_asked_again() {
        let mut rounds = Rounds::new(&[], &Tool::ALL);
        for _ in 0..MAX_ROUNDS {
            let step = rounds.hear(reply(vec![call("calculator", "{}")], Finish::ToolCalls));
            tell(&mut rounds, step, "4");
        }
        let told = rounds.turns().last().unwrap();
        assert!(matches!(told, Turn::Tool { result, .. } if result.ends_with(NO_MORE)));
        let step = rounds.hear(reply(vec![call("calculator", "{}")], Finish::ToolCalls));
        assert_eq!(step, Step::Endless);
        assert_eq!(rounds.tokens(0).total(), 66);
    }

    #[test]
    fn calls_beyond_eight_at_once_are_told_to_be_too_many_and_how_many_were_not_heard() {
        let mut rounds = Rounds::new(&[], &Tool::ALL);
        let mut calls = vec![call("calculator", "{}"); 64];
        calls[9].arguments = "x".repeat(MAX_PASSED_OVER + 1);
        let mut reply = reply(calls, Finish::ToolCalls);
        reply.dropped = 11;
        let step = rounds.hear(reply);
        tell(&mut rounds, step, "4");
        assert_eq!((rounds.called().len(), rounds.passed_over()), (8, 67));
        let (told, results) = rounds.turns().split_first().unwrap();
        let Turn::Assistant { calls, .. } = told else {
            panic!("{told:?}");
        };
        assert_eq!((calls.len(), calls[9].arguments.as_str()), (64, "{}"));
        let results: Vec<_> = results
            .iter()
            .map(|turn| match turn {
                Turn::Tool { result, .. } => result.as_str(),
                Turn::User(_) | Turn::Assistant { .. } => panic!("{turn:?}"),
            })
            .collect();
        assert_eq!(results.len(), 64);
        assert!(results[..8].iter().all(|result| *result == "4"));
        let at_once = format!("Error: {AT_ONCE}");
        assert!(results[8..63].iter().all(|result| *result == at_once));
        assert_eq!(
            results[63],
            format!("{at_once}\n(11 more calls were not heard.)")
        );
    }

    #[test]
    fn who_calls_for_the_last_time_is_not_told_to_call_again() {
        let mut rounds = Rounds::new(&[], &Tool::ALL);
        for round in 1..=MAX_ROUNDS {
            let calls = vec![call("calculator", "{}"); MAX_CALLS + 1];
            let step = rounds.hear(reply(calls, Finish::ToolCalls));
            tell(&mut rounds, step, "4");
            let why = if round < MAX_ROUNDS { AT_ONCE } else { LIMIT };
            let Some(Turn::Tool { result, .. }) = rounds.turns().last() else {
                panic!("{:?}", rounds.turns());
            };
            assert!(result.starts_with(&format!("Error: {why}")), "{result}");
        }
    }

    /// How often `tool` was granted of so many calls of it in each of five rounds.
    fn granted(tool: Tool, at_once: usize) -> usize {
        let (mut rounds, mut granted) = (Rounds::new(&[], &Tool::ALL), 0);
        for _ in 0..MAX_ROUNDS {
            let calls = vec![call(tool.name(), "{}"); at_once];
            let step = rounds.hear(reply(calls, Finish::ToolCalls));
            let Step::Call(wanted) = &step else {
                panic!("{step:?}");
            };
            for wanted in wanted {
                match wanted.tool {
                    Ok(_) => granted += 1,
                    Err(why) => assert_eq!(why, "The limit of calls for this answer is reached"),
                }
            }
            tell(&mut rounds, step, "4");
        }
        // Whatever was not made is told and kept as well.
        assert_eq!(rounds.called().len(), MAX_ROUNDS * at_once);
        granted
    }

    #[test]
    fn an_answer_has_sixteen_calls_of_these_three_searches_and_five_pages() {
        for at_once in [4, 8] {
            assert_eq!(granted(Tool::Calculator, at_once), 16);
            assert_eq!(granted(Tool::SearchMessages, at_once), 3);
            assert_eq!(granted(Tool::HttpFetch, at_once), 5);
        }
    }

    #[test]
    fn a_name_that_no_provider_takes_back_is_told_as_another_and_kept_as_it_was() {
        let long = "x".repeat(65);
        for name in ["", "a b", "functions.shell", "übersetze", "a\"b", &long] {
            let mut rounds = Rounds::new(&[], &Tool::ALL);
            let step = rounds.hear(reply(vec![call(name, "{}")], Finish::ToolCalls));
            let Turn::Assistant { calls, .. } = &rounds.turns()[0] else {
                panic!("{:?}", rounds.turns());
            };
            assert_eq!(calls[0].name, NO_NAME);
            tell(&mut rounds, step, "There is no such tool");
            assert_eq!(rounds.called()[0].name, name);
        }
        for name in ["shell", "Web-Search_2", &long[..64]] {
            let mut rounds = Rounds::new(&[], &Tool::ALL);
            rounds.hear(reply(vec![call(name, "{}")], Finish::ToolCalls));
            let told = &rounds.turns()[0];
            assert!(matches!(told, Turn::Assistant { calls, .. } if calls[0].name == name));
        }
    }

    #[test]
    fn what_is_huge_is_not_told_again() {
        let mut rounds = Rounds::new(&[], &Tool::ALL);
        let arguments = "x".repeat(MAX_ARGUMENTS + 1);
        let mut huge = call("calculator", &arguments);
        huge.id = "ä".repeat(1_000_000);
        let step = rounds.hear(reply(vec![huge], Finish::ToolCalls));
        assert!(matches!(&step, Step::Call(wanted) if wanted[0].tool.is_err()));
        tell(&mut rounds, step, &"ä".repeat(1_000_000));
        assert!(rounds.called()[0].result.ends_with(CUT));
        assert!(rounds.called()[0].result.len() <= MAX_RESULT);
        for turn in rounds.turns() {
            assert!(format!("{turn:?}").len() < MAX_ARGUMENTS + MAX_RESULT);
        }
    }

    #[test]
    fn of_an_open_round_is_counted_what_was_told_and_what_was_said_since() {
        let tools = [Tool::Calculator.spec()];
        let schema = [
            tools[0].name,
            tools[0].description,
            tools[0].parameters.as_str(),
        ];
        let schema = schema.concat().len();
        let mut rounds = Rounds::new(&[Turn::User("x".repeat(100))], &Tool::ALL);
        rounds.open(&"x".repeat(100), &tools, 0);
        let used = |input: usize, output| Tokens {
            input: u64::try_from(input).unwrap(),
            output,
        };
        let first = (200 + schema).div_ceil(4);
        assert_eq!(rounds.tokens(8), used(first, 2));
        // What the model says of a round takes the place of what was estimated.
        let step = rounds.hear(reply(vec![call("calculator", "{}")], Finish::ToolCalls));
        assert_eq!(rounds.tokens(8), used(10, 1));
        tell(&mut rounds, step, "4");
        assert_eq!(rounds.tokens(8), used(10, 1));
        rounds.open(&"x".repeat(100), &tools, 8);
        // Its words and its call, and what came of that.
        let second = (200 + schema + "hm".len() + "calculator{}".len() + 1).div_ceil(4);
        assert_eq!(rounds.tokens(16), used(10 + second, 3));
        rounds.close(Tokens::default());
        assert_eq!(rounds.tokens(16), used(10, 1));
    }

    #[test]
    fn what_nobody_answered_can_be_left_out_before_anything_is_called() {
        let user = |text: &str| Turn::User(text.to_owned());
        let answer = Turn::Assistant {
            text: "hm".to_owned(),
            calls: Vec::new(),
        };
        let turns = [user("a"), user("b"), answer.clone(), user("c"), user("d")];
        let mut rounds = Rounds::new(&turns, &Tool::ALL);
        assert!(rounds.forget_unanswered());
        assert_eq!(rounds.turns(), [user("b"), answer, user("d")]);
        assert!(!rounds.forget_unanswered());
        let mut rounds = Rounds::new(&turns, &Tool::ALL);
        let step = rounds.hear(reply(vec![call("calculator", "{}")], Finish::ToolCalls));
        tell(&mut rounds, step, "4");
        assert!(!rounds.forget_unanswered());
    }

    #[test]
    fn what_was_broken_off_is_not_called() {
        for finish in [Finish::Length, Finish::Filtered, Finish::Cancelled] {
            let mut rounds = Rounds::new(&[], &Tool::ALL);
            let step = rounds.hear(reply(vec![call("calculator", "{\"expr")], finish));
            assert_eq!(step, Step::Answered(finish));
        }
    }
}
