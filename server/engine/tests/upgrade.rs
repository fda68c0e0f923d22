//! Stores of every format version that was ever released must open, and say what they said then.
//!
//! `fixtures/format-<version>` are data directories as a killed process of that version left them: something
//! in the index, something only in the log. They are never written again. To add one after a change of the
//! format: `cargo test -p jay-engine --test upgrade -- --ignored`.

mod store;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use jay_engine::{
    Action, BucketName, BucketOptions, Caller, Checksum, ChecksumAlgorithm, ChecksumType,
    CompleteOptions, CompletedPart, ContentHeaders, CopyOptions, CopySource, Engine, EngineConfig,
    Error, ErrorKind, Grant, ListEntry, ListOptions, ListPartsOptions, ListUploadsOptions,
    ObjectKey, OldSecret, Once, PartInfo, PartOptions, Policy, PutOptions, Question,
    ReadConditions, Reason, Select, SessionId, Tag, Tags, Timestamp, TokenInfo, TokenOptions,
    UploadEntry, UploadId, UploadOptions, rekey,
};

use self::store::{ACCESS_SECRET, SECRET, key, let_in, read};

/// Cargo runs tests in the directory of their package.
const FIXTURES: &str = "tests/fixtures";
const CURRENT: u32 = 5;
/// MD5 of the MD5s of the parts.
const WHOLE_ETAG: &str = "e515bbce42991b189a3889226c6c5359-3";
/// CRC-32C of those of the parts.
const WHOLE_CRC32C: [u8; 4] = [0xf9, 0xd0, 0x52, 0xe0];

fn fixture(format: u32) -> PathBuf {
    Path::new(FIXTURES).join(format!("format-{format}"))
}

fn body(size: usize) -> Vec<u8> {
    (0..size).map(|i| (i % 251) as u8).collect()
}

fn objects() -> [(&'static str, usize); 5] {
    [
        ("empty", 0),
        ("small", 100),
        ("dir/inline", 900),
        ("dir/file", 5_000),
        ("ünï/ +%", 70_000),
    ]
}

fn config(dir: &Path, signing_secret: &str) -> EngineConfig {
    let mut config = EngineConfig::new(dir, signing_secret);
    config.inline_max = 1000;
    config.local.pack_bytes = 64 << 10;
    config.local.batch_bytes_max = 16 << 10;
    config.local.zero_ahead = false;
    config.local.ballast_bytes = 0;
    // The open upload of a fixture grows older than any limit.
    config.upkeep.upload_age_max = None;
    config
}

async fn open(dir: &Path) -> Result<(Engine, Caller), Error> {
    let engine = Engine::open(config(dir, SECRET)).expect("the store opens");
    let caller = let_in(&engine).await?;
    Ok((engine, caller))
}

async fn put(engine: &Engine, caller: &Caller, key: &str, bytes: Vec<u8>) -> Result<(), Error> {
    let options = PutOptions {
        headers: ContentHeaders {
            content_type: Some("text/plain".into()),
            cache_control: Some("no-cache".into()),
            ..ContentHeaders::default()
        },
        metadata: [("colour".to_owned(), "grün".to_owned())].into(),
        checksum_algorithm: Some(ChecksumAlgorithm::Crc32c),
        ..PutOptions::default()
    };
    let (bucket, key) = (BucketName::parse("fixture")?, ObjectKey::parse(key)?);
    let mut put = engine.put_object(caller, &bucket, &key, options).await?;
    put.write(bytes.into()).await?;
    put.finish(None).await.map(drop)
}

async fn says_what_it_said(engine: &Engine, caller: &Caller) -> Result<(), Error> {
    let bucket = BucketName::parse("fixture")?;
    let all = ListOptions {
        max_keys: 100,
        ..ListOptions::default()
    };
    let page = engine.list_objects(caller, &bucket, &all).await?;
    let mut expected: Vec<_> = objects().iter().map(|(key, _)| *key).collect();
    expected.sort_unstable();
    let listed: Vec<_> = page
        .entries
        .iter()
        .map(|entry| match entry {
            ListEntry::Object(object) => object.key.as_str(),
            ListEntry::CommonPrefix(_) => panic!("nothing was asked to be rolled up"),
        })
        .collect();
    assert_eq!(listed, expected);
    for (name, size) in objects() {
        let key = ObjectKey::parse(name)?;
        let mut got = engine
            .get_object(caller, &bucket, &key, Select::Whole)
            .await?;
        let info = got.info().clone();
        assert_eq!(read(&mut got).await?, body(size), "{name}");
        assert_eq!(info.size, size as u64);
        assert_eq!(info.metadata["colour"], "grün");
        assert_eq!(info.headers.content_type.as_deref(), Some("text/plain"));
        assert_eq!(info.checksums[0].algorithm, ChecksumAlgorithm::Crc32c);
        if name == "small" {
            assert_eq!(info.etag.as_str(), "7acedd1a84a4cfcb6e7a16003242945e");
            let crc32c = Checksum {
                algorithm: ChecksumAlgorithm::Crc32c,
                value: vec![0xc1, 0xca, 0xeb, 0xe5],
            };
            assert_eq!(info.checksums[0], crc32c);
        }
    }
    let deleted = ObjectKey::parse("deleted")?;
    let gone = engine
        .head_object(caller, &bucket, &deleted)
        .await
        .unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NoSuchKey);
    Ok(())
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).unwrap();
        }
    }
}

/// What format 2 added: multipart uploads, copies and tags, in a bucket of their own.
struct Parts {
    engine: Engine,
    caller: Caller,
    bucket: BucketName,
}

/// The parts of the completed object: in the log, in a file, in the log; and where each begins.
const WHOLE: [(u16, usize); 3] = [(1, 600), (2, 5_000), (4, 70)];
const OPEN: [(u16, usize); 2] = [(1, 300), (3, 3_000)];
/// A zero byte in the key of an upload is escaped in its row.
const OPEN_KEY: &str = "open\0ü";

fn tags(value: &str) -> Tags {
    let tag = Tag {
        key: "team".into(),
        value: value.into(),
    };
    Tags::new(vec![tag]).unwrap()
}

impl Parts {
    fn of(engine: Engine, caller: Caller) -> Self {
        let bucket = BucketName::parse("fixture-parts").unwrap();
        Self {
            engine,
            caller,
            bucket,
        }
    }

    async fn create(&self, name: &str) -> Result<UploadId, Error> {
        let options = UploadOptions {
            metadata: [("colour".to_owned(), "blau".to_owned())].into(),
            tags: tags("upload"),
            checksum_algorithm: Some(ChecksumAlgorithm::Crc32c),
            ..UploadOptions::default()
        };
        let (engine, caller) = (&self.engine, &self.caller);
        let upload = engine
            .create_multipart_upload(caller, &self.bucket, &key(name), options)
            .await?;
        Ok(upload.upload_id)
    }

    async fn part(
        &self,
        name: &str,
        id: UploadId,
        number: u16,
        size: usize,
    ) -> Result<PartInfo, Error> {
        let (engine, options) = (&self.engine, PartOptions::default());
        let name = key(name);
        let part = engine.upload_part(&self.caller, &self.bucket, &name, id, number, options);
        let mut part = part.await?;
        part.write(body(size).into()).await?;
        part.finish(None).await
    }

    async fn complete(&self, name: &str, id: UploadId, parts: &[PartInfo]) -> Result<(), Error> {
        let listed: Vec<CompletedPart> = parts
            .iter()
            .map(|part| CompletedPart {
                number: part.number,
                etag: Some(part.etag.clone()),
                checksum: None,
            })
            .collect();
        let (engine, options) = (&self.engine, CompleteOptions::default());
        let (caller, bucket) = (&self.caller, &self.bucket);
        engine
            .complete_multipart_upload(caller, bucket, &key(name), id, &listed, options)
            .await
            .map(drop)
    }

    async fn write_what_will_be_in_the_index(&self) -> Result<(), Error> {
        self.engine
            .create_bucket(&self.caller, &self.bucket)
            .await?;
        let id = self.create("whole").await?;
        self.part("whole", id, 3, 400).await?;
        self.part("whole", id, 2, 200).await?;
        let mut parts = Vec::new();
        for (number, size) in WHOLE {
            parts.push(self.part("whole", id, number, size).await?);
        }
        self.complete("whole", id, &parts).await?;
        let id = self.create(OPEN_KEY).await?;
        self.part(OPEN_KEY, id, OPEN[0].0, OPEN[0].1)
            .await
            .map(drop)
    }

    async fn write_the_rest(&self) -> Result<(), Error> {
        let (engine, caller, bucket) = (&self.engine, &self.caller, &self.bucket);
        let id = self.open_upload().await?;
        self.part(OPEN_KEY, id, OPEN[1].0, OPEN[1].1).await?;
        let aborted = self.create("aborted").await?;
        self.part("aborted", aborted, 1, 500).await?;
        engine
            .abort_multipart_upload(caller, bucket, &key("aborted"), aborted)
            .await?;
        let source = CopySource {
            bucket: bucket.clone(),
            key: key("whole"),
            conditions: ReadConditions::default(),
        };
        let metadata = [("colour".to_owned(), "rot".to_owned())].into();
        let options = CopyOptions {
            replace: Some((ContentHeaders::default(), metadata)),
            ..CopyOptions::default()
        };
        engine
            .copy_object(caller, &source, bucket, &key("copy"), options)
            .await?;
        engine
            .put_object_tagging(caller, bucket, &key("whole"), tags("changed"))
            .await
    }

    async fn open_upload(&self) -> Result<UploadId, Error> {
        let options = ListUploadsOptions {
            max_uploads: 10,
            ..ListUploadsOptions::default()
        };
        let (engine, caller) = (&self.engine, &self.caller);
        let page = engine.list_multipart_uploads(caller, &self.bucket, &options);
        match &page.await?.entries[..] {
            [UploadEntry::Upload(upload)] => {
                assert_eq!(upload.key.as_str(), OPEN_KEY);
                assert_eq!(upload.checksum_type, ChecksumType::Composite);
                Ok(upload.upload_id)
            }
            entries => panic!("one upload is open, not {entries:?}"),
        }
    }

    async fn say_what_they_said(&self) -> Result<(), Error> {
        let (engine, caller, bucket) = (&self.engine, &self.caller, &self.bucket);
        let bodies: Vec<Vec<u8>> = WHOLE.iter().map(|&(_, size)| body(size)).collect();
        for (name, colour, team) in [("whole", "blau", "changed"), ("copy", "rot", "upload")] {
            let name = key(name);
            let mut got = engine
                .get_object(caller, bucket, &name, Select::Whole)
                .await?;
            let info = got.info().clone();
            assert_eq!(read(&mut got).await?, bodies.concat());
            assert_eq!(info.etag.as_str(), WHOLE_ETAG);
            assert_eq!(info.checksums[0].value, WHOLE_CRC32C);
            assert_eq!(info.checksum_type, ChecksumType::Composite);
            assert_eq!(info.metadata["colour"], colour);
            let found = engine.get_object_tagging(caller, bucket, &name).await?;
            assert_eq!(found, tags(team));
            // Read by their place, whatever numbers they came under.
            for (place, body) in (1..).zip(&bodies) {
                let part = Select::Part(place);
                let mut part = engine.get_object(caller, bucket, &name, part).await?;
                assert_eq!(read(&mut part).await?, *body);
            }
        }
        let (id, options) = (
            self.open_upload().await?,
            ListPartsOptions {
                after: 0,
                max_parts: 10,
            },
        );
        let page = engine
            .list_parts(caller, bucket, &key(OPEN_KEY), id, &options)
            .await?;
        let listed = page
            .parts
            .iter()
            .map(|part| (part.number, part.size as usize));
        assert_eq!(listed.collect::<Vec<_>>(), OPEN);
        assert!(page.parts.iter().all(|part| part.checksum.is_some()));
        Ok(())
    }

    /// The upload goes on in the new version as if nothing had been.
    async fn can_be_completed(&self) -> Result<(), Error> {
        let (engine, caller, bucket) = (&self.engine, &self.caller, &self.bucket);
        let id = self.open_upload().await?;
        let options = ListPartsOptions {
            after: 0,
            max_parts: 10,
        };
        let name = key(OPEN_KEY);
        let page = engine
            .list_parts(caller, bucket, &name, id, &options)
            .await?;
        self.complete(OPEN_KEY, id, &page.parts).await?;
        let mut got = engine
            .get_object(caller, bucket, &name, Select::Whole)
            .await?;
        assert_eq!(got.info().metadata["colour"], "blau");
        assert_eq!(
            read(&mut got).await?,
            OPEN.map(|(_, size)| body(size)).concat()
        );
        let deleted = engine.delete_object(caller, bucket, &key("whole")).await;
        deleted.map(drop)?;
        let mut copy = engine
            .get_object(caller, bucket, &key("copy"), Select::Whole)
            .await?;
        assert_eq!(read(&mut copy).await?.len(), 5_670);
        Ok(())
    }
}

/// What format 3 added: an object in quarantine, and a snapshot of the index.
const ROTTEN: &str = "rotten";
const ROTTEN_BUCKET: &str = "fixture-rotten";

/// Puts an object whose bytes are in a file of its own, spoils the file, and has that noticed.
async fn put_rotten(dir: &Path, engine: &Engine, caller: &Caller) -> Result<(), Error> {
    let bucket = BucketName::parse(ROTTEN_BUCKET)?;
    engine.create_bucket(caller, &bucket).await?;
    let before = files(&dir.join("objects"));
    let options = PutOptions::default();
    let mut put = engine
        .put_object(caller, &bucket, &key(ROTTEN), options)
        .await?;
    put.write(body(3_333).into()).await?;
    put.finish(None).await?;
    let after = files(&dir.join("objects"));
    let file = after.difference(&before).next().expect("it has a file");
    let mut bytes = fs::read(file).unwrap();
    let at = (0..bytes.len())
        .find(|&at| bytes[at..].starts_with(&body(3_333)))
        .expect("its bytes are in the file");
    bytes[at + 100] ^= 1;
    fs::write(file, bytes).unwrap();
    is_rotten(engine, caller).await
}

/// It is in quarantine, and cannot be read.
async fn is_rotten(engine: &Engine, caller: &Caller) -> Result<(), Error> {
    let bucket = BucketName::parse(ROTTEN_BUCKET)?;
    let got = engine
        .get_object(caller, &bucket, &key(ROTTEN), Select::Whole)
        .await;
    let error = match got {
        Ok(mut reader) => read(&mut reader).await.unwrap_err(),
        Err(error) => error,
    };
    assert_eq!(error.kind(), ErrorKind::ObjectCorrupt);
    let page = engine.list_quarantine(None).await?;
    let listed: Vec<_> = page.objects.iter().map(|object| &object.key).collect();
    assert_eq!(listed, [ROTTEN]);
    Ok(())
}

fn files(dir: &Path) -> BTreeSet<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else {
        return BTreeSet::new();
    };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .flat_map(|path| match path.is_dir() {
            true => files(&path),
            false => BTreeSet::from([path]),
        })
        .collect()
}

/// What format 4 added: what governs a bucket, and access keys with limits and hashes.
struct Governed {
    engine: Engine,
    caller: Caller,
    bucket: BucketName,
    /// A bucket of another account.
    others: BucketName,
}

const QUOTA: u64 = 20_000;
/// The objects of the governed bucket; the last one is in the log only.
const KEPT: [(&str, usize); 3] = [("public/a", 400), ("secret/b", 4_000), ("public/c", 40)];
/// 1 January 2100.
const LATE: Timestamp = Timestamp(4_102_444_800_000);
const EARLY: Timestamp = Timestamp(1);

/// Every action by its name, for ids that the store made up.
fn policy(token_id: &str, account_id: &str) -> Policy {
    let json = format!(
        r#"{{"version":"2024-01-01","statements":[
            {{"sid":"office","effect":"allow","actions":["object:list"],"prefixes":["public/","ü/"],"subjects":["{token_id}"],
              "conditions":{{"ip_whitelist":["10.0.0.0/8","2001:db8::/32"]}}}},
            {{"effect":"deny","actions":["*"],"prefixes":["secret/"],"subjects":["*"]}},
            {{"effect":"allow","actions":["bucket:list","bucket:read-meta","bucket:write-meta","object:get","object:put",
              "object:delete","object:list","multipart:create","multipart:upload-part","multipart:complete",
              "multipart:abort"],"subjects":["{account_id}","nobody"]}}]}}"#
    );
    Policy::parse(json.as_bytes()).unwrap()
}

impl Governed {
    fn of(engine: Engine, caller: Caller) -> Self {
        Self {
            engine,
            caller,
            bucket: BucketName::parse("fixture-governed").unwrap(),
            others: BucketName::parse("fixture-others").unwrap(),
        }
    }

    async fn account(&self, name: &str) -> Result<String, Error> {
        let accounts = self.engine.list_accounts().await?;
        let found = accounts.into_iter().find(|account| account.name == name);
        Ok(found.expect("the account is there").id)
    }

    async fn token(&self, name: &str) -> Result<TokenInfo, Error> {
        let tokens = self.engine.list_tokens(None).await?;
        let found = tokens.into_iter().find(|token| token.name == name);
        Ok(found.expect("the access key is there"))
    }

    async fn put(&self, (name, size): (&str, usize)) -> Result<(), Error> {
        let (engine, key, options) = (&self.engine, key(name), PutOptions::default());
        let put = engine.put_object(&self.caller, &self.bucket, &key, options);
        let mut put = put.await?;
        put.write(body(size).into()).await?;
        put.finish(None).await.map(drop)
    }

    async fn write_what_will_be_in_the_index(&self) -> Result<(), Error> {
        let (engine, operator) = (&self.engine, Caller::operator());
        let team = engine.create_account("team").await?.id;
        let left = engine.create_account("left").await?.id;
        let plain = |name: &str| TokenOptions {
            name: name.into(),
            ..TokenOptions::default()
        };
        let reader = TokenOptions {
            actions: [Action::ObjectGet, Action::ObjectList]
                .map(Grant::One)
                .into(),
            buckets: vec![self.others.clone(), self.bucket.clone()],
            prefixes: vec!["public/".into(), "ü/".into()],
            expires: Some(LATE),
            ..plain("reader")
        };
        let reader = engine.create_token(&team, reader).await?.info.id;
        let expired = TokenOptions {
            expires: Some(EARLY),
            ..plain("expired")
        };
        engine.create_token(&team, expired).await?;
        engine.create_token(&team, plain("revoked")).await?;
        engine.create_token(&left, plain("suspended")).await?;
        let options = BucketOptions {
            public_read: true,
            ..BucketOptions::default()
        };
        engine
            .create_bucket_with(&self.caller, &self.bucket, options)
            .await?;
        for object in &KEPT[..2] {
            self.put(*object).await?;
        }
        let policy = policy(&reader, &left);
        engine
            .put_bucket_policy(&self.caller, &self.bucket, policy)
            .await?;
        engine
            .put_bucket_quota(&operator, &self.bucket, Some(QUOTA))
            .await?;
        let options = BucketOptions {
            owner: Some(team),
            ..BucketOptions::default()
        };
        engine
            .create_bucket_with(&operator, &self.others, options)
            .await?;
        engine
            .put_bucket_quota(&operator, &self.others, Some(1))
            .await
    }

    async fn write_the_rest(&self) -> Result<(), Error> {
        let (engine, operator) = (&self.engine, Caller::operator());
        let revoked = self.token("revoked").await?;
        engine.revoke_token(&revoked.id).await?;
        let left = self.account("left").await?;
        engine.set_account_active(&left, false).await?;
        self.put(KEPT[2]).await?;
        engine
            .put_bucket_policy(&operator, &self.others, policy(&revoked.id, &left))
            .await?;
        engine
            .put_bucket_quota(&operator, &self.others, Some(0))
            .await
    }

    async fn say_what_they_said(&self) -> Result<(), Error> {
        self.accounts_and_access_keys().await?;
        self.buckets().await?;
        self.rights().await
    }

    async fn accounts_and_access_keys(&self) -> Result<(), Error> {
        let engine = &self.engine;
        let accounts = engine.list_accounts().await?;
        let accounts = accounts.iter().map(|a| (a.name.as_str(), a.active));
        let expected = [("me", true), ("team", true), ("left", false)];
        assert_eq!(accounts.collect::<Vec<_>>(), expected);

        let reader = self.token("reader").await?;
        assert_eq!(reader.actions, ["object:get", "object:list"]);
        assert_eq!(reader.buckets, ["fixture-others", "fixture-governed"]);
        assert_eq!(reader.prefixes, ["public/", "ü/"]);
        let (team, left) = (self.account("team").await?, self.account("left").await?);
        for (name, account, expires, active) in [
            ("me", self.caller.account_id(), None, true),
            ("reader", team.clone(), Some(LATE), true),
            ("expired", team.clone(), Some(EARLY), true),
            ("revoked", team, None, false),
            ("suspended", left, None, true),
        ] {
            let token = self.token(name).await?;
            let found = (&token.account_id, token.expires, token.active);
            assert_eq!(found, (&account, expires, active), "{name}");
            assert_eq!(token.actions == ["*"], name != "reader");
            // The seal opens.
            let signs = engine.signing_key(&token.id, "20260101", "us-east-1");
            let refused = signs.err().map(|error| error.kind());
            let expected = match name {
                "me" | "reader" => None,
                _ => Some(ErrorKind::InvalidAccessKeyId),
            };
            assert_eq!(refused, expected, "{name}");
        }
        engine.bearer("key", ACCESS_SECRET).await?;
        assert!(engine.bearer("key", &ACCESS_SECRET[1..]).await.is_err());
        Ok(())
    }

    async fn buckets(&self) -> Result<(), Error> {
        let (engine, operator) = (&self.engine, Caller::operator());
        let [reader, revoked] = [self.token("reader").await?, self.token("revoked").await?];
        let (team, left) = (self.account("team").await?, self.account("left").await?);
        for (bucket, owner, public_read, quota, token) in [
            (&self.bucket, self.caller.account_id(), true, QUOTA, reader),
            (&self.others, team, false, 0, revoked),
        ] {
            let info = engine.head_bucket(&operator, bucket).await?;
            assert_eq!((info.owner, info.public_read), (owner, public_read));
            assert_eq!(info.quota_bytes, Some(quota));
            let found = engine.get_bucket_policy(&operator, bucket).await?;
            assert_eq!(*found, policy(&token.id, &left));
        }
        let usage = engine.bucket_usage(&self.caller, &self.bucket).await?;
        let bytes = KEPT.map(|(_, size)| size as u64).iter().sum();
        assert_eq!((usage.objects, usage.bytes), (3, bytes));
        let over = self.put(("more", QUOTA as usize)).await.unwrap_err();
        assert_eq!(over.kind(), ErrorKind::QuotaExceeded);
        Ok(())
    }

    async fn rights(&self) -> Result<(), Error> {
        let reader = self.token("reader").await?;
        let lists = |address: &str| Question {
            token_id: Some(reader.id.clone()),
            action: Grant::One(Action::ObjectList),
            bucket: self.bucket.clone(),
            key: None,
            prefix: Some("ü/".into()),
            address: Some(address.parse().unwrap()),
        };
        let gets = |token_id: Option<&str>, name: &str| Question {
            token_id: token_id.map(str::to_owned),
            action: Grant::One(Action::ObjectGet),
            bucket: self.bucket.clone(),
            key: Some(key(name)),
            prefix: None,
            address: None,
        };
        for (question, reason) in [
            (lists("10.1.2.3"), Reason::Allowed(0)),
            (lists("2001:db8::1"), Reason::Allowed(0)),
            (lists("192.0.2.1"), Reason::NotOwner),
            (gets(Some(&reader.id), "other"), Reason::TokenPrefix),
            (gets(Some("key"), "secret/b"), Reason::Denied(1)),
            (gets(Some("key"), "public/a"), Reason::Owner),
            (gets(None, "public/a"), Reason::Public),
        ] {
            let decided = self.engine.explain(&question).await?;
            assert_eq!(decided, reason, "{question:?}");
        }
        let (engine, nobody) = (&self.engine, Caller::anonymous());
        for (name, size) in [KEPT[0], KEPT[2]] {
            let name = key(name);
            let got = engine.get_object(&nobody, &self.bucket, &name, Select::Whole);
            assert_eq!(read(&mut got.await?).await?, body(size));
        }
        Ok(())
    }
}

/// What format 5 added: requests that are done once, and objects without MD5 and SHA-256.
struct Remembered {
    engine: Engine,
    caller: Caller,
    bucket: BucketName,
}

/// Objects without digests, and their ETags; the last one is in the log only.
const LEFT_OUT: [(&str, usize, &str); 3] = [
    ("in-the-log", 300, "crc64nvme-3f8e02575c731bf0"),
    ("in-a-file", 3_000, "crc64nvme-e7acff99bc0d15de"),
    ("later", 30, "crc64nvme-2e880acf381ec992"),
];
/// An object that was put once; its session is the body of another one.
const ONCE: (&str, usize) = ("once", 200);

impl Remembered {
    fn of(engine: Engine, caller: Caller) -> Self {
        Self {
            engine,
            caller,
            bucket: BucketName::parse("remembered").unwrap(),
        }
    }

    async fn put(&self, name: &str, bytes: Vec<u8>, options: PutOptions) -> Result<(), Error> {
        let (engine, name) = (&self.engine, key(name));
        let put = engine.put_object(&self.caller, &self.bucket, &name, options);
        let mut put = put.await?;
        put.write(bytes.into()).await?;
        put.finish(None).await.map(drop)
    }

    async fn left_out(&self, (name, size, _): (&str, usize, &str)) -> Result<(), Error> {
        let options = PutOptions {
            without_digests: true,
            ..PutOptions::default()
        };
        self.put(name, body(size), options).await
    }

    async fn write_what_will_be_in_the_index(&self) -> Result<(), Error> {
        let engine = &self.engine;
        engine.create_bucket(&self.caller, &self.bucket).await?;
        self.left_out(LEFT_OUT[0]).await?;
        self.left_out(LEFT_OUT[1]).await?;
        let session = engine.open_session();
        let options = PutOptions {
            once: Some(Once::new(&self.caller, session, 1, 1, false)?),
            ..PutOptions::default()
        };
        self.put(ONCE.0, body(ONCE.1), options).await?;
        self.put(
            "session",
            session.as_bytes().to_vec(),
            PutOptions::default(),
        )
        .await
    }

    async fn write_the_rest(&self) -> Result<(), Error> {
        self.left_out(LEFT_OUT[2]).await?;
        let once = Once::new(&self.caller, self.session().await?, 2, 1, true)?;
        let refused = Error::new(ErrorKind::NoSuchKey, "It is kept.");
        let kept = self.engine.refuse_once(&once, refused).await.unwrap_err();
        assert_eq!(kept.kind(), ErrorKind::NoSuchKey);
        Ok(())
    }

    async fn session(&self) -> Result<SessionId, Error> {
        let (caller, bucket, name) = (&self.caller, &self.bucket, key("session"));
        let got = self.engine.get_object(caller, bucket, &name, Select::Whole);
        SessionId::try_from(&read(&mut got.await?).await?[..])
    }

    async fn say_what_they_said(&self) -> Result<(), Error> {
        for (name, size, etag) in LEFT_OUT {
            let (caller, bucket, name) = (&self.caller, &self.bucket, key(name));
            let got = self.engine.get_object(caller, bucket, &name, Select::Whole);
            let mut got = got.await?;
            assert_eq!((got.info().etag.as_str(), got.info().sha256), (etag, None));
            assert_eq!(read(&mut got).await?, body(size));
        }
        let session = self.session().await?;
        let before = |sequence| {
            let once = Once::new(&self.caller, session, sequence, 1, true)?;
            self.engine.written_before(&once, &key(ONCE.0))
        };
        for (sequence, refused) in [(1, None), (2, Some(ErrorKind::NoSuchKey))] {
            match before(sequence) {
                Ok(info) => assert_eq!(info.map(|info| info.size), Some(ONCE.1 as u64)),
                Err(error) if Some(error.kind()) == refused => {}
                // The fixture is older than any session may be.
                Err(error) => assert_eq!(error.kind(), ErrorKind::OutcomeUnknown),
            }
        }
        Ok(())
    }
}

/// A store that was of this format says what it said then, as often as it is opened: the second opening reads
/// what the first one made of it.
async fn says_what_its_format_could(dir: &Path, format: u32) {
    eprintln!("format {format}");
    for _ in 0..2 {
        let (engine, caller) = open(dir).await.unwrap();
        // Each format added a bucket of this account.
        let buckets = engine.list_buckets(&caller).await.unwrap();
        assert_eq!(buckets.len(), format as usize);
        says_what_it_said(&engine, &caller).await.unwrap();
        if format >= 2 {
            let parts = Parts::of(engine.clone(), caller.clone());
            parts.say_what_they_said().await.unwrap();
        }
        if format >= 3 {
            is_rotten(&engine, &caller).await.unwrap();
        }
        if format >= 4 {
            let governed = Governed::of(engine.clone(), caller.clone());
            governed.say_what_they_said().await.unwrap();
        }
        if format >= 5 {
            let remembered = Remembered::of(engine.clone(), caller);
            remembered.say_what_they_said().await.unwrap();
        }
        engine.close().unwrap();
    }
    // A start made it one of the current format, which an older program refuses.
    let now = fs::read(dir.join("FORMAT")).unwrap();
    assert_eq!(now[8..12], CURRENT.to_le_bytes());
    if format >= 2 {
        let (engine, caller) = open(dir).await.unwrap();
        Parts::of(engine, caller).can_be_completed().await.unwrap();
    }
}

#[tokio::test]
async fn a_store_of_any_format_opens_and_says_what_it_said() {
    for format in 1..=CURRENT {
        let dir = tempfile::tempdir().unwrap();
        copy(&fixture(format), dir.path());
        says_what_its_format_could(dir.path(), format).await;
    }
}

/// Since format 3 an index can be made anew from its snapshot and the log.
#[tokio::test]
async fn a_store_that_lost_its_index_says_what_it_said() {
    for format in 3..=CURRENT {
        let dir = tempfile::tempdir().unwrap();
        copy(&fixture(format), dir.path());
        fs::remove_file(dir.path().join("index.redb")).unwrap();
        says_what_its_format_could(dir.path(), format).await;
    }
}

/// Since format 4 the hash of a secret is kept beside its seal, for the day on which the signing secret is lost.
#[tokio::test]
async fn an_access_key_outlives_the_signing_secret_by_its_hash() {
    let dir = tempfile::tempdir().unwrap();
    copy(&fixture(4), dir.path());
    let config = config(dir.path(), "another signing secret of 32 bytes or more");
    let report = rekey(config.clone(), OldSecret::Lost).await.unwrap();
    assert_eq!(report.given_up, 5);
    let engine = Engine::open(config).unwrap();
    engine.bearer("key", ACCESS_SECRET).await.unwrap();
    let wrong = engine.bearer("key", &ACCESS_SECRET[1..]).await;
    assert_eq!(wrong.unwrap_err().kind(), ErrorKind::AccessDenied);
}

#[tokio::test]
#[ignore = "writes the fixture of the current format"]
async fn write_the_fixture() {
    let fixture = fixture(CURRENT);
    assert!(!fixture.exists(), "a fixture is never written again");
    let dir = tempfile::tempdir().unwrap();
    let (engine, caller) = open(dir.path()).await.unwrap();
    engine
        .create_bucket(&caller, &BucketName::parse("fixture").unwrap())
        .await
        .unwrap();
    put(&engine, &caller, "deleted", body(2_000)).await.unwrap();
    for (key, size) in objects().into_iter().take(4) {
        put(&engine, &caller, key, body(size)).await.unwrap();
    }
    put_rotten(dir.path(), &engine, &caller).await.unwrap();
    let governed = Governed::of(engine.clone(), caller.clone());
    governed.write_what_will_be_in_the_index().await.unwrap();
    let remembered = Remembered::of(engine.clone(), caller.clone());
    remembered.write_what_will_be_in_the_index().await.unwrap();
    let parts = Parts::of(engine, caller);
    parts.write_what_will_be_in_the_index().await.unwrap();
    parts.engine.take_snapshot().await.unwrap();
    // Closed and opened again, so that this much is in the index; the rest only in the log.
    parts.engine.close().unwrap();
    drop((parts, governed, remembered));
    let (engine, caller) = open(dir.path()).await.unwrap();
    let (bucket, deleted) = (BucketName::parse("fixture").unwrap(), key("deleted"));
    let (last, size) = objects()[4];
    put(&engine, &caller, last, body(size)).await.unwrap();
    let gone = engine.delete_object(&caller, &bucket, &deleted);
    gone.await.unwrap();
    let governed = Governed::of(engine.clone(), caller.clone());
    governed.write_the_rest().await.unwrap();
    let remembered = Remembered::of(engine.clone(), caller.clone());
    remembered.write_the_rest().await.unwrap();
    let parts = Parts::of(engine, caller);
    parts.write_the_rest().await.unwrap();
    // As a killed process leaves it: copied while it runs, before the applier's turn.
    copy(dir.path(), &fixture);
    let (engine, caller) = (&parts.engine, &parts.caller);
    says_what_it_said(engine, caller).await.unwrap();
    parts.say_what_they_said().await.unwrap();
    governed.say_what_they_said().await.unwrap();
    remembered.say_what_they_said().await.unwrap();
}
