//! The bundled certificate authority: proves who asks, issues SPIFFE identities, remembers what it issued.
//!
//! [`Authority`] is the whole of it without a network; [`serve`] puts it behind mutual TLS and gRPC. Time is
//! passed in as a [`Clock`](portcullis_identity::Clock), so a test can live through years of issuing.

mod authority;
pub mod cli;
mod csr;
mod issue;
mod profile;
mod refusals;
mod seal;
mod server;
mod settings;
mod status;
mod store;

use portcullis_identity::{IdDefect, TrustDomain, Workload};

pub use authority::{Authority, AuthorityError};
pub use csr::{CsrDefect, RequestedKey};
pub use issue::{Ask, IssueError, Issued, Refusal, TokenError};
pub use profile::ProfileError;
pub use seal::{KeyError, SealingKey};
pub use server::{ServeError, proto, serve};
pub use settings::{GivenRoot, Lives, Settings, SettingsError};
pub use store::{AuthorityLine, IdentityLine, Status, Store, StoreError, StoreLock};

/// Namespace and service account of every authority, as its clients expect them.
const OWN_NAME: (&str, &str) = ("portcullis-system", "portcullis-ca");

fn own_workload(trust_domain: &TrustDomain) -> Result<Workload, IdDefect> {
    Workload::new(trust_domain, OWN_NAME.0, OWN_NAME.1)
}
