//! Who is let in.

use crate::{
    auth::{Action, *},
    env::Env,
    error::ErrorKind,
    meta::{
        key::{AccountId, BucketId},
        record::{BucketRecord, sample},
    },
    types::{BucketName, ObjectKey, Policy},
};

#[test]
fn a_signing_key_is_the_one_of_the_published_example() {
    // AWS General Reference, "Deriving the signing key" (with service s3 in place of iam the chain is the same).
    let key = SigningKey::derive(
        "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        "20130524",
        "us-east-1",
    );
    let hex: String = key.as_bytes().iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(
        hex,
        "dbb893acc010964918f1fd433add87c70e8b0db6be30c1fbeafefa5ec6ba8378"
    );
}

/// Weakness 27: it opened for every token.
#[test]
fn a_sealed_secret_opens_only_for_its_token_and_signing_secret() {
    let (env, secrets) = (Env::real(), Secrets::new("a signing secret"));
    let sealed = secrets.seal(&env, "id", "secret");
    assert_eq!(*secrets.open("id", &sealed).unwrap(), "secret");
    assert!(secrets.open("other", &sealed).is_err());
    assert!(Secrets::new("another").open("id", &sealed).is_err());
    assert!(secrets.open("id", &sealed[..5]).is_err());
    assert_ne!(
        sealed,
        secrets.seal(&env, "id", "secret"),
        "every seal has its own nonce"
    );
}

fn caller(account: u128, actions: &[&str]) -> Caller {
    Caller::new(
        "id",
        TokenRecord {
            account: AccountId(account),
            actions: actions.iter().map(|action| (*action).to_owned()).collect(),
            ..sample::token()
        },
    )
}

#[test]
fn a_public_bucket_gives_its_objects_to_all_and_nothing_else() {
    use Action::*;
    let (name, key) = (
        BucketName::parse("bucket").unwrap(),
        ObjectKey::parse("k").unwrap(),
    );
    let bucket = |public_read| BucketRecord {
        public_read,
        ..BucketRecord::new(BucketId(1), AccountId(1), Timestamp(0))
    };
    let kind = |caller: &Caller, action, bucket, key: Option<&ObjectKey>| {
        let place = key.map_or(Place::Bucket, Place::Key);
        authorize(caller, action, &name, bucket, place)
            .err()
            .map(|error| error.kind())
    };
    let (denied, hidden) = (Some(ErrorKind::AccessDenied), Some(ErrorKind::NoSuchBucket));
    let nobody = Caller::anonymous();
    assert_eq!(
        kind(&nobody, ObjectGet, Some(bucket(true)), Some(&key)),
        None
    );
    for bucket in [Some(bucket(false)), None] {
        assert_eq!(kind(&nobody, ObjectGet, bucket, Some(&key)), denied);
    }
    for action in [
        BucketReadMeta,
        BucketWriteMeta,
        ObjectReadMeta,
        ObjectPut,
        ObjectDelete,
        ObjectList,
    ] {
        let public = Some(bucket(true));
        assert_eq!(kind(&nobody, action, public.clone(), Some(&key)), denied);
        // Everybody may know of it.
        let other = caller(2, &["*"]);
        assert_eq!(
            kind(&other, action, public, Some(&key)),
            denied,
            "{action:?}"
        );
    }
    assert_eq!(kind(&nobody, ObjectGet, Some(bucket(true)), None), denied);
    assert_eq!(
        permit(&nobody, BucketList, None, Place::SomeKeys)
            .unwrap_err()
            .kind(),
        ErrorKind::AccessDenied
    );

    // A caller with a token is judged by the token.
    let public = || Some(bucket(true));
    assert_eq!(
        kind(&caller(2, &["*"]), ObjectGet, public(), Some(&key)),
        None
    );
    assert_eq!(
        kind(&caller(1, &["object:put"]), ObjectGet, public(), Some(&key)),
        denied
    );
    assert_eq!(
        kind(
            &caller(2, &["*"]),
            ObjectGet,
            Some(bucket(false)),
            Some(&key)
        ),
        hidden
    );
}

#[test]
fn nobody_shares_an_account_with_nobody() {
    let env = Env::real();
    let nobody = Caller::anonymous();
    assert!(nobody.is_anonymous() && nobody.token_id().is_empty());
    assert_ne!(nobody.account(), AccountId(env.unique_id()));
    assert_ne!(nobody.account(), caller(7, &[]).account());
}

fn policy(statements: &str) -> BucketRecord {
    let json = format!(r#"{{"version":"2024-01-01","statements":[{statements}]}}"#);
    let policy = Policy::parse(json.as_bytes()).unwrap();
    BucketRecord {
        policy: Some(std::sync::Arc::new(policy)),
        ..BucketRecord::new(BucketId(1), AccountId(1), Timestamp(0))
    }
}

fn reason(caller: &Caller, action: Action, bucket: &BucketRecord, place: Place<'_>) -> Reason {
    let name = BucketName::parse("bucket").unwrap();
    decide(caller, action, &name, Some(bucket), place)
}

fn key(text: &str) -> ObjectKey {
    ObjectKey::parse(text).unwrap()
}

/// The example of the original's README, which its policies could not do.
#[test]
fn an_allow_statement_lets_in_below_its_prefixes_from_its_networks_and_a_deny_statement_wins() {
    use Action::*;
    let bucket = policy(
        r#"{"effect":"allow","actions":["object:get","object:list"],"prefixes":["public/"],"subjects":["*"],
            "conditions":{"ip_whitelist":["10.0.0.0/8"]}},
           {"effect":"deny","actions":["*"],"prefixes":["secret/"],"subjects":["*"]}"#,
    );
    let near = |caller: &Caller| {
        caller
            .clone()
            .at_address("::ffff:10.1.2.3".parse().unwrap())
    };
    let far = |caller: &Caller| caller.clone().at_address("192.0.2.1".parse().unwrap());
    let (nobody, other, owner) = (Caller::anonymous(), caller(2, &["*"]), caller(1, &["*"]));
    let (public, secret, else_where) = (key("public/a"), key("secret/a"), key("other"));
    for stranger in [&nobody, &other] {
        let refused = match stranger.is_anonymous() {
            true => Reason::NoToken,
            false => Reason::NotOwner,
        };
        let get = |caller: &Caller, key| reason(caller, ObjectGet, &bucket, Place::Key(key));
        assert_eq!(get(&near(stranger), &public), Reason::Allowed(0));
        assert_eq!(get(&far(stranger), &public), refused);
        assert_eq!(get(stranger, &public), refused, "from nowhere");
        assert_eq!(get(&near(stranger), &else_where), refused);
        assert_eq!(get(&near(stranger), &secret), Reason::Denied(1));
        let list = |under| reason(&near(stranger), ObjectList, &bucket, Place::Under(under));
        assert_eq!(list("public/a"), Reason::Allowed(0));
        assert_eq!(list("publi"), refused);
        let put = reason(&near(stranger), ObjectPut, &bucket, Place::Key(&public));
        assert_eq!(put, refused);
        let head = reason(&near(stranger), BucketReadMeta, &bucket, Place::Bucket);
        assert_eq!(head, refused, "prefixes say nothing about the bucket");
    }
    let owners = |action, place| reason(&far(&owner), action, &bucket, place);
    assert_eq!(owners(ObjectPut, Place::Key(&public)), Reason::Owner);
    assert_eq!(owners(ObjectPut, Place::Key(&secret)), Reason::Denied(1));
    assert_eq!(
        owners(ObjectList, Place::Under("secret/")),
        Reason::Denied(1)
    );
    assert_eq!(owners(ObjectList, Place::Under("")), Reason::Owner);
    assert_eq!(owners(BucketWriteMeta, Place::Bucket), Reason::Owner);
    assert_eq!(hidden(&owner, ObjectList, &bucket, ""), ["secret/"]);
    assert_eq!(hidden(&owner, ObjectList, &bucket, "sec"), ["secret/"]);
    assert!(hidden(&owner, ObjectList, &bucket, "public/").is_empty());
    let operator = Caller::operator();
    assert_eq!(
        reason(&operator, ObjectPut, &bucket, Place::Key(&secret)),
        Reason::Operator
    );
    assert!(hidden(&operator, ObjectList, &bucket, "").is_empty());
}

#[test]
fn statements_name_tokens_and_accounts() {
    use Action::*;
    let other = caller(2, &["*"]);
    let k = key("k");
    for (subject, is_meant) in [
        ("id", true),
        ("00000000000000000000000000000002", true),
        ("00000000000000000000000000000003", false),
        ("di", false),
        ("*", true),
    ] {
        let bucket = policy(&format!(
            r#"{{"effect":"allow","actions":["*"],"subjects":["{subject}"]}}"#
        ));
        let expected = if is_meant {
            Reason::Allowed(0)
        } else {
            Reason::NotOwner
        };
        assert_eq!(
            reason(&other, ObjectDelete, &bucket, Place::Key(&k)),
            expected,
            "{subject}"
        );
        assert_eq!(
            reason(&other, BucketWriteMeta, &bucket, Place::Bucket),
            expected
        );
        let nobody = reason(&Caller::anonymous(), ObjectDelete, &bucket, Place::Key(&k));
        assert_eq!(nobody.is_allowed(), subject == "*");
        let whole = reason(
            &Caller::anonymous(),
            BucketWriteMeta,
            &bucket,
            Place::Bucket,
        );
        assert_eq!(
            whole,
            Reason::NoToken,
            "nobody without a name changes a bucket"
        );
    }
}

/// What a statement says of a token does not widen the token.
#[test]
fn a_token_is_never_more_than_it_is() {
    use Action::*;
    let bucket = policy(r#"{"effect":"allow","actions":["*"],"subjects":["*"]}"#);
    let k = key("images/k");
    let limited = |change: &dyn Fn(&mut TokenRecord)| {
        let plain = caller(2, &["object:get", "object:list", "bucket:write-meta"]);
        let mut token = (*plain.identity().unwrap().token).clone();
        change(&mut token);
        Caller::new("id", token)
    };
    let plain = limited(&|_| ());
    assert_eq!(
        reason(&plain, ObjectGet, &bucket, Place::Key(&k)),
        Reason::Allowed(0)
    );
    assert_eq!(
        reason(&plain, ObjectPut, &bucket, Place::Key(&k)),
        Reason::TokenAction
    );
    let elsewhere = limited(&|token| token.buckets = vec!["other".into()]);
    assert_eq!(
        reason(&elsewhere, ObjectGet, &bucket, Place::Key(&k)),
        Reason::TokenBucket
    );
    let images = limited(&|token| token.prefixes = vec!["images/".into()]);
    assert_eq!(
        reason(&images, ObjectGet, &bucket, Place::Key(&k)),
        Reason::Allowed(0)
    );
    assert_eq!(
        reason(&images, ObjectGet, &bucket, Place::Key(&key("k"))),
        Reason::TokenPrefix
    );
    assert_eq!(
        reason(&images, ObjectList, &bucket, Place::Under("images/x")),
        Reason::Allowed(0)
    );
    assert_eq!(
        reason(&images, ObjectList, &bucket, Place::Under("imag")),
        Reason::TokenPrefix
    );
    assert_eq!(
        reason(&images, BucketWriteMeta, &bucket, Place::Bucket),
        Reason::TokenPrefix
    );
}

/// `explain` says of a list of buckets what the list does: an account's own, for a token of all buckets.
#[test]
fn policies_say_nothing_of_which_buckets_there_are() {
    let named = |change: &dyn Fn(&mut TokenRecord)| {
        let plain = caller(1, &["bucket:list"]);
        let mut token = (*plain.identity().unwrap().token).clone();
        change(&mut token);
        Caller::new("id", token)
    };
    for effect in ["allow", "deny"] {
        let bucket = policy(&format!(
            r#"{{"effect":"{effect}","actions":["*"],"subjects":["*"]}}"#
        ));
        let decided = |caller| reason(&caller, Action::BucketList, &bucket, Place::Bucket);
        assert_eq!(decided(named(&|_| ())), Reason::Owner);
        let other = named(&|token| token.account = AccountId(2));
        assert_eq!(decided(other), Reason::NotOwner);
        assert_eq!(decided(Caller::anonymous()), Reason::NoToken);
        let scoped = named(&|token| token.buckets = vec!["bucket".into()]);
        assert_eq!(decided(scoped), Reason::TokenBucket);
    }
}

/// Somebody whom a policy denies everything learns no more than who has no rights at all.
#[test]
fn a_deny_statement_does_not_tell_that_there_is_a_bucket() {
    use Action::*;
    let name = BucketName::parse("bucket").unwrap();
    let denied = policy(r#"{"effect":"deny","actions":["*"],"subjects":["*"]}"#);
    let k = key("k");
    let kind = |caller: &Caller, bucket: Option<&BucketRecord>| {
        let refused = authorize(caller, ObjectGet, &name, bucket.cloned(), Place::Key(&k));
        let error = refused.unwrap_err();
        (error.kind(), error.context().to_owned())
    };
    for stranger in [Caller::anonymous(), caller(2, &["*"])] {
        assert_eq!(kind(&stranger, Some(&denied)), kind(&stranger, None));
    }
    assert_eq!(
        kind(&caller(1, &["*"]), Some(&denied)).0,
        ErrorKind::AccessDenied
    );
}

/// Who is let into a part of a bucket is told that the rest is not for him, where "no such bucket" would puzzle.
#[test]
fn an_allow_statement_tells_that_there_is_a_bucket() {
    let name = BucketName::parse("bucket").unwrap();
    let part = policy(
        r#"{"effect":"allow","actions":["object:get"],"prefixes":["public/"],"subjects":["id"]}"#,
    );
    let k = key("private/k");
    let kind = |caller: &Caller| {
        let place = Place::Key(&k);
        let refused = authorize(caller, Action::ObjectGet, &name, Some(part.clone()), place);
        refused.unwrap_err().kind()
    };
    assert_eq!(kind(&caller(2, &["*"])), ErrorKind::AccessDenied);
    let token = caller(2, &["*"]).identity().unwrap().token.clone();
    let another = Caller::new("another", (*token).clone());
    assert_eq!(kind(&another), ErrorKind::NoSuchBucket);
}
