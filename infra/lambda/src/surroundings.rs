//! What a process finds around itself: the environment that Lambda makes.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::template::Definition;

/// The account of every function and API here.
pub(crate) const ACCOUNT: &str = "123456789012";

/// What all functions have in common and the template does not say.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// The region.
    pub region: String,
    /// How many processes a function has at most.
    pub instances: usize,
    /// How long a process has between its start and its first question for an event. Lambda gives it 10 s.
    pub init: Duration,
    /// Variables that are neither Lambda's nor the template's, such as `AWS_ENDPOINT_URL`. They win.
    pub variables: BTreeMap<String, String>,
}

impl Default for Surroundings {
    fn default() -> Self {
        Self {
            region: "eu-west-1".to_owned(),
            instances: 4,
            init: Duration::from_secs(10),
            variables: BTreeMap::new(),
        }
    }
}

impl Surroundings {
    /// With one more variable.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    /// The ARN of a function.
    pub(crate) fn arn(&self, function: &str) -> String {
        format!(
            "arn:aws:lambda:{}:{ACCOUNT}:function:{function}",
            self.region
        )
    }

    /// The whole environment of a process: Lambda's own variables for an OS-only runtime, and the template's.
    ///
    /// <https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html#configuration-envvars-runtime>
    pub(crate) fn environment(
        &self,
        definition: &Definition,
        runtime_api: &str,
        task_root: &str,
    ) -> BTreeMap<String, String> {
        let memory = definition.memory.to_string();
        let log_group = format!("/aws/lambda/{}", definition.name);
        let lambdas = [
            ("_HANDLER", "bootstrap"),
            ("AWS_REGION", &self.region),
            ("AWS_DEFAULT_REGION", &self.region),
            ("AWS_LAMBDA_FUNCTION_NAME", &definition.name),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", &memory),
            ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
            ("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand"),
            ("AWS_LAMBDA_LOG_GROUP_NAME", &log_group),
            ("AWS_LAMBDA_LOG_STREAM_NAME", "2026/01/01/[$LATEST]0"),
            ("AWS_LAMBDA_LOG_FORMAT", "JSON"),
            ("AWS_LAMBDA_LOG_LEVEL", "INFO"),
            ("AWS_ACCESS_KEY_ID", "ASIAIOSFODNN7EXAMPLE"),
            ("AWS_SECRET_ACCESS_KEY", "not-a-secret"),
            ("AWS_SESSION_TOKEN", "not-a-token"),
            ("AWS_LAMBDA_RUNTIME_API", runtime_api),
            ("LAMBDA_TASK_ROOT", task_root),
            ("LAMBDA_RUNTIME_DIR", "/var/runtime"),
            ("AWS_XRAY_CONTEXT_MISSING", "LOG_ERROR"),
            ("AWS_XRAY_DAEMON_ADDRESS", "169.254.79.129:2000"),
            ("LANG", "en_US.UTF-8"),
            ("PATH", "/usr/local/bin:/usr/bin/:/bin:/opt/bin"),
            ("TZ", ":UTC"),
        ];
        let lambdas = lambdas.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let mut environment = BTreeMap::from(lambdas);
        environment.extend(definition.environment.clone());
        environment.extend(self.variables.clone());
        environment
    }
}
