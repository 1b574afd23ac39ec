//! What holds for every input: parsers never panic, what they accept is canonical and within the standard's limits.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

#[allow(dead_code, reason = "the table of bad certificates uses the rest")]
mod forge;

use std::sync::LazyLock;
use std::time::Duration;

use portcullis_identity::{
    SpiffeId, SvidDefect, TrustBundle, TrustDomain, Workload, check_issuer, check_leaf,
};
use proptest::prelude::*;

static LEAF: LazyLock<Vec<u8>> = LazyLock::new(forge::leaf);
static ISSUER: LazyLock<Vec<u8>> = LazyLock::new(forge::issuer);

const TRUST_DOMAIN: &str = "[a-z0-9._-]{1,60}";
/// A segment that is no dot segment.
const SEGMENT: &str = "[a-zA-Z0-9._-]{0,20}[a-zA-Z0-9_-]";

fn within_the_standard(id: &SpiffeId) -> bool {
    let text = id.as_str();
    let segment = |segment: &str| {
        let charset = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        !matches!(segment, "" | "." | "..") && segment.bytes().all(charset)
    };
    let trust_domain = id.trust_domain().as_str();
    text.len() <= 2048
        && (1..=255).contains(&trust_domain.len())
        && trust_domain.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b))
        && text == format!("spiffe://{trust_domain}{}", id.path())
        && (id.path().is_empty()
            || id.path().strip_prefix('/').is_some_and(|path| path.split('/').all(segment)))
}

proptest! {
    #[test]
    fn any_text_is_an_id_within_the_standard_or_refused(text in ".{0,80}") {
        if let Ok(id) = SpiffeId::parse(&text) {
            prop_assert!(within_the_standard(&id), "{id}");
        }
    }

    /// Texts near an ID: random ones would all fail at the scheme.
    #[test]
    fn any_text_after_the_scheme_is_an_id_within_the_standard_or_refused(rest in "[a-zA-Z0-9./:@?#%_ä\\\\-]{0,40}") {
        if let Ok(id) = SpiffeId::parse(&format!("spiffe://{rest}")) {
            prop_assert!(within_the_standard(&id), "{id}");
            prop_assert_eq!(id.to_string(), format!("spiffe://{rest}"), "nothing is normalised");
        }
    }

    #[test]
    fn every_id_of_the_standard_is_accepted_and_shown_as_written(
        trust_domain in TRUST_DOMAIN,
        segments in prop::collection::vec(SEGMENT, 0..8),
    ) {
        let path: String = segments.iter().map(|segment| format!("/{segment}")).collect();
        let id = SpiffeId::parse(&format!("spiffe://{trust_domain}{path}")).unwrap();
        prop_assert!(within_the_standard(&id));
        prop_assert_eq!(id.path(), &path);
        prop_assert_eq!(SpiffeId::parse(&id.to_string()).unwrap(), id);
        prop_assert_eq!(TrustDomain::parse(&trust_domain).unwrap().to_string(), trust_domain);
    }

    #[test]
    fn a_workload_gives_back_its_names(trust_domain in TRUST_DOMAIN, namespace in SEGMENT, account in SEGMENT) {
        let domain = TrustDomain::parse(&trust_domain).unwrap();
        let workload = Workload::new(&domain, &namespace, &account).unwrap();
        prop_assert_eq!(workload.namespace(), &namespace);
        prop_assert_eq!(workload.service_account(), &account);
        prop_assert_eq!(Workload::try_from(workload.id().clone()).unwrap(), workload);
    }

    #[test]
    fn a_name_can_never_smuggle_a_segment(namespace in ".{0,20}", account in ".{0,20}") {
        let domain = TrustDomain::parse("td").unwrap();
        if let Ok(workload) = Workload::new(&domain, &namespace, &account) {
            prop_assert_eq!(workload.namespace(), &namespace);
            prop_assert_eq!(workload.service_account(), &account);
        }
    }

    #[test]
    fn any_bytes_are_judged_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        prop_assert_eq!(check_leaf(&bytes, forge::now()), Err(SvidDefect::Malformed));
        prop_assert_eq!(check_issuer(&bytes, forge::now()), Err(SvidDefect::Malformed));
    }

    #[test]
    fn a_text_is_a_bundle_or_refused_without_panic(text in "[\\[\\]{}:,\"a-z0-9_]{0,80}") {
        let _ = TrustBundle::from_jwks(TrustDomain::parse("td").unwrap(), &text);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    /// Bytes changed, cut out and put in: whatever still passes names what an SVID may name.
    #[test]
    fn a_mutated_certificate_is_judged_without_panic(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3_u8), 1..6),
        seconds in any::<u32>(),
    ) {
        let now = rustls_pki_types::UnixTime::since_unix_epoch(Duration::from_secs(seconds.into()));
        for original in [&*LEAF, &*ISSUER] {
            let mut der = original.clone();
            for (at, byte, kind) in &edits {
                let at = at.index(der.len());
                match kind {
                    0 => der[at] = *byte,
                    1 => drop(der.remove(at)),
                    _ => der.insert(at, *byte),
                }
            }
            for now in [now, forge::now()] {
                if let Ok(facts) = check_leaf(&der, now) {
                    prop_assert!(within_the_standard(&facts.id) && !facts.id.path().is_empty());
                    prop_assert!((1..=20).contains(&facts.serial.as_bytes().len()));
                }
                let _ = check_issuer(&der, now);
            }
        }
    }
}
