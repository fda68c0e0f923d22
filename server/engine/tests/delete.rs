//! Deletes under conditions.

mod store;

use jay_engine::{
    BucketName, Caller, DeleteConditions, ETag, Engine, EngineConfig, ErrorKind, ObjectInfo,
    ObjectKey, PutOptions, Timestamp,
};

use self::store::{SECRET, key, let_in, make_bucket};

struct World {
    engine: Engine,
    caller: Caller,
    bucket: BucketName,
    key: ObjectKey,
    _dir: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let engine = Engine::open(EngineConfig::new(dir.path(), SECRET)).unwrap();
        let caller = let_in(&engine).await.unwrap();
        let bucket = BucketName::parse("bucket").unwrap();
        make_bucket(&engine, &caller, &bucket).await.unwrap();
        Self {
            engine,
            caller,
            bucket,
            key: key("k"),
            _dir: dir,
        }
    }

    async fn put(&self, bytes: &'static [u8]) -> ObjectInfo {
        let options = PutOptions::default();
        let (engine, caller) = (&self.engine, &self.caller);
        let put = engine.put_object(caller, &self.bucket, &self.key, options);
        let mut put = put.await.unwrap();
        put.write(bytes.into()).await.unwrap();
        put.finish(None).await.unwrap()
    }

    async fn delete_if(&self, conditions: DeleteConditions) -> Option<ErrorKind> {
        let (engine, caller) = (&self.engine, &self.caller);
        let deleted = engine.delete_object_if(caller, &self.bucket, &self.key, &conditions);
        deleted.await.err().map(|error| error.kind())
    }

    async fn size(&self) -> Option<u64> {
        let (engine, caller) = (&self.engine, &self.caller);
        let info = engine.head_object(caller, &self.bucket, &self.key).await;
        info.ok().map(|info| info.size)
    }
}

#[tokio::test]
async fn an_object_goes_when_its_conditions_hold() {
    let world = World::new().await;
    let info = world.put(b"hello").await;
    let default = DeleteConditions::default;
    let holding = [
        default(),
        DeleteConditions {
            if_match: Some(info.etag.clone()),
            ..default()
        },
        DeleteConditions {
            if_match_size: Some(5),
            ..default()
        },
    ];
    let failing = [
        DeleteConditions {
            if_match: Some(ETag::new("other")),
            ..default()
        },
        DeleteConditions {
            if_match_size: Some(6),
            ..default()
        },
        DeleteConditions {
            if_match_modified: Some(Timestamp(info.last_modified.0 - 1000)),
            ..default()
        },
        DeleteConditions {
            if_match: Some(info.etag),
            if_match_size: Some(6),
            ..default()
        },
    ];
    for conditions in holding {
        for failing in &failing {
            let kind = world.delete_if(failing.clone()).await;
            assert_eq!(kind, Some(ErrorKind::PreconditionFailed), "{failing:?}");
            assert_eq!(world.size().await, Some(5));
        }
        assert_eq!(world.delete_if(conditions.clone()).await, None);
        assert_eq!(world.size().await, None, "{conditions:?}");
        // Sent again, and where there is nothing, all of them hold.
        for failing in &failing {
            assert_eq!(world.delete_if(failing.clone()).await, None);
        }
        world.put(b"hello").await;
    }
    let modified = DeleteConditions {
        if_match_modified: Some(world.put(b"hello").await.last_modified),
        ..default()
    };
    assert_eq!(world.delete_if(modified).await, None);
    assert_eq!(world.size().await, None);
}

/// Whichever comes first, the delete of the old object must not take the new one with it.
#[tokio::test]
async fn an_overwrite_is_not_deleted_by_the_tag_of_what_it_replaced() {
    let world = World::new().await;
    for _ in 0..50 {
        let conditions = DeleteConditions {
            if_match: Some(world.put(b"old").await.etag),
            ..DeleteConditions::default()
        };
        let (_, kind) = tokio::join!(world.put(b"new one"), world.delete_if(conditions));
        assert!(matches!(kind, None | Some(ErrorKind::PreconditionFailed)));
        assert_eq!(world.size().await, Some(7));
    }
}
