//! Links are held against what checks them when they are used.

use jay_engine::{EngineConfig, TokenOptions};

use super::*;
use crate::s3::{
    Settings,
    authenticate::{Mechanism, Proof},
    sigv4::tests::request,
    uri::Query,
};

const BASE: &str = "https://s3.example.com:9000";

struct Store {
    engine: Engine,
    token_id: String,
    _dir: tempfile::TempDir,
}

async fn store() -> Store {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open(EngineConfig::new(
        dir.path(),
        "a signing secret of at least 32 bytes",
    ))
    .unwrap();
    let account = engine.create_account("a").await.unwrap();
    let token = engine
        .create_token(&account.id, TokenOptions::default())
        .await
        .unwrap();
    Store {
        engine,
        token_id: token.info.id,
        _dir: dir,
    }
}

impl Store {
    fn link(&self, style: Style<'_>, key: &str) -> jay_engine::Result<String> {
        let presign = Presign {
            token_id: &self.token_id,
            method: Method::GET,
            bucket: &BucketName::parse("bucket").unwrap(),
            key: Some(&ObjectKey::parse(key).unwrap()),
            seconds: 60,
            style,
        };
        presign.url(&self.engine, BASE, Timestamp::now())
    }

    /// Whether a request by this URL is believed to be the token's.
    async fn believes(&self, method: &str, url: &str) -> bool {
        let path = url.strip_prefix(BASE).unwrap();
        let parts = request(method, path, &[("host", "s3.example.com:9000")]);
        let query = Query::parse(parts.uri.query()).unwrap();
        let mechanism = Mechanism::of(&parts.headers, &query).unwrap();
        let settings = Settings::default();
        let proof = Proof::of(mechanism, &self.engine, &settings, &parts, &query).await;
        proof.is_ok_and(|proof| proof.caller.token_id() == self.token_id)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn links_of_both_styles_are_what_the_front_believes() {
    let store = store().await;
    for style in [Style::Jay, Style::SigV4 { region: "eu-1" }] {
        for key in ["plain", "a b+c/%/é?&=#", "/lead//ing/"] {
            let url = store.link(style, key).unwrap();
            assert!(store.believes("GET", &url).await, "{url}");
            assert!(!store.believes("PUT", &url).await, "{url}");
            let other = url.replacen("/bucket/", "/bucket2/", 1);
            assert!(!store.believes("GET", &other).await, "{other}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_makes_a_link_of_a_revoked_token() {
    let store = store().await;
    let styles = [Style::Jay, Style::SigV4 { region: "eu-1" }];
    let made = styles.map(|style| store.link(style, "key").unwrap());
    store.engine.revoke_token(&store.token_id).await.unwrap();
    for (style, url) in styles.into_iter().zip(made) {
        let error = store.link(style, "key").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidAccessKeyId);
        assert!(!store.believes("GET", &url).await, "{url}");
    }
}
