//! Killed and started again: from the files that a sidecar keeps.

use std::fs;
use std::time::Duration;

use portcullis_tests::mesh::{HTTP, Mesh, Pair, Plan};
use portcullis_tests::within;

use super::{PATIENCE, ask, now};

const LIMIT: Duration = Duration::from_secs(90);
/// Moments of a kill, evenly over twice the time of a first contact.
const KILLS: u32 = 14;
/// With those that follow, later and later, while the machine is so busy that none of the first came too late.
const MOST_KILLS: u32 = 10 * KILLS;

#[test]
fn a_sidecar_comes_back_from_its_files_with_the_authority_dead() {
    within(LIMIT, || {
        let mut pair = Pair::start("24h");
        for sidecar in [&pair.client, &pair.server] {
            // Said when it is on the disk, which may be a moment after it is in force.
            sidecar.line(|line| line.contains("certificate received"), PATIENCE).unwrap();
        }
        pair.mesh.authority.kill();
        let url = format!("http://{}/", pair.service(HTTP));
        for sidecar in [&mut pair.client, &mut pair.server] {
            sidecar.kill();
            sidecar.start().unwrap();
            sidecar.ready().unwrap();
        }
        let (status, body) = ask(pair.as_app("curl"), &url);
        assert_eq!(status, "200", "{body}");
        // Without those files it has nothing: they, and nobody else, were where it came from.
        pair.client.kill();
        fs::remove_file(pair.mesh.dir().join("client/state/svid.json")).unwrap();
        pair.client.start().unwrap();
        pair.client.line(|line| line.contains("no connection to the authority"), PATIENCE).unwrap();
        let (status, body) = ask(pair.as_app("curl"), &url);
        assert_eq!(status, "503", "{body}");
    });
}

#[test]
fn a_kill_at_any_moment_of_the_first_contact_does_not_cost_the_join_token() {
    within(LIMIT, || {
        let mut mesh = Mesh::start("24h");
        let host = mesh.host("api");
        mesh.sample_policy(host.ipv4());
        // One that is let live tells how long a first contact takes here.
        let mut sidecar = mesh.sidecar(&host, &Plan { name: "measured", ..Plan::default() });
        let started = now();
        sidecar.start().unwrap();
        sidecar.ready().unwrap();
        let contact = now() - started;
        drop(sidecar);

        let mut sidecar = mesh.sidecar(&host, &Plan { name: "api-service", ..Plan::default() });
        let state = mesh.dir().join("api-service/state");
        let (mut before_the_key, mut with_certificate) = (0, 0);
        for kill in 0..MOST_KILLS {
            if kill >= KILLS && with_certificate > 0 {
                break;
            }
            sidecar.start().unwrap();
            // Nothing is waited for: the deadline is the moment of the kill.
            let moment = contact * kill * 2 / KILLS;
            assert!(sidecar.line(|_| false, moment).is_err());
            sidecar.kill();
            before_the_key += u32::from(!state.join("join.json").exists());
            // As after a crash between the answer and the disk.
            with_certificate += u32::from(fs::remove_file(state.join("svid.json")).is_ok());
        }
        sidecar.start().unwrap();
        sidecar.ready().unwrap();
        // Whether the moments were those in question.
        assert!(before_the_key > 0, "no kill came early enough to show anything");
        assert!((1..KILLS).contains(&with_certificate), "{with_certificate} kills came too late");
    });
}
