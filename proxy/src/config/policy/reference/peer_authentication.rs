//! The fields of PeerAuthentication.

use super::{Field, Kind, different, refused, supported};

pub(super) const KIND: Kind = Kind {
    name: "PeerAuthentication",
    about: "Which of a workload's own ports are STRICT, and which are plaintext by exception. With none at all every \
            port is STRICT. A policy of the root namespace without selector is the widest, then one of the \
            workload's namespace without selector, then one with a selector; the port goes before the workload. Two \
            of one scope that both match are a load error: Istio takes the oldest.",
    fields: FIELDS,
};

const FIELDS: &[Field] = &[
    supported(
        "selector.matchLabels",
        "{app: api}",
        "The workloads of the namespace that have all these labels. Labels are those of the bootstrap file.",
    ),
    different(
        "mtls.mode",
        "STRICT",
        "`STRICT` or `UNSET`, which inherits. With nothing to inherit it is `STRICT`, where Istio is permissive.",
    ),
    refused(
        "mtls.mode: PERMISSIVE",
        "",
        "It lets plaintext in beside mutual TLS, and nobody sees which of them is used.",
    ),
    refused("mtls.mode: DISABLE", "", "It opens all ports at once. Open single ports with `portLevelMtls`."),
    different(
        "portLevelMtls.PORT.mode",
        "STRICT",
        "`STRICT`, `UNSET` or `DISABLE`. It works without a selector too, which Istio does not take. The port is the \
         workload's. `DISABLE` is an exception, and should have a plan: see [Annotations](#annotations).",
    ),
    refused("portLevelMtls.PORT.mode: PERMISSIVE", "", "As above."),
];
