//! Starting from what an earlier run left, in every condition.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::script::Served;
use super::*;

/// A directory as a good run leaves it.
async fn state_of(served: &Served) -> tempfile::TempDir {
    let state = tempfile::tempdir().unwrap();
    let directory = state.path().join("state");
    let config = config(&served.address, Some(&served.token()), Some(&directory));
    let mut running = Running::start(config, served.script.mesh.clock.clock());
    running.next().await;
    running.until("written down", |_| directory.join("svid.json").exists()).await;
    running.stop().await;
    state
}

fn try_start(served: &Served, token: Option<&str>, directory: &Path) -> Result<IdentityWatch, String> {
    let config = config(&served.address, token, Some(directory));
    let started = start(config, served.script.mesh.clock.clock());
    started.map(|(watch, _)| watch).map_err(|error| error.to_string())
}

#[tokio::test]
async fn state_is_for_our_eyes_alone() {
    let served = Served::start().await;
    let state = state_of(&served).await;
    let directory = state.path().join("state");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&directory), 0o700);
    for file in ["svid.json", "bundle.json", "join.json"] {
        assert_eq!(mode(&directory.join(file)), 0o600, "{file}");
    }
    let names: Vec<_> = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 3, "nothing else is left behind: {names:?}");
}

#[tokio::test]
async fn a_corrupt_state_is_one_clear_error_without_a_token_and_moved_aside_with_one() {
    let served = Served::start().await;
    for (file, content) in [
        ("svid.json", &b"{"[..]),
        ("svid.json", b""),
        ("svid.json", b"\xff\xfe"),
        ("svid.json", br#"{"key":"AA==","chain":[]}"#),
        ("svid.json", br#"{"key":"!","chain":[]}"#),
        ("svid.json", br#"{"key":"AA==","chain":["AA=="]}"#),
        ("bundle.json", b"{}"),
        ("bundle.json", br#"{"keys":[]}"#),
    ] {
        let state = state_of(&served).await;
        let directory = state.path().join("state");
        assert!(try_start(&served, None, &directory).is_ok(), "control: good state needs no token");
        fs::write(directory.join(file), content).unwrap();
        let error = try_start(&served, None, &directory).unwrap_err();
        assert!(error.contains(file) && error.contains("join token"), "{error}");
        assert_eq!(fs::read(directory.join(file)).unwrap(), content, "untouched");

        let watch = try_start(&served, Some(&served.token()), &directory).unwrap();
        assert!(watch.current().is_none());
        let aside = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path());
        let kept = format!("{file}.unusable");
        let aside = aside.into_iter().find(|path| path.to_string_lossy().contains(&kept)).unwrap();
        assert_eq!(fs::read(aside).unwrap(), content, "kept");
    }
}

#[tokio::test]
async fn a_key_that_is_not_the_certificate_s_is_corrupt_state() {
    let served = Served::start().await;
    let (one, two) = (state_of(&served).await, state_of(&served).await);
    let read = |state: &tempfile::TempDir| -> serde_json::Value {
        serde_json::from_slice(&fs::read(state.path().join("state/svid.json")).unwrap()).unwrap()
    };
    let mut mixed = read(&one);
    mixed["key"] = read(&two)["key"].clone();
    fs::write(one.path().join("state/svid.json"), mixed.to_string()).unwrap();
    let error = try_start(&served, None, &one.path().join("state")).unwrap_err();
    assert!(error.contains("svid.json") && error.contains("do not go together"), "{error}");
    assert!(try_start(&served, None, &two.path().join("state")).is_ok());
}

#[tokio::test]
async fn state_of_another_workload_or_of_yesterday_is_named() {
    let served = Served::start().await;
    let state = state_of(&served).await;
    let directory = state.path().join("state");
    let content = fs::read(directory.join("svid.json")).unwrap();
    for token in [None, Some(served.token())] {
        let mut other = config(&served.address, token.as_deref(), Some(&directory));
        other.workload = Workload::new(&trust_domain(), "production", "web").unwrap();
        let error = start(other, served.script.mesh.clock.clock()).err().unwrap().to_string();
        assert!(error.contains("sa/api") && error.contains("sa/web"), "{error}");
        assert_eq!(fs::read(directory.join("svid.json")).unwrap(), content, "it is another sidecar's");
    }

    served.script.mesh.clock.advance(Duration::from_secs(3700));
    let error = try_start(&served, None, &directory).unwrap_err();
    assert!(error.contains("expired 100 s ago") && error.contains("join token"), "{error}");
    assert!(try_start(&served, Some(&served.token()), &directory).is_ok());
}

#[tokio::test]
async fn without_any_evidence_there_is_no_start() {
    let served = Served::start().await;
    let empty = tempfile::tempdir().unwrap();
    let error = try_start(&served, None, empty.path()).unwrap_err();
    assert!(
        error.contains("portcullis-ca token --identity spiffe://cluster.local/ns/production/sa/api"),
        "{error}"
    );
    for (token, part) in [("", "starts with pcj1."), ("pcj1.!", "not base64url")] {
        let error = try_start(&served, Some(token), empty.path()).unwrap_err();
        assert!(error.contains(part), "{error}");
    }
    let mut missing = config(&served.address, None, None);
    missing.join_token = Some(TokenSource::File(empty.path().join("token")));
    let error = start(missing, served.script.mesh.clock.clock()).err().unwrap().to_string();
    assert!(error.contains("join token file") && error.contains("/token"), "{error}");
    let mut other = config(&served.address, Some(&served.token()), None);
    other.workload = Workload::new(&trust_domain(), "production", "web").unwrap();
    let error = start(other, served.script.mesh.clock.clock()).err().unwrap().to_string();
    assert!(error.contains("it is for spiffe://cluster.local/ns/production/sa/api"), "{error}");
}

#[tokio::test]
async fn a_state_directory_that_cannot_be_made_is_named() {
    let served = Served::start().await;
    let empty = tempfile::tempdir().unwrap();
    fs::write(empty.path().join("file"), "").unwrap();
    let error = try_start(&served, Some(&served.token()), &empty.path().join("file")).unwrap_err();
    assert!(error.contains("/file"), "{error}");
}
