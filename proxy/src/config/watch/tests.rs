//! Every way in which policy files change, on a real file system.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use tempfile::TempDir;
use tokio::time::timeout;

use super::*;
use crate::config::tests::{now, scope};
use crate::route::Transport;
use crate::tls::EgressTls;
use crate::tls::testing::ca_params;

/// Far longer than anything here takes, and shorter than the poll: it is inotify that tells.
const PATIENCE: Duration = Duration::from_secs(8);

/// A policy that opens one port.
fn opening(port: u16) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n\
         metadata: {{name: default, namespace: production}}\n\
         spec: {{mtls: {{mode: STRICT}}, portLevelMtls: {{{port}: {{mode: DISABLE}}}}}}\n"
    )
}

/// The policy of `path`, watched, after the first look.
async fn watched(path: &Path) -> PolicyWatch {
    let clock = portcullis_identity::ManualClock::at(now()).clock();
    let source = PolicySource { paths: vec![path.to_owned()], scope: scope("v1"), clock };
    let (_policy, watch) = source.load().unwrap_or_else(|report| panic!("{report}")).follow();
    assert!(watch.look(false).await.is_none(), "nothing has changed since the load");
    watch
}

/// What comes of the next change that the kernel tells of.
async fn next(watch: &mut PolicyWatch) -> Result<Policy, Report> {
    // Without its first tick the poll would have to pass for this to be told by anything but inotify.
    let mut poll = interval(POLL);
    poll.reset();
    watch.poll.get_or_insert(poll);
    timeout(PATIENCE, watch.next()).await.expect("a change goes unnoticed")
}

async fn assert_opens(watch: &mut PolicyWatch, port: u16) {
    let policy = next(watch).await.unwrap_or_else(|report| panic!("{report}"));
    assert!(policy.inbound.mode(port, now()).is_plaintext(), "{port} is not open");
}

/// As editors and careful programs write: whole, then in the place of the old one.
fn rename_over(path: &Path, text: &str) {
    let beside = path.with_extension("new");
    fs::write(&beside, text).unwrap();
    fs::rename(&beside, path).unwrap();
}

/// A generation of a mounted ConfigMap: a hidden directory, and `..data`, which is swapped to lead to it.
fn config_map(directory: &Path, generation: u16) {
    let hidden = format!("..generation-{generation}");
    fs::create_dir(directory.join(&hidden)).unwrap();
    fs::write(directory.join(&hidden).join("policy.yaml"), opening(generation)).unwrap();
    symlink(&hidden, directory.join("..data_tmp")).unwrap();
    fs::rename(directory.join("..data_tmp"), directory.join("..data")).unwrap();
    let old = directory.join(format!("..generation-{}", generation - 1));
    if old.exists() {
        fs::remove_dir_all(old).unwrap();
    }
}

fn directory() -> TempDir {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("policy.yaml"), opening(1)).unwrap();
    directory
}

#[tokio::test]
async fn a_file_written_in_place_or_renamed_over_is_read_again() {
    let directory = directory();
    let file = directory.path().join("policy.yaml");
    for source in [directory.path(), &file] {
        fs::write(&file, opening(1)).unwrap();
        let mut watch = watched(source).await;
        fs::write(&file, opening(2)).unwrap();
        assert_opens(&mut watch, 2).await;
        rename_over(&file, &opening(3));
        assert_opens(&mut watch, 3).await;
        // The file is another now: its successor is noticed as well.
        rename_over(&file, &opening(4));
        assert_opens(&mut watch, 4).await;
    }
}

#[tokio::test]
async fn files_come_and_go() {
    let directory = directory();
    let mut watch = watched(directory.path()).await;
    fs::remove_file(directory.path().join("policy.yaml")).unwrap();
    let policy = next(&mut watch).await.unwrap();
    assert!(!policy.inbound.mode(1, now()).is_plaintext(), "without any policy all is STRICT");
    fs::write(directory.path().join("other.yml"), opening(2)).unwrap();
    assert_opens(&mut watch, 2).await;
}

#[tokio::test]
async fn a_config_map_is_swapped_again_and_again() {
    for of_a_file in [false, true] {
        let directory = TempDir::new().unwrap();
        config_map(directory.path(), 1);
        let file = directory.path().join("policy.yaml");
        symlink("..data/policy.yaml", &file).unwrap();
        let mut watch = watched(if of_a_file { &file } else { directory.path() }).await;
        for generation in 2..6 {
            config_map(directory.path(), generation);
            assert_opens(&mut watch, generation).await;
        }
    }
}

#[tokio::test]
async fn a_link_to_the_directory_is_swapped() {
    let root = TempDir::new().unwrap();
    for generation in 1..4 {
        let directory = root.path().join(generation.to_string());
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("policy.yaml"), opening(generation)).unwrap();
    }
    let current = root.path().join("current");
    symlink("1", &current).unwrap();
    let mut watch = watched(&current).await;
    for generation in [2, 3] {
        symlink(generation.to_string(), root.path().join("next")).unwrap();
        fs::rename(root.path().join("next"), &current).unwrap();
        assert_opens(&mut watch, generation).await;
    }
    // Where the link leads to is watched by now, and no longer where it led.
    fs::write(root.path().join("1/policy.yaml"), opening(8)).unwrap();
    rename_over(&root.path().join("3/policy.yaml"), &opening(9));
    assert_opens(&mut watch, 9).await;
}

#[tokio::test]
async fn a_directory_that_goes_is_a_fault_until_it_is_back() {
    let root = TempDir::new().unwrap();
    let directory = root.path().join("deep/policy");
    let make = |port: u16| {
        let built = root.path().join("built");
        fs::create_dir_all(built.join("policy")).unwrap();
        fs::write(built.join("policy/policy.yaml"), opening(port)).unwrap();
        fs::rename(built, root.path().join("deep")).unwrap();
    };
    make(1);
    let mut watch = watched(&directory).await;
    for port in [2, 3] {
        fs::remove_dir_all(root.path().join("deep")).unwrap();
        let report = next(&mut watch).await.unwrap_err().to_string();
        assert!(report.contains("deep/policy: cannot be read"), "{report}");
        make(port);
        assert_opens(&mut watch, port).await;
    }
    // Moved away, and another put in its place.
    fs::rename(root.path().join("deep"), root.path().join("old")).unwrap();
    make(4);
    assert_opens(&mut watch, 4).await;
    fs::write(root.path().join("deep/policy/policy.yaml"), opening(5)).unwrap();
    assert_opens(&mut watch, 5).await;
}

#[tokio::test]
async fn what_holds_what_it_held_is_no_change() {
    let directory = directory();
    let file = directory.path().join("policy.yaml");
    let mut watch = watched(directory.path()).await;
    rename_over(&file, &opening(1));
    timeout(PATIENCE, watch.changed.notified()).await.expect("an event");
    watch.settle().await;
    assert!(watch.look(false).await.is_none(), "the same bytes");
    fs::write(directory.path().join("README.md"), "not policy").unwrap();
    timeout(PATIENCE, watch.changed.notified()).await.expect("an event");
    assert!(watch.look(false).await.is_none(), "no policy file");
    // But whoever asks gets it read: it may rest on other files.
    watch.settle().await;
    watch.asked.notify_one();
    assert_opens(&mut watch, 1).await;
    let more = timeout(QUIET, watch.changed.notified()).await;
    assert!(more.is_err(), "looking leads to looking");
}

#[tokio::test]
async fn a_bad_policy_is_reported_once_and_a_good_one_follows() {
    let directory = directory();
    let file = directory.path().join("policy.yaml");
    let mut watch = watched(directory.path()).await;
    fs::write(&file, opening(2).replace("DISABLE", "PERMISSIVE")).unwrap();
    let report = next(&mut watch).await.unwrap_err();
    assert!(report.to_string().contains("PERMISSIVE"), "{report}");
    assert!(watch.look(false).await.is_none(), "said already");
    // Back to what it was: that is a change as well.
    fs::write(&file, opening(1)).unwrap();
    assert_opens(&mut watch, 1).await;
}

#[tokio::test]
async fn faults_whose_reason_lies_elsewhere_end_with_it() {
    let directory = directory();
    let watch = watched(directory.path()).await;
    // As if a file that the policy names, or a descriptor to read it with, had been missing.
    watch.state.lock().unwrap().faults = Some("a file is missing".to_owned());
    let policy = watch.look(false).await.expect("the same files, without faults by now").unwrap();
    assert!(policy.inbound.mode(1, now()).is_plaintext());
    assert!(watch.look(false).await.is_none());
}

/// A policy that trusts what `roots.pem` beside it holds.
const TRUSTING: &str = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\n\
    metadata: {name: api, namespace: production}\n\
    spec: {hosts: [api.example.com], resolution: DNS, ports: [{number: 443, name: https}]}\n---\n\
    apiVersion: networking.istio.io/v1\nkind: DestinationRule\n\
    metadata: {name: api, namespace: production}\n\
    spec: {host: api.example.com, trafficPolicy: {tls: {mode: SIMPLE, caCertificates: roots.pem}}}\n";

fn root(path: &Path) {
    let ca = ca_params("an authority");
    let certificate = ca.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
    let pem = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, certificate.der());
    fs::write(path, format!("-----BEGIN CERTIFICATE-----\n{pem}\n-----END CERTIFICATE-----\n")).unwrap();
}

fn trusted(policy: &Policy) -> Arc<EgressTls> {
    let destination = policy.outbound.destination_by_host("api.example.com", 443).unwrap();
    let Ok(Transport::Tls(tls)) = destination.transport(now()) else { panic!("{destination:?}") };
    Arc::clone(tls)
}

#[tokio::test]
async fn a_certificate_that_the_policy_names_is_read_again_when_it_changes() {
    let (directory, secrets) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let roots = directory.path().join("roots.pem");
    // Mounted as Kubernetes mounts a secret: behind a link.
    root(&secrets.path().join("1"));
    symlink(secrets.path().join("1"), &roots).unwrap();
    fs::write(directory.path().join("policy.yaml"), TRUSTING).unwrap();
    let mut watch = watched(directory.path()).await;
    let mut before = trusted(&watch.look(true).await.unwrap().unwrap());
    for generation in ["2", "3"] {
        root(&secrets.path().join(generation));
        symlink(secrets.path().join(generation), directory.path().join("next")).unwrap();
        fs::rename(directory.path().join("next"), &roots).unwrap();
        let after = trusted(&next(&mut watch).await.unwrap());
        assert!(*after != *before, "another root makes another transport");
        before = after;
    }
    fs::write(secrets.path().join("3"), "half").unwrap();
    let report = next(&mut watch).await.unwrap_err().to_string();
    assert!(report.contains("roots.pem: holds no CERTIFICATE"), "{report}");
    root(&secrets.path().join("3"));
    assert!(*trusted(&next(&mut watch).await.unwrap()) != *before);
}

#[tokio::test]
async fn a_certificate_that_a_reload_names_is_watched_from_then_on() {
    let directory = directory();
    let roots = directory.path().join("roots.pem");
    let mut watch = watched(directory.path()).await;
    root(&roots);
    fs::write(directory.path().join("policy.yaml"), TRUSTING).unwrap();
    let before = trusted(&next(&mut watch).await.unwrap());
    root(&roots);
    assert!(*trusted(&next(&mut watch).await.unwrap()) != *before);
}

#[tokio::test]
async fn a_change_between_the_load_and_the_first_look_is_found() {
    let directory = directory();
    let clock = portcullis_identity::ManualClock::at(now()).clock();
    let source = PolicySource { paths: vec![directory.path().to_owned()], scope: scope("v1"), clock };
    let (_policy, mut watch) = source.load().unwrap().follow();
    fs::write(directory.path().join("policy.yaml"), opening(2)).unwrap();
    let policy = timeout(PATIENCE, watch.next()).await.expect("the first look").unwrap();
    assert!(policy.inbound.mode(2, now()).is_plaintext());
}

#[tokio::test]
async fn what_the_kernel_does_not_tell_the_poll_finds() {
    let directory = directory();
    let mut watch = watched(directory.path()).await;
    watch.state.lock().unwrap().watches = Watches::new(Arc::default());
    fs::write(directory.path().join("policy.yaml"), opening(2)).unwrap();
    watch.poll = Some(interval(Duration::from_millis(10)));
    let policy = timeout(PATIENCE, watch.next()).await.expect("the poll").unwrap();
    assert!(policy.inbound.mode(2, now()).is_plaintext());
}

#[tokio::test(start_paused = true)]
async fn a_burst_is_waited_out_but_not_for_ever() {
    let directory = directory();
    let watch = watched(directory.path()).await;
    let started = Instant::now();
    watch.settle().await;
    assert_eq!(started.elapsed(), QUIET);
    let changed = Arc::clone(&watch.changed);
    let storm = tokio::spawn(async move {
        loop {
            changed.notify_one();
            tokio::time::sleep(QUIET / 2).await;
        }
    });
    let started = Instant::now();
    watch.settle().await;
    assert_eq!(started.elapsed(), LONGEST_WAIT);
    storm.abort();
}

#[test]
fn links_in_a_circle_end() {
    let directory = TempDir::new().unwrap();
    let [one, two] = ["one", "two"].map(|name| directory.path().join(name));
    symlink(&one, &two).unwrap();
    symlink(&two, &one).unwrap();
    let trails = trail::Trails::of(std::slice::from_ref(&one), &[]);
    assert!(trails.concerns(&one) && trails.concerns(&two));
    assert!(!trails.concerns(&directory.path().join("three")));
}
