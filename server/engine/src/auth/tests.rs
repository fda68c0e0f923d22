//! Who is let in.

use super::*;

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
            name: String::new(),
            created: Timestamp(0),
            expires: None,
            active: true,
            sealed_secret: Vec::new(),
            actions: actions.iter().map(|action| (*action).to_owned()).collect(),
            buckets: Vec::new(),
            prefixes: Vec::new(),
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
        id: crate::meta::key::BucketId(1),
        owner: AccountId(1),
        created: Timestamp(0),
        public_read,
    };
    let kind = |caller: &Caller, action, bucket, key| {
        authorize(caller, action, &name, bucket, key)
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
        let other = caller(2, &["*"]);
        assert_eq!(
            kind(&other, action, public, Some(&key)),
            hidden,
            "{action:?}"
        );
    }
    assert_eq!(kind(&nobody, ObjectGet, Some(bucket(true)), None), denied);
    assert_eq!(
        permit(&nobody, BucketList, None, None).unwrap_err().kind(),
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
