use jay_engine::{
    Action, BucketName, Effect, ErrorKind, Grant, Policy, PolicyConditions, Statement,
};
use proptest::{collection::vec, option, prelude::*, sample::select};
use serde_json::{Value, json};

use super::{is_public, read, write};

fn bucket() -> BucketName {
    BucketName::parse("photos").unwrap()
}

/// Reads a policy of these statements.
fn policy(statements: Value) -> Result<Policy, String> {
    let document = json!({"Version": "2012-10-17", "Statement": statements});
    parse(&document.to_string())
}

fn parse(document: &str) -> Result<Policy, String> {
    read::policy(document.as_bytes(), &bucket()).map_err(|error| {
        assert_eq!(error.kind(), ErrorKind::MalformedPolicy);
        error.message().to_owned()
    })
}

/// A statement, with some elements in the place of those of a usual one.
fn statement(elements: Value) -> Value {
    let mut statement = json!({
        "Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::photos/*",
    });
    for (name, value) in elements.as_object().unwrap() {
        match value {
            Value::Null => drop(statement.as_object_mut().unwrap().remove(name)),
            value => statement[name] = value.clone(),
        }
    }
    statement
}

/// What one statement becomes, in Jay's JSON.
fn jays(elements: Value) -> Value {
    let policy = policy(json!([statement(elements)])).unwrap();
    serde_json::to_value(&policy.statements).unwrap()
}

#[test]
fn what_maps_is_jays_form() {
    let put = [
        "object:put",
        "multipart:create",
        "multipart:upload-part",
        "multipart:complete",
    ];
    let arns = |keys: &[&str]| -> Value {
        keys.iter()
            .map(|key| format!("arn:aws:s3:::photos{key}"))
            .collect()
    };
    for (elements, expected) in [
        (
            json!({"Sid": "read", "Resource": ["arn:aws:s3:::photos/a/*", "arn:aws:s3:::photos/b*"]}),
            json!([{"sid": "read", "effect": "allow", "actions": ["object:get"], "prefixes": ["a/", "b"], "subjects": ["*"]}]),
        ),
        (
            json!({"Effect": "Deny", "Action": ["s3:PutObject", "s3:ListMultipartUploadParts"]}),
            json!([{"effect": "deny", "actions": put, "prefixes": [], "subjects": ["*"]}]),
        ),
        (
            json!({"Action": ["s3:getobject", "s3:ListBucket"], "Resource": arns(&["", "/p/*"])}),
            json!([
                {"effect": "allow", "actions": ["object:get"], "prefixes": ["p/"], "subjects": ["*"]},
                {"effect": "allow", "actions": ["object:list"], "prefixes": [], "subjects": ["*"]},
            ]),
        ),
        (
            json!({"Action": ["s3:GetObject", "s3:ListBucket"], "Resource": arns(&["", "/*"])}),
            json!([{"effect": "allow", "actions": ["object:get", "object:list"], "prefixes": [], "subjects": ["*"]}]),
        ),
        (
            json!({"Action": "s3:ListBucket", "Resource": arns(&[""]), "Condition": {"StringEquals": {"s3:prefix": ["a*/", "b"]}}}),
            json!([{"effect": "allow", "actions": ["object:list"], "prefixes": ["a*/", "b"], "subjects": ["*"]}]),
        ),
        (
            json!({"Effect": "Deny", "Action": "s3:ListBucket", "Resource": arns(&[""]), "Condition": {"StringLike": {"s3:prefix": "p${*}*"}}}),
            json!([{"effect": "deny", "actions": ["object:list"], "prefixes": ["p*"], "subjects": ["*"]}]),
        ),
        (
            json!({"Action": "s3:*", "Resource": arns(&["", "/*"])}),
            json!([{"effect": "allow", "actions": ["*"], "prefixes": [], "subjects": ["*"]}]),
        ),
        (
            json!({"Effect": "Deny", "Action": "s3:*", "Resource": arns(&["/p*"])}),
            json!([{"effect": "deny", "prefixes": ["p"], "subjects": ["*"], "actions": [
                "object:get", "object:put", "object:delete", "multipart:create", "multipart:upload-part",
                "multipart:complete", "multipart:abort"]}]),
        ),
        (
            json!({"Action": "s3:*", "Resource": arns(&[""])}),
            json!([{"effect": "allow", "prefixes": [], "subjects": ["*"],
                "actions": ["bucket:read-meta", "bucket:write-meta", "object:list"]}]),
        ),
        (
            json!({"Action": ["jay:object:put", "jay:bucket:read-meta"], "Resource": arns(&["", "/*"])}),
            json!([{"effect": "allow", "actions": ["bucket:read-meta", "object:put"], "prefixes": [], "subjects": ["*"]}]),
        ),
        (
            json!({"Principal": {"AWS": ["JAYTOKEN", "arn:aws:iam::123456789012:user/t2", "00112233445566778899AABBCCDDEEFF",
                "arn:aws:iam::00112233445566778899AABBCCDDEEFF:root"]},
                "Condition": {"IpAddress": {"aws:SourceIp": ["10.1.2.3/8", "::1"]}}}),
            json!([{"effect": "allow", "actions": ["object:get"], "prefixes": [], "conditions": {"ip_whitelist": ["10.0.0.0/8", "::1/128"]},
                "subjects": ["JAYTOKEN", "t2", "00112233445566778899AABBCCDDEEFF", "00112233445566778899aabbccddeeff"]}]),
        ),
    ] {
        assert_eq!(jays(elements.clone()), expected, "{elements}");
    }
}

/// Each of these would be stored and then do something else than it says.
#[test]
fn what_does_not_map_is_refused_by_name() {
    let (all, itself) = ("arn:aws:s3:::photos/*", "arn:aws:s3:::photos");
    let listing = |effect: &str, condition: Value| json!({"Effect": effect, "Action": "s3:ListBucket", "Resource": itself, "Condition": condition});
    for (elements, why) in [
        (json!({"Effect": "allow"}), "the effect \"allow\""),
        (json!({"Effect": null}), "no Effect"),
        (json!({"Principal": null}), "no Principal"),
        (json!({"Action": null}), "no Action"),
        (json!({"Resource": null}), "no Resource"),
        (json!({"Action": []}), "Action is empty"),
        (json!({"Resource": [1]}), "Resource is no string"),
        (
            json!({"NotPrincipal": {"AWS": "t"}}),
            "NotPrincipal is not supported",
        ),
        (
            json!({"NotAction": "s3:GetObject"}),
            "NotAction is not supported",
        ),
        (json!({"NotResource": all}), "NotResource is not supported"),
        (json!({"Comment": "x"}), "unknown element \"Comment\""),
        (json!({"Principal": "t"}), "neither \"*\" nor"),
        (json!({"Principal": {"AWS": []}}), "Principal is empty"),
        (json!({"Principal": {}}), "no Principal"),
        (
            json!({"Principal": {"Service": "s3.amazonaws.com"}}),
            "\"Service\" are not supported",
        ),
        (
            json!({"Principal": {"CanonicalUser": "t"}}),
            "\"CanonicalUser\" are not supported",
        ),
        (
            json!({"Principal": {"AWS": "arn:aws:iam::123456789012:root"}}),
            "is nobody here",
        ),
        (
            json!({"Principal": {"AWS": "arn:aws:iam::1:role/r"}}),
            "is nobody here",
        ),
        (
            json!({"Principal": {"AWS": "arn:aws:sts::1:user/r"}}),
            "is nobody here",
        ),
        (
            json!({"Principal": {"AWS": "arn:aws:iam::1:user/"}}),
            "is nobody here",
        ),
        (json!({"Principal": {"AWS": "t*"}}), "is nobody here"),
        (json!({"Principal": {"AWS": ""}}), "is nobody here"),
        (
            json!({"Action": "s3:GetObjectVersion"}),
            "\"s3:GetObjectVersion\" has no counterpart",
        ),
        (json!({"Action": "s3:GetBucketLocation"}), "no counterpart"),
        (json!({"Action": "s3:Get*"}), "has a wildcard"),
        (json!({"Action": "jay:object:read"}), "no counterpart"),
        (
            json!({"Action": "s3:ListMultipartUploadParts"}),
            "only along with",
        ),
        (
            json!({"Action": "s3:ListBucketMultipartUploads", "Resource": [itself, all]}),
            "only along with",
        ),
        (
            json!({"Action": ["s3:PutObject", "s3:ListBucketMultipartUploads"], "Resource": [itself, "arn:aws:s3:::photos/p*"]}),
            "needs the bucket and all",
        ),
        (
            json!({"Action": "s3:ListBucket"}),
            "Action does not apply to any resource(s)",
        ),
        (
            json!({"Resource": itself}),
            "Action does not apply to any resource(s)",
        ),
        (
            json!({"Action": ["s3:ListBucket", "s3:DeleteObject"], "Resource": itself}),
            "does not apply",
        ),
        (
            json!({"Effect": "Deny", "Action": "s3:*", "Resource": itself}),
            "list of uploads",
        ),
        (
            json!({"Effect": "Deny", "Action": "s3:*", "Resource": [itself, "arn:aws:s3:::photos/p*"]}),
            "list of uploads",
        ),
        (
            json!({"Action": "jay:*", "Resource": itself}),
            "jay:* of the bucket",
        ),
        (
            json!({"Action": ["jay:*", "s3:GetObject"]}),
            "name it alone",
        ),
        (json!({"Resource": "*"}), "not in this bucket"),
        (
            json!({"Resource": "arn:aws:s3:::other/*"}),
            "not in this bucket",
        ),
        (
            json!({"Resource": "arn:aws:s3:::photos*"}),
            "not in this bucket",
        ),
        (
            json!({"Resource": "arn:aws:s3:::photos/key"}),
            "names one key",
        ),
        (
            json!({"Effect": "Deny", "Resource": "arn:aws:s3:::photos/key"}),
            "names one key",
        ),
        (json!({"Resource": "arn:aws:s3:::photos/"}), "names one key"),
        (
            json!({"Resource": "arn:aws:s3:::photos/a*b"}),
            "has a wildcard elsewhere",
        ),
        (
            json!({"Resource": "arn:aws:s3:::photos/*a*"}),
            "has a wildcard elsewhere",
        ),
        (
            json!({"Resource": "arn:aws:s3:::photos/a?*"}),
            "has a wildcard elsewhere",
        ),
        (
            json!({"Resource": "arn:aws:s3:::photos/${aws:username}/*"}),
            "has a variable",
        ),
        (
            json!({"Condition": {"Bool": {"aws:SecureTransport": "true"}}}),
            "the condition Bool of aws:SecureTransport is not supported",
        ),
        (
            json!({"Condition": {"NotIpAddress": {"aws:SourceIp": "10.0.0.0/8"}}}),
            "NotIpAddress of aws:SourceIp is not supported",
        ),
        (
            json!({"Condition": {"IpAddress": {"aws:VpcSourceIp": "10.0.0.0/8"}}}),
            "not supported",
        ),
        (
            json!({"Condition": {"IpAddress": {"aws:SourceIp": "10.0.0.0/33"}}}),
            "is no network",
        ),
        (
            json!({"Condition": {"IpAddress": {"aws:SourceIp": []}}}),
            "is empty",
        ),
        (
            json!({"Condition": {"IpAddress": {}}}),
            "IpAddress is empty",
        ),
        (
            json!({"Condition": {"IpAddress": {"aws:SourceIp": "10.0.0.0/8", "AWS:SourceIp": "::/0"}}}),
            "two conditions",
        ),
        (json!({"Condition": []}), "Condition is no object"),
        (
            json!({"Condition": {"StringLike": {"s3:prefix": "p/*"}}}),
            "for s3:ListBucket alone",
        ),
        (
            json!({"Action": "s3:*", "Resource": [itself, all], "Condition": {"StringLike": {"s3:prefix": "p/*"}}}),
            "for s3:ListBucket alone",
        ),
        (
            listing("Allow", json!({"StringLike": {"s3:prefix": "a*b"}})),
            "has a wildcard elsewhere",
        ),
        (
            listing("Deny", json!({"StringLike": {"s3:prefix": "a"}})),
            "names \"a\" alone",
        ),
        (
            listing("Deny", json!({"StringEquals": {"s3:prefix": "a*"}})),
            "names \"a*\" alone",
        ),
        (
            listing(
                "Allow",
                json!({"StringLike": {"s3:prefix": "a*"}, "StringEquals": {"s3:prefix": "ab"}}),
            ),
            "two conditions",
        ),
        (
            listing("Allow", json!({"StringEquals": {"s3:delimiter": "/"}})),
            "StringEquals of s3:delimiter is not supported",
        ),
        (
            listing("Allow", json!({"StringNotLike": {"s3:prefix": "a*"}})),
            "not supported",
        ),
        (
            listing(
                "Allow",
                json!({"NumericLessThanEquals": {"s3:max-keys": "10"}}),
            ),
            "not supported",
        ),
    ] {
        let refused = policy(json!([statement(json!({})), statement(elements.clone())]));
        let refused = refused.expect_err(&elements.to_string());
        assert!(
            refused.contains("statement 2: ") && refused.contains(why),
            "{refused}"
        );
    }
}

#[test]
fn the_frame_is_held_against_its_rules_too() {
    let one = statement(json!({"Sid": "first"})).to_string();
    let named = statement(json!({"Sid": "first", "Action": "s3:PutObjectAcl"}));
    assert!(
        policy(named)
            .unwrap_err()
            .contains("statement 1 (\"first\"): ")
    );
    for (document, why) in [
        (
            format!(r#"{{"Version": "2024-01-01", "Statement": {one}}}"#),
            "2024-01-01",
        ),
        (r#"{"Version": "2012-10-17"}"#.into(), "no Statement"),
        (
            format!(r#"{{"Statement": {one}, "Statement": []}}"#),
            "\"Statement\" is there twice",
        ),
        (
            format!(r#"{{"Statement": {one}, "statement": []}}"#),
            "unknown element",
        ),
        (
            r#"{"Statement": [{"Effect": "Allow", "Effect": "Deny"}]}"#.into(),
            "twice",
        ),
        (
            r#"{"Statement": ["x"]}"#.into(),
            "statement 1: it is no object",
        ),
        (
            r#"{"Version": "2008-10-17", "Statement": {"Resource": "arn:aws:s3:::photos/${*}*"}}"#
                .into(),
            "variable",
        ),
        ("[]".into(), "no object"),
        (String::new(), "EOF"),
        (
            format!("{{}}{}", " ".repeat(20 << 10)),
            "more than 20480 bytes",
        ),
        ("[".repeat(5000), "recursion limit"),
    ] {
        let refused = parse(&document).unwrap_err();
        assert!(refused.contains(why), "{refused}");
    }
    let kept = parse(&format!(r#"{{"Id": "x", "Statement": {one}}}"#)).unwrap();
    assert_eq!(kept.statements[0].sid.as_deref(), Some("first"));
}

#[test]
fn public_is_what_lets_everybody_in() {
    for (elements, expected) in [
        (json!({}), true),
        (json!({"Effect": "Deny"}), false),
        (json!({"Principal": {"AWS": "t"}}), false),
        (json!({"Principal": {"AWS": ["t", "*"]}}), true),
        (
            json!({"Condition": {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}}),
            false,
        ),
        (
            json!({"Condition": {"IpAddress": {"aws:SourceIp": ["10.0.0.0/8", "0.0.0.0/1"]}}}),
            true,
        ),
        (
            json!({"Condition": {"IpAddress": {"aws:SourceIp": "2001::/16"}}}),
            true,
        ),
    ] {
        let policy = policy(statement(elements.clone())).unwrap();
        assert_eq!(is_public(&policy), expected, "{elements}");
    }
}

/// What a request is about, as the engine sees it.
#[derive(Clone, Copy, Debug)]
enum Place {
    Bucket,
    Below(&'static str),
}

/// The requests there are: which action is asked about what.
fn requests() -> Vec<(Action, Place)> {
    let texts = ["", "a", "a/b", "b*", "b?x", "${*}", "c"];
    let mut requests = Vec::new();
    for action in Action::NAMED {
        match action.name().starts_with("bucket:") {
            true => requests.push((action, Place::Bucket)),
            false => requests.extend(texts.map(|text| (action, Place::Below(text)))),
        }
    }
    requests
}

/// Whom a policy allows, and whom it denies, for each request; and from where.
fn effects(policy: &Policy) -> Vec<Vec<(Effect, Vec<String>, PolicyConditions)>> {
    let reaches = |statement: &Statement, place| match place {
        _ if statement.prefixes.is_empty() => true,
        Place::Bucket => false,
        Place::Below(text) => statement
            .prefixes
            .iter()
            .any(|p| text.starts_with(p.as_str())),
    };
    let effects_of = |(action, place): (Action, Place)| {
        let statements = policy.statements.iter();
        let holding = statements.filter(|s| s.actions.iter().any(|grant| grant.covers(action)));
        let reaching = holding.filter(|s| reaches(s, place));
        reaching
            .map(|s| (s.effect, s.subjects.clone(), s.conditions.clone()))
            .collect()
    };
    requests().into_iter().map(effects_of).collect()
}

fn grants() -> impl Strategy<Value = Vec<Grant>> {
    let one = prop_oneof![
        1 => Just(Grant::All),
        12 => select(&Action::NAMED[..]).prop_map(Grant::One),
    ];
    vec(one, 1..8)
}

fn statements() -> impl Strategy<Value = Statement> {
    let prefix = select(vec!["", "a", "a/", "b*", "b?", "$", "${*}", "é", "a/b/c"]);
    let subject = select(vec![
        "*",
        "JAYTOKEN",
        "arn:aws:iam::x:root",
        "t*",
        "a b",
        "${$}",
        "00112233445566778899aabbccddeeff",
    ]);
    let network = select(vec!["10.0.0.0/8", "::/0", "1.2.3.4/32"]);
    let lists = (vec(prefix, 0..4), vec(subject, 1..3), vec(network, 0..3));
    (option::of("[a-z\"]{0,4}"), any::<bool>(), grants(), lists).prop_map(
        |(sid, allows, actions, (prefixes, mut subjects, networks))| {
            subjects.dedup();
            if subjects.len() == 3 || subjects.first() == subjects.last() {
                subjects.truncate(1);
            }
            Statement {
                sid,
                effect: if allows { Effect::Allow } else { Effect::Deny },
                actions,
                prefixes: prefixes.into_iter().map(str::to_owned).collect(),
                subjects: subjects.into_iter().map(str::to_owned).collect(),
                conditions: PolicyConditions {
                    ip_whitelist: networks.iter().map(|text| text.parse().unwrap()).collect(),
                },
            }
        },
    )
}

proptest! {
    /// Reading splits a statement whose actions reach differently far, and says nothing twice; else it is the same.
    #[test]
    fn what_is_written_is_read_as_the_same(statements in vec(statements(), 0..5)) {
        let policy = Policy { version: jay_engine::POLICY_VERSION.into(), statements, document: None };
        let written = write::document(&policy, &bucket());
        let read = parse(&written).map_err(|why| TestCaseError::fail(format!("{why}\n{written}")))?;
        prop_assert_eq!(effects(&read), effects(&policy), "{}", written);
        let sids = |policy: &Policy| {
            let mut sids: Vec<_> = policy.statements.iter().map(|s| s.sid.clone()).collect();
            sids.dedup();
            sids
        };
        prop_assert_eq!(sids(&read), sids(&policy));
        let again = write::document(&read, &bucket());
        prop_assert_eq!(parse(&again).unwrap().statements, read.statements);
    }

    #[test]
    fn hostile_json_never_panics(
        text in "(\\{|\\}|\\[|\\]|:|,|\"|Statement|Effect|Allow|Principal|AWS|Action|s3:\\*|Resource|Condition|\\$\\{|\\*|é|1|null){0,60}"
    ) {
        let _ = read::policy(text.as_bytes(), &bucket());
    }

    #[test]
    fn hostile_elements_never_panic(
        (action, resource) in ("(s3:|jay:|\\*|Get|Object|List|Bucket|\\?|é){0,5}", "(arn:aws:s3:::|photos|/|\\*|\\?|\\$|\\{|\\}|é){0,8}"),
        (principal, prefix) in ("(arn:aws:iam::|:|root|user/|\\*|\\$\\{|\\}|é){0,6}", "(\\$|\\{|\\*|\\}|é|a){0,6}"),
        operator in "(StringLike|StringEquals|IpAddress)",
    ) {
        let _ = policy(json!([statement(json!({
            "Action": [action.clone(), "s3:ListBucket"], "Resource": ["arn:aws:s3:::photos", resource], "Principal": {"AWS": principal},
        })), statement(json!({
            "Action": "s3:ListBucket", "Resource": "arn:aws:s3:::photos",
            "Condition": {operator: {"s3:prefix": prefix, "aws:SourceIp": action}},
        }))]));
    }
}
