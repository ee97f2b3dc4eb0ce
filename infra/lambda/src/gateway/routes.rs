//! Which function a request goes to.
//!
//! A route with the request's method wins over one for `ANY`, a literal segment over a parameter, a parameter
//! over a greedy one, and `$default` takes the rest:
//! <https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-routes.html>

use std::collections::BTreeMap;

use crate::{Function, Lambda, Route};

/// The table of routes.
#[derive(Debug)]
pub(super) struct Routes {
    by_method: BTreeMap<String, matchit::Router<(Route, Function)>>,
    default: Option<Function>,
}

/// Where a request goes.
#[derive(Debug)]
pub(super) struct Found<'a> {
    pub(super) function: &'a Function,
    /// As events name the route: `GET /rooms/{room_id}`.
    pub(super) key: String,
    /// The path's parameters, decoded.
    pub(super) parameters: BTreeMap<String, String>,
}

impl Routes {
    pub(super) fn new(functions: &Lambda) -> Result<Self, matchit::InsertError> {
        let mut routes = Self {
            by_method: BTreeMap::new(),
            default: None,
        };
        for function in functions.functions() {
            for route in &function.definition().routes {
                match route {
                    Route::Default => routes.default = Some(function.clone()),
                    Route::Path { method, path } => routes
                        .by_method
                        .entry(method.clone())
                        .or_default()
                        .insert(pattern(path), (route.clone(), function.clone()))?,
                }
            }
        }
        Ok(routes)
    }

    /// The route of a request for a path, which is decoded: what was `%2F` separates segments.
    pub(super) fn find(&self, method: &str, path: &str) -> Option<Found<'_>> {
        let matched = [method, "ANY"].into_iter().find_map(|method| {
            let routes = self.by_method.get(method)?;
            routes.at(path).ok()
        });
        if let Some(matched) = matched {
            let (route, function) = matched.value;
            let parameters = matched.params.iter();
            return Some(Found {
                function,
                key: route.to_string(),
                parameters: parameters
                    .map(|(name, value)| (name.to_owned(), value.to_owned()))
                    .collect(),
            });
        }
        self.default.as_ref().map(|function| Found {
            function,
            key: Route::Default.to_string(),
            parameters: BTreeMap::new(),
        })
    }
}

/// `{proxy+}` is `{*proxy}` here.
fn pattern(path: &str) -> String {
    match path.rsplit_once('{') {
        Some((before, greedy)) if greedy.ends_with("+}") => {
            format!("{before}{{*{}}}", greedy.trim_end_matches("+}"))
        }
        _ => path.to_owned(),
    }
}
