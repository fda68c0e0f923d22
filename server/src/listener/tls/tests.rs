use super::*;

fn pair() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

struct Pair {
    dir: tempfile::TempDir,
}

impl Pair {
    fn new() -> Self {
        let pair = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        let (cert, key) = self::pair();
        pair.write(&cert, &key);
        pair
    }

    fn files(&self) -> TlsFiles {
        TlsFiles {
            cert: self.dir.path().join("cert"),
            key: self.dir.path().join("key"),
            names: ("JAY_TLS_CERT", "JAY_TLS_KEY"),
        }
    }

    fn write(&self, cert: &str, key: &str) {
        std::fs::write(self.files().cert, cert).unwrap();
        std::fs::write(self.files().key, key).unwrap();
    }

    fn refused(&self) -> String {
        TlsConfig::load(&self.files()).err().unwrap().to_string()
    }
}

#[test]
fn what_cannot_be_used_is_named() {
    let pair = Pair::new();
    TlsConfig::load(&pair.files()).unwrap();
    let (cert, key) = self::pair();

    pair.write(&cert, &self::pair().1);
    assert!(pair.refused().starts_with("JAY_TLS_CERT and JAY_TLS_KEY"));
    pair.write(&key, &key);
    assert!(pair.refused().contains("JAY_TLS_CERT") && pair.refused().contains("no certificate"));
    pair.write(&cert, &cert);
    assert!(pair.refused().contains("JAY_TLS_KEY") && pair.refused().contains("no private key"));
    std::fs::remove_file(pair.files().key).unwrap();
    assert!(
        pair.refused().starts_with("JAY_TLS_KEY:") && pair.refused().contains("cannot be read")
    );
    // It has no end.
    std::os::unix::fs::symlink("/dev/zero", pair.files().key).unwrap();
    assert!(pair.refused().contains("no regular file"));
}

#[test]
fn an_error_shows_no_key() {
    let pair = Pair::new();
    let secret = "MC4CAQAwBQYDK2VwBCIEIHNlY3JldHNlY3JldHNlY3JldHNlY3JldHNlY3JldHNl";
    let key = format!("-----BEGIN PRIVATE KEY-----\n{secret}\n-----END PRIVATE KEY-----\n");
    pair.write(&self::pair().0, &key);
    let error = TlsConfig::load(&pair.files()).err().unwrap();
    assert!(!format!("{error} {error:?}").contains("MC4C"), "{error:?}");
}

#[test]
fn a_change_is_taken_and_a_broken_one_is_not() {
    let pair = Pair::new();
    let tls = Tls::load(pair.files()).unwrap();
    let first = tls.current.load_full();
    tls.reload();
    assert!(Arc::ptr_eq(&first, &tls.current.load_full()), "unchanged");

    let (cert, key) = self::pair();
    pair.write(&cert, "broken");
    tls.reload();
    assert!(Arc::ptr_eq(&first, &tls.current.load_full()), "broken");
    std::fs::remove_file(pair.files().cert).unwrap();
    tls.reload();
    assert!(Arc::ptr_eq(&first, &tls.current.load_full()), "missing");

    pair.write(&cert, &key);
    tls.reload();
    assert!(!Arc::ptr_eq(&first, &tls.current.load_full()), "new");
}
