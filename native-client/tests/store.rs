//! A bucket as an object store: the suite of that crate.

mod server;

use jay_client::{Client, JayStore};
use object_store::{integration, path::Path};

use self::server::Server;

#[tokio::test]
async fn the_suite_of_object_store_passes() {
    let server = Server::start().await;
    let client = Client::connect(&server.url).await.unwrap();
    let bucket = client.create_bucket("bucket").await.unwrap();
    let store = JayStore::new(bucket);
    integration::put_get_delete_list(&store).await;
    integration::get_opts(&store).await;
    integration::put_opts(&store, true).await;
    integration::put_get_attributes(&store).await;
    integration::list_uses_directories_correctly(&store).await;
    integration::list_with_delimiter(&store).await;
    integration::list_with_offset_exclusivity(&store).await;
    integration::rename_and_copy(&store).await;
    integration::copy_if_not_exists(&store).await;
    integration::copy_rename_nonexistent_object(&store).await;
    integration::stream_get(&store).await;
    integration::multipart_race_condition(&store, true).await;
    integration::multipart_out_of_order(&store).await;
    let missing = integration::get_nonexistent_object(&store, Some(Path::from("missing"))).await;
    assert!(
        matches!(missing, Err(object_store::Error::NotFound { .. })),
        "{missing:?}"
    );
    // Below a prefix all is the same.
    let below = JayStore::new(client.bucket("bucket").with_prefix("some/where/"));
    integration::put_get_delete_list(&below).await;
    integration::list_with_delimiter(&below).await;
}
