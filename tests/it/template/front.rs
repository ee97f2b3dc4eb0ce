//! Where clients come, if not by the names that AWS gives: stacks that nobody has to have.

use yaml_serde::Value;

use super::{TEMPLATE, resources};

const DOMAIN: &str = include_str!("../../../infra/domain.yaml");
const FRONT: &str = include_str!("../../../infra/front.yaml");

#[test]
fn a_name_and_a_front_are_made_for_those_who_ask_alone() {
    let template: Value = yaml_serde::from_str(TEMPLATE).unwrap();
    let stacks = resources(TEMPLATE, "AWS::CloudFormation::Stack");
    for (name, condition) in [("Domain", "Named"), ("FrontDoor", "Fronted")] {
        let (_, stack) = stacks.iter().find(|(it, _)| it == name).unwrap();
        assert_eq!(stack["Condition"], condition);
    }
    for (parameter, default) in [("DomainName", ""), ("Front", "false"), ("WebAclArn", "")] {
        assert_eq!(template["Parameters"][parameter]["Default"], default);
    }
}

#[test]
fn the_address_of_sockets_is_the_name_that_was_given_to_them() {
    let template: Value = yaml_serde::from_str(TEMPLATE).unwrap();
    let told = format!("{:?}", template["Outputs"]["WebSocketUrl"]["Value"]);
    assert!(told.contains("LiveNamed") && told.contains("wss://${WebSocketDomainName}"));
}

#[test]
fn every_name_wants_tls_1_2() {
    let names = resources(DOMAIN, "AWS::ApiGatewayV2::DomainName");
    assert_eq!(names.len(), 2);
    for (name, it) in names {
        let configuration = &it["Properties"]["DomainNameConfigurations"][0];
        assert_eq!(configuration["SecurityPolicy"], "TLS_1_2", "{name}");
    }
    let (_, front) = resources(FRONT, "AWS::CloudFront::Distribution").remove(0);
    let front = &front["Properties"]["DistributionConfig"];
    assert_eq!(
        front["ViewerCertificate"]["Fn::If"][1]["MinimumProtocolVersion"],
        "TLSv1.2_2021"
    );
    assert_eq!(
        front["DefaultCacheBehavior"]["ViewerProtocolPolicy"],
        "https-only"
    );
    let origin = &front["Origins"][0]["CustomOriginConfig"];
    assert_eq!(origin["OriginSSLProtocols"][0], "TLSv1.2");
}

/// People may say anything to each other, the words of an attack too.
#[test]
fn the_waf_refuses_nobody_for_what_a_body_says() {
    let (_, acl) = resources(FRONT, "AWS::WAFv2::WebACL").remove(0);
    let mut overridden = Vec::new();
    for rule in acl["Properties"]["Rules"].as_sequence().unwrap() {
        let group = &rule["Statement"]["ManagedRuleGroupStatement"];
        // These look at bodies for what is common in them.
        assert_ne!(group["Name"], "AWSManagedRulesCommonRuleSet");
        for it in super::each(&group["RuleActionOverrides"]) {
            assert!(!it["ActionToUse"]["Count"].is_null());
            overridden.push(it["Name"].as_str().unwrap().to_owned());
        }
    }
    assert_eq!(
        overridden,
        [
            "Log4JRCE_BODY",
            "JavaDeserializationRCE_BODY",
            "ReactJSRCE_BODY"
        ]
    );
}
