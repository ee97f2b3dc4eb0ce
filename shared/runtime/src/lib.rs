//! How a function runs: the loop around the use cases of `app`.

use parlance_app as app;
use parlance_domain as domain;
use parlance_http as http;
use parlance_queue as queue;

pub mod consume;
