//! Life without an authority: as long as the certificates, and no operator is needed afterwards.

use std::time::Duration;

use portcullis_tests::mesh::{HTTP, Pair};
use portcullis_tests::within;

use super::{PATIENCE, certificate_end, freshly_renewed, now, poll};

const LIMIT: Duration = Duration::from_secs(90);
/// The last second of a certificate still counts (RFC 5280, 4.1.2.5); what has begun in it may end after it.
const LAST_SECOND: Duration = Duration::from_secs(1);

/// What the client's app gets from the service.
fn ask(pair: &Pair) -> (String, String) {
    super::ask(pair.as_app("curl"), &format!("http://{}/", pair.service(HTTP)))
}

#[test]
fn traffic_goes_on_without_the_authority_until_the_certificates_end_and_comes_back_with_it() {
    within(LIMIT, || {
        let mut pair = Pair::start("5s");
        freshly_renewed([&pair.client.host, &pair.server.host], Duration::from_secs(3));
        pair.mesh.authority.kill();
        let ends = [&pair.client.host, &pair.server.host].map(certificate_end);
        let (first, last) = (*ends.iter().min().unwrap(), *ends.iter().max().unwrap());
        let mut served = 0;
        let refused = poll("refusal after the end", || {
            let asked = now();
            let (status, body) = ask(&pair);
            if now() < first {
                assert_eq!(status, "200", "{body}");
                served += 1;
            } else if asked > first + LAST_SECOND {
                assert_ne!(status, "200", "served without a proof: {body}");
            }
            (asked > last + LAST_SECOND).then_some((status, body))
        });
        assert!(served > 0, "nothing was served without the authority");
        assert_eq!(refused.0, "503", "{}", refused.1);
        let reason = "this sidecar holds no valid certificate: the certificate expired at";
        assert!(refused.1.contains(reason), "{}", refused.1);
        assert!(refused.1.contains("no connection to the authority"), "{}", refused.1);

        pair.mesh.authority.start_again().unwrap();
        poll("recovery through the join token", || (ask(&pair).0 == "200").then_some(()));
    });
}

#[test]
fn an_expired_join_token_is_named_and_a_new_one_is_taken_up_without_a_restart() {
    within(LIMIT, || {
        let mut pair = Pair::start("3s");
        pair.mesh.authority.kill();
        pair.mesh.replace_token("client", "1s");
        let end = certificate_end(&pair.client.host).max(now() + LAST_SECOND);
        poll("certificate and token expired", || (now() > end + LAST_SECOND).then(|| ask(&pair)));

        pair.mesh.authority.start_again().unwrap();
        let line = pair.client.line(|line| line.contains("the join token has expired"), PATIENCE).unwrap();
        assert!(line.contains(r#""level":"WARN""#) && line.contains("no certificate"), "{line}");
        let (status, body) = ask(&pair);
        assert_eq!(status, "503", "{body}");
        assert!(body.contains("the join token has expired"), "{body}");
        pair.mesh.replace_token("client", "10m");
        poll("recovery through the new token", || (ask(&pair).0 == "200").then_some(()));
    });
}
