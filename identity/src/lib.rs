//! Who a workload is: SPIFFE IDs, X.509-SVIDs, trust bundles, and the rules a certificate must meet.
//!
//! Pure data and checks. This crate opens no socket and starts no task; time is always passed in, and [`Clock`]
//! is what the binaries pass. Chain building and signatures are the TLS stack's; what the TLS stack does not check is here.

mod bundle;
mod chain;
mod clock;
mod defect;
mod id;
mod svid;
mod token;
mod x509;

pub use bundle::{BundleError, TrustBundle, TrustBundles};
pub use chain::{BadAnchor, ChainDefect, ChainVerifier, Role, VerifiedChain};
pub use clock::{Clock, ManualClock};
pub use defect::SvidDefect;
pub use id::{IdDefect, SpiffeId, TrustDomain, Workload};
pub use svid::{Svid, SvidError};
pub use token::{JoinToken, TokenDefect};
pub use x509::{
    CertificateFacts, Fingerprint, IssuerFacts, Serial, check_issuer, check_leaf, issuer_namespace_oid,
};
