//! The tools that models have called: what each does. Whatever a model asks for, it gets a text; what went wrong is
//! said in that text, for the model to tell.

mod fetch;
mod search;

use serde_json::{Map, Value};

use super::{App, answering::Past};
use crate::domain::{
    Moment,
    tool::{Tool, calculator::calculate, clock::current_time},
};

/// Where a tool is called.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    /// What may be searched.
    pub(super) past: Option<Past>,
    /// When, and by when there is a result.
    pub(super) moment: &'a Moment,
}

/// What a model asks of a tool: a JSON object of its making.
struct Arguments(Map<String, Value>);

impl Arguments {
    /// Reads `text`; a model that asks for nothing may say nothing.
    fn read(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Ok(Self(Map::new()));
        }
        let read = serde_json::from_str(text);
        read.map(Self)
            .map_err(|_| "the arguments are not a JSON object".to_owned())
    }

    /// The text `name`; empty without it.
    fn text_or_empty(&self, name: &str) -> Result<&str, String> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(""),
            Some(Value::String(text)) => Ok(text),
            Some(_) => Err(format!("{name} must be a text")),
        }
    }

    /// The text `name`.
    fn text(&self, name: &str) -> Result<&str, String> {
        match self.text_or_empty(name)?.trim() {
            "" => Err(format!("{name} is missing")),
            text => Ok(text),
        }
    }
}

impl App {
    /// What comes of calling `tool` with `arguments`, which a model has made up.
    pub(super) async fn call_tool(&self, tool: Tool, arguments: &str, place: Place<'_>) -> String {
        let result = match Arguments::read(arguments) {
            Ok(arguments) => self.called(tool, &arguments, place).await,
            Err(wrong) => Err(wrong),
        };
        result.unwrap_or_else(|wrong| format!("Error: {wrong}"))
    }

    async fn called(
        &self,
        tool: Tool,
        arguments: &Arguments,
        place: Place<'_>,
    ) -> Result<String, String> {
        match tool {
            Tool::Calculator => {
                let expression = arguments.text("expression")?;
                calculate(expression).map_err(|why| why.to_string())
            }
            Tool::CurrentTime => {
                let begun = place.moment;
                let offset = arguments.text_or_empty("offset")?;
                let told = current_time(begun.now, offset);
                told.ok_or_else(|| "offset must be one from UTC such as +02:00".to_owned())
            }
            Tool::HttpFetch => self.fetch(arguments.text("url")?, place).await,
            Tool::SearchMessages => self.search(arguments.text("query")?, place).await,
            Tool::WebSearch => Err(not_configured("Web search")),
            Tool::GenerateImage => Err(not_configured("Image generation")),
        }
    }
}

/// Said plainly, so that no model pretends.
fn not_configured(what: &str) -> String {
    format!("{what} is not configured in this deployment. Tell the person so")
}
