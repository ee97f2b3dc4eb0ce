//! Which function a request goes to.
//!
//! A route whose path matches whole wins over a greedy one, and `$default` takes the rest
//! (<https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-routes.html>). Among several of a kind the
//! most specific wins: a literal segment over a parameter, and then the request's method over `ANY`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::{Function, Lambda, Route};

/// The table of routes.
#[derive(Debug)]
pub(super) struct Routes {
    by_path: Vec<(Pattern, Route, Function)>,
    default: Option<Function>,
}

/// Two routes that are the same.
#[derive(Debug)]
pub struct Conflict(String);

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there are two routes {}", self.0)
    }
}

impl std::error::Error for Conflict {}

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
    pub(super) fn new(functions: &Lambda) -> Result<Self, Conflict> {
        let mut routes = Self {
            by_path: Vec::new(),
            default: None,
        };
        let mut keys = BTreeSet::new();
        for function in functions.functions() {
            for route in &function.definition().routes {
                if !keys.insert(route.to_string()) {
                    return Err(Conflict(route.to_string()));
                }
                match route {
                    Route::Default => routes.default = Some(function.clone()),
                    Route::Path { path, .. } => {
                        let entry = (Pattern::new(path), route.clone(), function.clone());
                        routes.by_path.push(entry);
                    }
                }
            }
        }
        Ok(routes)
    }

    /// The route of a request for a path, which is decoded: what was `%2F` separates segments.
    pub(super) fn find(&self, method: &str, path: &str) -> Option<Found<'_>> {
        let takes = |route: &Route| match route {
            Route::Path { method: it, .. } => it == method || it == "ANY",
            Route::Default => false,
        };
        let is_any = |route: &Route| matches!(route, Route::Path { method, .. } if method == "ANY");
        let matching = self.by_path.iter().filter(|(_, route, _)| takes(route));
        let matching = matching.filter_map(|(pattern, route, function)| {
            Some((pattern, route, function, pattern.matched(path)?))
        });
        let best = matching.min_by_key(|(pattern, route, ..)| (pattern.rank(), is_any(route)));
        if let Some((_, route, function, parameters)) = best {
            return Some(Found {
                function,
                key: route.to_string(),
                parameters,
            });
        }
        self.default.as_ref().map(|function| Found {
            function,
            key: Route::Default.to_string(),
            parameters: BTreeMap::new(),
        })
    }
}

/// A route's path, apart.
#[derive(Debug)]
struct Pattern(Vec<Segment>);

/// A segment of a route's path. The order is that of precedence.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Segment {
    Literal(String),
    Parameter(String),
    /// `{proxy+}`: one segment and all that follow.
    Greedy(String),
}

impl Pattern {
    fn new(path: &str) -> Self {
        let segments = path.split('/').skip(1);
        Self(segments.map(Segment::new).collect())
    }

    /// The parameters, if it matches `path`.
    fn matched(&self, path: &str) -> Option<BTreeMap<String, String>> {
        let mut parameters = BTreeMap::new();
        let mut rest = path.strip_prefix('/');
        for segment in &self.0 {
            let given = rest?;
            let (first, after) = match given.split_once('/') {
                Some((first, after)) => (first, Some(after)),
                None => (given, None),
            };
            match segment {
                Segment::Literal(literal) if literal == first => {}
                Segment::Literal(_) => return None,
                // None is ever empty.
                Segment::Parameter(_) | Segment::Greedy(_) if given.is_empty() => return None,
                Segment::Parameter(_) if first.is_empty() => return None,
                Segment::Parameter(name) => {
                    parameters.insert(name.clone(), first.to_owned());
                }
                Segment::Greedy(name) => {
                    parameters.insert(name.clone(), given.to_owned());
                    return Some(parameters);
                }
            }
            rest = after;
        }
        rest.is_none().then_some(parameters)
    }

    /// Less is more specific: a path without a greedy parameter, then one that is literal for longer.
    fn rank(&self) -> (bool, Vec<u8>) {
        let ranks = self.0.iter().map(|segment| match segment {
            Segment::Literal(_) => 0,
            Segment::Parameter(_) => 1,
            Segment::Greedy(_) => 2,
        });
        let is_greedy = matches!(self.0.last(), Some(Segment::Greedy(_)));
        (is_greedy, ranks.collect())
    }
}

impl Segment {
    fn new(segment: &str) -> Self {
        let parameter = segment
            .strip_prefix('{')
            .and_then(|it| it.strip_suffix('}'));
        match parameter.map(|name| (name, name.strip_suffix('+'))) {
            None => Self::Literal(segment.to_owned()),
            Some((_, Some(greedy))) => Self::Greedy(greedy.to_owned()),
            Some((name, None)) => Self::Parameter(name.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{Definition, Surroundings};

    /// The routes that `keys` name, all of one function.
    fn routes(keys: &[&str]) -> Routes {
        let keys = keys.iter().map(|key| match key.split_once(' ') {
            Some((method, path)) => Route::Path {
                method: method.to_owned(),
                path: path.to_owned(),
            },
            None => Route::Default,
        });
        let definition = Definition {
            name: "Things".to_owned(),
            binary: "things".to_owned(),
            memory: 128,
            timeout: Duration::from_secs(3),
            environment: BTreeMap::new(),
            routes: keys.collect(),
        };
        let function = Function::new(definition, "things".into(), Surroundings::default());
        let functions = BTreeMap::from([("Things".to_owned(), function)]);
        Routes::new(&Lambda(functions.into())).unwrap()
    }

    #[tokio::test]
    async fn the_most_specific_route_wins() {
        let routes = routes(&[
            "ANY /rooms",
            "ANY /rooms/{proxy+}",
            "ANY /rooms/{room_id}/messages",
            "ANY /rooms/{room_id}/messages/{message_id}",
            "POST /hooks/{id}/test",
            "ANY /hooks/{proxy+}",
            "GET /health",
            "$default",
        ]);
        let key = |method, path| routes.find(method, path).unwrap().key;
        assert_eq!(key("POST", "/rooms"), "ANY /rooms");
        assert_eq!(key("GET", "/rooms/r"), "ANY /rooms/{proxy+}");
        assert_eq!(key("OPTIONS", "/rooms/r/members/m"), "ANY /rooms/{proxy+}");
        assert_eq!(
            key("PUT", "/rooms/r/messages"),
            "ANY /rooms/{room_id}/messages"
        );
        assert_eq!(
            key("PUT", "/rooms/r/messages/m"),
            "ANY /rooms/{room_id}/messages/{message_id}"
        );
        assert_eq!(key("GET", "/rooms/r/messages/"), "ANY /rooms/{proxy+}");
        assert_eq!(key("GET", "/rooms/r/messages/m/x"), "ANY /rooms/{proxy+}");
        assert_eq!(key("POST", "/hooks/h/test"), "POST /hooks/{id}/test");
        assert_eq!(key("GET", "/hooks/h/test"), "ANY /hooks/{proxy+}");
        for path in [
            "/rooms/", "/", "", "//rooms", "/roomsy", "/nope", "/health/",
        ] {
            assert_eq!(key("GET", path), "$default", "{path}");
        }
        assert_eq!(key("POST", "/health"), "$default");
    }

    #[tokio::test]
    async fn a_greedy_parameter_holds_all_that_follows() {
        let routes = routes(&["ANY /rooms/{proxy+}", "GET /a/{b}/c/{d}"]);
        let parameters = |path| routes.find("GET", path).unwrap().parameters;
        let expected = BTreeMap::from([("proxy".to_owned(), "a b/ü//c".to_owned())]);
        assert_eq!(parameters("/rooms/a b/ü//c"), expected);
        let pairs = [("b", "1"), ("d", "2")].map(|(name, it)| (name.to_owned(), it.to_owned()));
        assert_eq!(parameters("/a/1/c/2"), BTreeMap::from(pairs));
    }
}
