//! Stores and keys that are wrong: a clear error, and nothing lost or made anew.

use std::fs;
use std::path::Path;
use std::time::Duration;

use portcullis_ca::{
    Authority, AuthorityError, GivenRoot, Lives, SealingKey, Settings, SettingsError, Store, StoreError,
    StoreLock,
};
use portcullis_identity::{Clock, ManualClock, TrustDomain};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, GeneralSubtree, IsCa, KeyPair,
    KeyUsagePurpose, NameConstraints,
};
use sqlx::Connection;
use time::OffsetDateTime;

use crate::fixture::{DAY, Fixture, START, execute, sealing_key, settings};

fn clock() -> Clock {
    ManualClock::at(START).clock()
}

async fn open(path: &Path) -> Result<Authority, AuthorityError> {
    open_with(path, sealing_key(), settings(Lives::default())).await
}

async fn open_with(path: &Path, key: SealingKey, settings: Settings) -> Result<Authority, AuthorityError> {
    Authority::open(path, StoreLock::acquire(path)?, key, settings, clock()).await
}

/// Makes a store and closes it again.
async fn make(path: &Path) -> Vec<u8> {
    let authority = open(path).await.unwrap();
    let root = authority.root().to_vec();
    authority.store().close().await;
    root
}

#[tokio::test]
async fn each_way_a_store_can_be_broken_has_its_own_error() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ca.db");
    make(&path).await;
    let whole = fs::read(&path).unwrap();
    let mut garbled = whole.clone();
    garbled[8192..].fill(0xa5);
    let cut = whole[..whole.len() / 2].to_vec();
    for (content, expected) in [
        (Vec::new(), "is empty: restore it"),
        (b"not a database, not at all".to_vec(), "it is not an SQLite file"),
        (b"SQLite".to_vec(), "it is not an SQLite file"),
        (whole[..60].to_vec(), "is damaged (cut short)"),
        (whole[..100].to_vec(), "is damaged"),
        (cut, "is damaged"),
        (garbled, "is damaged"),
    ] {
        fs::write(&path, &content).unwrap();
        let error = open(&path).await.err().unwrap().to_string();
        assert!(error.contains(expected) && error.contains("ca.db"), "{expected}: {error}");
        assert_eq!(fs::read(&path).unwrap(), content, "not a byte is changed: {expected}");
    }
    fs::write(&path, &whole).unwrap();
    open(&path).await.expect("the whole file is good");
}

#[tokio::test]
async fn a_store_that_is_a_directory_or_lost_its_file_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ca.db");
    fs::create_dir(&path).unwrap();
    assert!(matches!(open(&path).await, Err(AuthorityError::Store(StoreError::Io { .. }))));
    fs::remove_dir(&path).unwrap();
    let log = directory.path().join("ca.db-wal");
    fs::write(&log, "what was committed").unwrap();
    let error = open(&path).await.err().unwrap();
    assert!(matches!(error, AuthorityError::Store(StoreError::OrphanedLog { .. })), "{error}");
    assert!(log.exists() && !path.exists());
    assert!(matches!(Store::open(&directory.path().join("none"), None).await, Err(StoreError::Missing(_))));
}

#[tokio::test]
async fn another_programs_database_is_refused_and_left_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ca.db");
    fs::write(&path, "").unwrap();
    execute(&path, "CREATE TABLE theirs (x)").await;
    let theirs = fs::read(&path).unwrap();
    let error = open(&path).await.err().unwrap();
    assert!(matches!(error, AuthorityError::Store(StoreError::Foreign(_))), "{error}");
    assert_eq!(fs::read(&path).unwrap(), theirs);
}

#[tokio::test]
async fn a_store_of_a_newer_version_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ca.db");
    make(&path).await;
    execute(&path, "INSERT INTO _sqlx_migrations VALUES (99, 'later', '2030-01-01', 1, x'00', 1)").await;
    let error = open(&path).await.err().unwrap();
    assert!(matches!(error, AuthorityError::Store(StoreError::Newer { found: 99, known: 1, .. })), "{error}");
}

#[tokio::test]
async fn another_key_or_trust_domain_does_not_open_a_store() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ca.db");
    let root = make(&path).await;
    let error =
        open_with(&path, SealingKey::random().unwrap(), settings(Lives::default())).await.err().unwrap();
    assert!(matches!(error, AuthorityError::WrongKey(_)), "{error}");
    let mut other = settings(Lives::default());
    other.trust_domain = TrustDomain::parse("elsewhere").unwrap();
    let error = open_with(&path, sealing_key(), other).await.err().unwrap();
    assert!(matches!(error, AuthorityError::TrustDomain { .. }), "{error}");
    assert_eq!(open(&path).await.unwrap().root().to_vec(), root);
}

#[tokio::test]
async fn a_sealed_key_moved_to_another_authority_does_not_open() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ca.db");
    make(&path).await;
    let swap = "UPDATE authorities SET sealed_key = (SELECT sealed_key FROM authorities WHERE role = 'root')";
    execute(&path, swap).await;
    let error = open(&path).await.err().unwrap();
    assert!(matches!(error, AuthorityError::SealedKey(_)), "{error}");
}

#[tokio::test]
async fn two_authorities_do_not_run_on_one_store() {
    let ca = Fixture::start().await;
    assert!(matches!(open(&ca.store).await, Err(AuthorityError::Store(StoreError::Locked(_)))));
    assert!(Store::open(&ca.store, None).await.is_ok(), "reading beside it is fine");
}

#[tokio::test]
async fn a_store_that_cannot_be_written_makes_issuing_unavailable_for_that_time() {
    let ca = Fixture::start().await;
    let held = ca.join("api").await;
    let lock = crate::fixture::hold_write_lock(&ca.store).await;
    let error = ca.client().renew(&held).await.err().unwrap();
    assert_eq!(error.code(), tonic::Code::Unavailable, "{error}");
    lock.close().await.unwrap();
    ca.client().renew(&held).await.expect("it recovers by itself");
}

#[tokio::test]
async fn no_private_key_or_token_is_in_clear_in_the_files() {
    let ca = Fixture::start().await;
    let token = ca.token("api").await;
    ca.client().join(&token).await.unwrap();
    let given = given("given", |_| {});
    let second = tempfile::tempdir().unwrap();
    let path = second.path().join("ca.db");
    let (certificate, key) = (given.0.as_bytes(), given.1.as_bytes());
    let mut with_root = settings(Lives::default());
    with_root.given_root =
        GivenRoot::from_pem(certificate, key, &with_root.trust_domain, &with_root.lives, &clock()).ok();
    let authority = open_with(&path, sealing_key(), with_root).await.unwrap();
    let bytes = |store: &Path| {
        let names = ["", "-wal", "-shm"].map(|suffix| format!("{}{suffix}", store.display()));
        names.iter().filter_map(|name| fs::read(name).ok()).flatten().collect::<Vec<u8>>()
    };
    let holds =
        |haystack: &[u8], needle: &[u8]| haystack.windows(needle.len()).any(|window| window == needle);
    let file = bytes(&path);
    assert!(holds(&file, authority.root()), "the search finds what is there");
    // The private scalar of a P-256 key in PKCS#8 starts at byte 36.
    let pair = KeyPair::from_pem(&given.1).unwrap();
    assert!(!holds(&file, &pair.serialized_der()[36..68]));
    // PKCS#8 of any EC key: version, algorithm id-ecPublicKey.
    let pkcs8 = [0x02, 0x01, 0x00, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
    assert!(holds(pair.serialized_der(), &pkcs8), "the pattern is right");
    for file in [file, bytes(&ca.store)] {
        assert!(!holds(&file, &pkcs8));
        assert!(!holds(&file, token.to_text().as_bytes()));
        assert!(!holds(&file, b"pcj1."));
    }
}

/// A root certificate and key in PEM, changed by `alter`.
fn given(name: &str, alter: impl FnOnce(&mut CertificateParams)) -> (String, String) {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = OffsetDateTime::from_unix_timestamp(1_799_000_000).unwrap();
    params.not_after = OffsetDateTime::from_unix_timestamp(1_900_000_000).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    alter(&mut params);
    let key = KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

fn read(given: &(String, String)) -> Result<GivenRoot, SettingsError> {
    let trust_domain = TrustDomain::parse("cluster.local").unwrap();
    GivenRoot::from_pem(given.0.as_bytes(), given.1.as_bytes(), &trust_domain, &Lives::default(), &clock())
}

#[tokio::test]
async fn a_given_root_is_the_root() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ca.db");
    let given = given("ours", |_| {});
    let with = |given: &(String, String)| Settings {
        given_root: Some(read(given).unwrap()),
        ..settings(Lives::default())
    };
    let authority = open_with(&path, sealing_key(), with(&given)).await.unwrap();
    let pem = rustls_pki_types::pem::PemObject::from_pem_slice(given.0.as_bytes());
    let certificate: rustls_pki_types::CertificateDer<'static> = pem.unwrap();
    assert_eq!(*authority.root(), certificate);
    authority.store().close().await;
    drop(authority);
    let again = open_with(&path, sealing_key(), with(&given)).await.unwrap();
    again.store().close().await;
    drop(again);
    open(&path).await.expect("it need not be given again").store().close().await;
    let other = open_with(&path, sealing_key(), with(&self::given("other", |_| {}))).await.err().unwrap();
    assert!(matches!(other, AuthorityError::OtherRoot { .. }), "{other}");
}

#[tokio::test]
async fn a_given_root_that_cannot_work_is_refused_before_a_store_is_made() {
    let (good, other) = (given("good", |_| {}), given("other", |_| {}));
    assert!(read(&good).is_ok());
    let refused = |given: &(String, String)| read(given).err().unwrap();
    assert!(matches!(refused(&(good.0.clone(), other.1.clone())), SettingsError::RootKey));
    assert!(matches!(refused(&(good.0.clone(), String::new())), SettingsError::RootKeyPem));
    assert!(matches!(refused(&(good.0.clone(), good.0.clone())), SettingsError::RootKeyPem));
    assert!(matches!(refused(&(String::new(), good.1.clone())), SettingsError::RootPem));
    assert!(matches!(refused(&(format!("{}{}", good.0, other.0), good.1.clone())), SettingsError::RootPem));
    let not_a_ca = given("leaf", |params| params.is_ca = IsCa::ExplicitNoCa);
    assert!(matches!(refused(&not_a_ca), SettingsError::Root(_)));
    let cannot_sign = given("usage", |params| params.key_usages = vec![KeyUsagePurpose::CrlSign]);
    assert!(matches!(refused(&cannot_sign), SettingsError::Root(_)));
    let soon = START + DAY * 6 - Duration::from_secs(1);
    let ends = given("ends", |params| {
        params.not_after = OffsetDateTime::from_unix_timestamp(soon.as_secs().try_into().unwrap()).unwrap();
    });
    assert!(matches!(refused(&ends), SettingsError::RootEnds { .. }));

    let leaves_only = given("pathlen", |params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)));
    assert!(matches!(refused(&leaves_only), SettingsError::RootPathLength));

    // Names that the constraint forbids show up when the first intermediate is tried.
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ca.db");
    let constrained = given("constrained", |params| {
        let permitted_subtrees = vec![GeneralSubtree::DirectoryName(DistinguishedName::new())];
        let excluded_subtrees = vec![GeneralSubtree::DnsName("example".to_owned())];
        params.name_constraints = Some(NameConstraints { permitted_subtrees, excluded_subtrees });
    });
    let settings = Settings { given_root: Some(read(&constrained).unwrap()), ..settings(Lives::default()) };
    let error = open_with(&path, sealing_key(), settings).await.err().unwrap();
    assert!(error.to_string().contains("would not verify under the root"), "{error}");
    assert!(!path.exists());
}
