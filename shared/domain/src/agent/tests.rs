use super::{patch::kind, *};
use crate::model::Provider;

fn named(name: &str) -> ProfileWords {
    ProfileWords {
        name: Some(name.to_owned()),
        ..ProfileWords::default()
    }
}

fn field(words: ProfileWords) -> String {
    let profile = ProfilePatch::parse(words).and_then(|patch| Profile::begun(&patch));
    match profile {
        Err(Error::Invalid { field, .. }) => field.into_owned(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_new_agent_needs_a_name_alone() {
    let patch = ProfilePatch::parse(named("Ada")).unwrap();
    let profile = Profile::begun(&patch).unwrap();
    assert_eq!(
        (profile.name.as_str(), profile.kind.as_str()),
        ("Ada", "custom")
    );
    assert_eq!(field(ProfileWords::default()), "name");
    assert_eq!(field(named(" ")), "name");
}

#[test]
fn what_breaks_a_limit_is_named() {
    let words = || named("Ada");
    let long = |length| Some("x".repeat(length));
    assert_eq!(field(named(&"x".repeat(257))), "name");
    let description = long(4_097);
    assert_eq!(
        field(ProfileWords {
            description,
            ..words()
        }),
        "description"
    );
    for bad in ["", "Sales", "a b", "ä", &"x".repeat(65)] {
        let kind = Some(bad.to_owned());
        assert_eq!(field(ProfileWords { kind, ..words() }), "type");
    }
    let system_prompt = long(32_769);
    assert_eq!(
        field(ProfileWords {
            system_prompt,
            ..words()
        }),
        "systemPrompt"
    );
    let system_prompt = Some("a\0b".to_owned());
    assert_eq!(
        field(ProfileWords {
            system_prompt,
            ..words()
        }),
        "systemPrompt"
    );
    let provider = Setting::Set("skynet".to_owned());
    assert_eq!(
        field(ProfileWords {
            provider,
            ..words()
        }),
        "provider"
    );
    for bad in [
        "",
        "gpt 4",
        "gpt\n4",
        "../x",
        "x?key=",
        "x#y",
        "x%2e",
        "a::b",
        &"x".repeat(129),
    ] {
        let model = Setting::Set(bad.to_owned());
        assert_eq!(field(ProfileWords { model, ..words() }), "model");
    }
    for bad in [-0.1, 2.1, 1e-200, 9e-7, f64::NAN, f64::INFINITY] {
        let temperature = Setting::Set(bad);
        assert_eq!(
            field(ProfileWords {
                temperature,
                ..words()
            }),
            "temperature"
        );
    }
    for bad in [0, -1, 32_769, i64::MAX] {
        let max_tokens = Setting::Set(bad);
        assert_eq!(
            field(ProfileWords {
                max_tokens,
                ..words()
            }),
            "maxTokens"
        );
    }
}

#[test]
fn a_provider_without_a_model_is_refused() {
    let provider = Setting::Set("openai".to_owned());
    assert_eq!(
        field(ProfileWords {
            provider,
            ..named("Ada")
        }),
        "model"
    );
}

#[test]
fn a_model_tells_who_runs_it_unless_somebody_says() {
    let on = |provider, model: &str| {
        let model = Some(model.to_owned());
        let profile = Profile {
            provider,
            model,
            ..Profile::built_in(BuiltIn::Chat)
        };
        profile.runs_on()
    };
    assert_eq!(on(None, "gpt-4o"), Some(Provider::OpenAi));
    assert_eq!(on(None, "claude-sonnet-4"), Some(Provider::Anthropic));
    assert_eq!(on(None, "gemini-2.5-pro"), Some(Provider::Google));
    assert_eq!(on(None, "llama3"), None);
    assert_eq!(
        on(Some(Provider::OpenAi), "claude-sonnet-4"),
        Some(Provider::OpenAi)
    );
}

#[test]
fn what_a_change_leaves_out_stays_and_null_unsets() {
    let mut words = named("Ada");
    words.temperature = Setting::Set(0.5);
    words.max_tokens = Setting::Set(100);
    let before = Profile::begun(&ProfilePatch::parse(words).unwrap()).unwrap();
    let words = ProfileWords {
        temperature: Setting::Unset,
        ..ProfileWords::default()
    };
    let after = before
        .changed(&ProfilePatch::parse(words).unwrap())
        .unwrap();
    assert_eq!(
        after,
        Profile {
            temperature: None,
            ..before
        }
    );
}

#[test]
fn what_is_built_in_keeps_the_limits() {
    for agent in BuiltIn::ALL {
        let profile = Profile::built_in(agent);
        assert_eq!(kind(profile.kind.clone()).unwrap(), profile.kind);
        assert!(profile.system_prompt.len() < Profile::MAX_PROMPT);
        assert_eq!(
            agent.id().parse::<AgentId>().unwrap(),
            AgentId::BuiltIn(agent)
        );
    }
}
