//! What `template.yaml` says of functions: their binaries, their limits, their environments and their routes.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use parlance_local::provision::Provisioned;
use parlance_local::template::Stack;
pub use parlance_local::template::TemplateError;
use serde::Deserialize;
use yaml_serde::Value;

/// A function as the template defines it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    /// Its logical id, by which it is called here.
    pub name: String,
    /// The name of its binary.
    pub binary: String,
    /// Its memory in MB.
    pub memory: u32,
    /// How long one invocation may take.
    pub timeout: Duration,
    /// Its environment as far as the template sets it: the globals' and its own variables.
    pub environment: BTreeMap<String, String>,
    /// Its routes in the HTTP API.
    pub routes: Vec<Route>,
}

/// A route of an HTTP API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// What no other route takes.
    Default,
    /// A method, `ANY` for all of them, and a path such as `/rooms/{room_id}`.
    Path {
        /// The method in capitals.
        method: String,
        /// The path with its parameters in braces.
        path: String,
    },
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => write!(f, "$default"),
            Self::Path { method, path } => write!(f, "{method} {path}"),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Template {
    #[serde(default)]
    parameters: BTreeMap<String, Parameter>,
    #[serde(default)]
    conditions: BTreeMap<String, Value>,
    #[serde(default)]
    globals: Globals,
    resources: BTreeMap<String, Resource>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Parameter {
    #[serde(default)]
    default: Value,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Globals {
    function: Properties,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Resource {
    #[serde(rename = "Type")]
    kind: String,
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    properties: Value,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Metadata {
    build_properties: BuildProperties,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct BuildProperties {
    binary: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Properties {
    memory_size: Option<u32>,
    timeout: Option<u64>,
    environment: Environment,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Environment {
    variables: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ApiProperties {
    definition_body: Body,
}

/// An API in OpenAPI's words, with those of API Gateway.
#[derive(Deserialize)]
struct Body {
    paths: BTreeMap<String, BTreeMap<String, Operation>>,
    components: Components,
}

#[derive(Deserialize)]
struct Operation {
    #[serde(rename = "x-amazon-apigateway-integration")]
    integration: Reference,
}

#[derive(Deserialize)]
struct Reference {
    #[serde(rename = "$ref")]
    to: String,
}

#[derive(Deserialize)]
struct Components {
    #[serde(rename = "x-amazon-apigateway-integrations")]
    integrations: BTreeMap<String, Integration>,
}

#[derive(Deserialize)]
struct Integration {
    uri: Value,
}

/// Where an API's integrations are.
const INTEGRATIONS: &str = "#/components/x-amazon-apigateway-integrations/";
/// Every method, as API Gateway calls it in OpenAPI.
const ANY: &str = "x-amazon-apigateway-any-method";

impl Body {
    /// The routes, each with the logical id of its function.
    fn routes(&self) -> Result<Vec<(String, Route)>, String> {
        let mut routes = Vec::new();
        for (path, operations) in &self.paths {
            for (method, operation) in operations {
                let to = &operation.integration.to;
                let integration = to.strip_prefix(INTEGRATIONS);
                let integration = integration.and_then(|it| self.components.integrations.get(it));
                let function = integration.and_then(Integration::function);
                let function = function.ok_or_else(|| format!("{path} leads nowhere: {to}"))?;
                let method = if method == ANY {
                    "ANY".to_owned()
                } else {
                    method.to_uppercase()
                };
                let route = match path.as_str() {
                    "$default" => Route::Default,
                    _ => Route::Path {
                        method,
                        path: path.clone(),
                    },
                };
                routes.push((function, route));
            }
        }
        Ok(routes)
    }
}

impl Integration {
    /// The logical id of the function: `RoomsFunction` of `!Sub …/functions/${RoomsFunction.Arn}/invocations`.
    fn function(&self) -> Option<String> {
        let (name, uri) = function(&self.uri).ok()?;
        let (_, named) = uri.as_str()?.split_once("/functions/${")?;
        let function = named.strip_suffix(".Arn}/invocations")?;
        (name == "Sub").then(|| function.to_owned())
    }
}

/// What references to the tables and queues of `stack` come to, where they are called as they are in
/// `provisioned`.
pub fn names(stack: &Stack, provisioned: &Provisioned) -> BTreeMap<String, String> {
    let tables = stack.tables.iter();
    let mut names: BTreeMap<_, _> = tables
        .map(|table| (table.name.clone(), table.name.clone()))
        .collect();
    for (queue, url) in &provisioned.queue_urls {
        names.insert(queue.trim_end_matches(".fifo").to_owned(), url.clone());
    }
    // What a URL of AWS is made of. Nobody is there.
    let of_urls = [
        ("AWS::Region", "eu-west-1"),
        ("AWS::URLSuffix", "amazonaws.com"),
        ("WebSocketApi", "a1b2c3d4e5"),
    ];
    names.extend(of_urls.map(|(name, value)| (name.to_owned(), value.to_owned())));
    names
}

/// The functions of `template`. `names` says what stands for a reference in the environment: `Messages` for
/// `!Ref Messages`, `Messages.Arn` for `!GetAtt Messages.Arn`; a parameter without a name has its default.
///
/// # Errors
///
/// If the template is no template, or if a variable refers to something that has no name.
pub fn definitions(
    template: &str,
    names: &BTreeMap<String, String>,
) -> Result<Vec<Definition>, TemplateError> {
    let template: Template =
        yaml_serde::from_str(template).map_err(|reason| TemplateError::new(reason.to_string()))?;
    let mut known: BTreeMap<String, String> = template
        .parameters
        .iter()
        .filter_map(|(name, parameter)| Some((name.clone(), plain(&parameter.default)?)))
        .collect();
    known.extend(names.clone());
    let known = Known {
        names: known,
        conditions: &template.conditions,
    };

    let mut routes: BTreeMap<String, Vec<Route>> = BTreeMap::new();
    let apis = template.resources.iter();
    for (name, api) in apis.filter(|(_, it)| it.kind == "AWS::Serverless::HttpApi") {
        let fault = |reason: String| TemplateError::new(format!("{name}: {reason}"));
        let api: ApiProperties = yaml_serde::from_value(api.properties.clone())
            .map_err(|reason| fault(reason.to_string()))?;
        for (function, route) in api.definition_body.routes().map_err(fault)? {
            routes.entry(function).or_default().push(route);
        }
    }
    let mut definitions = Vec::new();
    for (name, resource) in template.resources {
        if resource.kind != "AWS::Serverless::Function" {
            continue;
        }
        let fault = |reason: String| TemplateError::new(format!("{name}: {reason}"));
        let own: Properties = yaml_serde::from_value(resource.properties)
            .map_err(|reason| fault(reason.to_string()))?;
        let globals = &template.globals.function;
        let variables = globals.environment.variables.iter();
        let environment = variables
            .chain(&own.environment.variables)
            .map(|(variable, value)| {
                let value = known.resolved(value).map_err(|what| {
                    fault(format!("nothing is known of {what}, which {variable} is"))
                })?;
                Ok((variable.clone(), value))
            })
            .collect::<Result<_, _>>()?;
        let binary = resource.metadata.build_properties.binary;
        definitions.push(Definition {
            binary: binary.ok_or_else(|| fault("it names no Binary to build".to_owned()))?,
            // What Lambda and SAM take when a template is silent.
            memory: own.memory_size.or(globals.memory_size).unwrap_or(128),
            timeout: Duration::from_secs(own.timeout.or(globals.timeout).unwrap_or(3)),
            environment,
            routes: routes.remove(&name).unwrap_or_default(),
            name,
        });
    }
    Ok(definitions)
}

/// What references come to.
struct Known<'a> {
    names: BTreeMap<String, String>,
    conditions: &'a BTreeMap<String, Value>,
}

impl Known<'_> {
    fn named(&self, name: &str) -> Result<String, String> {
        self.names.get(name).cloned().ok_or_else(|| name.to_owned())
    }

    /// What a variable's value comes to; what it refers to, if that is not known.
    fn resolved(&self, value: &Value) -> Result<String, String> {
        if let Some(text) = plain(value) {
            return Ok(text);
        }
        let (function, argument) = function(value)?;
        match (function.as_str(), argument) {
            ("Ref" | "GetAtt", Value::String(name)) => self.named(name),
            ("Sub", Value::String(text)) => {
                let mut whole = String::new();
                let mut rest = text.as_str();
                while let Some((before, after)) = rest.split_once("${") {
                    let (name, after) = after.split_once('}').ok_or_else(|| text.clone())?;
                    whole.push_str(before);
                    whole.push_str(&self.named(name)?);
                    rest = after;
                }
                Ok(whole + rest)
            }
            ("If", Value::Sequence(parts)) => match parts.as_slice() {
                [Value::String(condition), yes, no] => {
                    let holds = self.holds(self.condition(condition)?)?;
                    self.resolved(if holds { yes } else { no })
                }
                _ => Err("!If".to_owned()),
            },
            (name, _) => Err(format!("!{name}")),
        }
    }

    fn condition(&self, name: &str) -> Result<&Value, String> {
        self.conditions.get(name).ok_or_else(|| name.to_owned())
    }

    /// Whether a condition holds; what it refers to, if that is not known.
    fn holds(&self, condition: &Value) -> Result<bool, String> {
        let (function, argument) = function(condition)?;
        match (function.as_str(), argument) {
            ("Condition", Value::String(name)) => self.holds(self.condition(name)?),
            ("Equals", Value::Sequence(two)) if two.len() == 2 => {
                Ok(self.resolved(&two[0])? == self.resolved(&two[1])?)
            }
            ("Not", Value::Sequence(one)) if one.len() == 1 => Ok(!self.holds(&one[0])?),
            ("And", Value::Sequence(all)) => {
                let all: Result<Vec<_>, _> = all.iter().map(|it| self.holds(it)).collect();
                Ok(all?.into_iter().all(|holds| holds))
            }
            ("Or", Value::Sequence(any)) => {
                let any: Result<Vec<_>, _> = any.iter().map(|it| self.holds(it)).collect();
                Ok(any?.into_iter().any(|holds| holds))
            }
            (name, _) => Err(format!("!{name}")),
        }
    }
}

/// `!Function argument`, apart.
fn function(value: &Value) -> Result<(String, &Value), String> {
    match value {
        Value::Tagged(tagged) => {
            let tag = tagged.tag.to_string();
            Ok((tag.trim_start_matches('!').to_owned(), &tagged.value))
        }
        other => Err(format!("{other:?}")),
    }
}

fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEMPLATE: &str = "
        Parameters:
          Level: { Type: String, Default: info }
          Own: { Type: String, Default: '' }
        Conditions:
          Made: !Equals [!Ref Own, '']
          Loud: !And [!Not [!Condition Made], !Or [!Condition Made, !Equals [!Ref Level, info]]]
        Globals:
          Function:
            Timeout: 29
            Environment:
              Variables: { TABLE: !Ref Things, LEVEL: !Ref Level }
        Resources:
          Things: { Type: AWS::DynamoDB::Table }
          ThingsFunction:
            Type: AWS::Serverless::Function
            Metadata: { BuildMethod: rust-cargolambda, BuildProperties: { Binary: things } }
            Properties:
              MemorySize: 512
              Environment:
                Variables:
                  ARN: !GetAtt Things.Arn
                  INDEX: !Sub '${Things}/by_${Level}'
                  LEVEL: debug
                  SECRET: !If [Made, !Ref Things, !Ref Own]
                  VOLUME: !If [Loud, 11, 3]
              Events:
                Jobs: { Type: SQS, Properties: { Queue: !GetAtt Jobs.Arn } }
          Api:
            Type: AWS::Serverless::HttpApi
            Properties:
              DefinitionBody:
                paths:
                  '/things/{id}': { get: { x-amazon-apigateway-integration: { $ref: '#/components/x-amazon-apigateway-integrations/Own' } } }
                  '/things/{proxy+}':
                    x-amazon-apigateway-any-method:
                      x-amazon-apigateway-integration: { $ref: '#/components/x-amazon-apigateway-integrations/Own' }
                  $default:
                    x-amazon-apigateway-any-method:
                      x-amazon-apigateway-integration: { $ref: '#/components/x-amazon-apigateway-integrations/Own' }
                components:
                  x-amazon-apigateway-integrations:
                    Own: { type: aws_proxy, uri: !Sub 'arn:lambda:path/2015-03-31/functions/${ThingsFunction.Arn}/invocations' }
    ";

    fn names() -> BTreeMap<String, String> {
        [("Things", "things-1"), ("Things.Arn", "arn:things-1")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into()
    }

    #[test]
    fn a_function_is_read_with_what_it_shares_and_what_it_refers_to() {
        let environment = [
            ("TABLE", "things-1"),
            ("LEVEL", "debug"),
            ("ARN", "arn:things-1"),
            ("INDEX", "things-1/by_info"),
            ("SECRET", "things-1"),
            ("VOLUME", "3"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let expected = Definition {
            name: "ThingsFunction".to_owned(),
            binary: "things".to_owned(),
            memory: 512,
            timeout: Duration::from_secs(29),
            environment: environment.into(),
            routes: vec![
                Route::Default,
                Route::Path {
                    method: "GET".to_owned(),
                    path: "/things/{id}".to_owned(),
                },
                Route::Path {
                    method: "ANY".to_owned(),
                    path: "/things/{proxy+}".to_owned(),
                },
            ],
        };
        assert_eq!(definitions(TEMPLATE, &names()).unwrap(), [expected]);
    }

    #[test]
    fn a_reference_to_something_unknown_is_named() {
        let error = definitions(TEMPLATE, &BTreeMap::new()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "template.yaml: ThingsFunction: nothing is known of Things, which TABLE is"
        );
    }
}
