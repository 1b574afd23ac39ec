//! The fields of AuthorizationPolicy.

use super::{Field, Kind, different, refused, supported};

pub(super) const KIND: Kind = Kind {
    name: "AuthorizationPolicy",
    about: "Who may do what on the own ports, asked after the peer has proven its identity. A DENY that is met refuses; \
            with no ALLOW at all any proven peer of the trust domain may; otherwise one ALLOW must be met. AUDIT records \
            and decides nothing. A policy of the root namespace holds for every namespace. A caller that came by a \
            plaintext exception has no identity, and meets no rule that asks for one.\n\n\
            What is matched is the certificate of the connection, and the request as the app gets it. A path is \
            judged decoded, and in both readings that an app may have of it: as it came, and cleaned up of `.`, `..` and \
            repeated slashes. An ALLOW rule must be met in both, one of DENY or AUDIT in either. Where a rule asks for \
            a path, one that an app might read in yet another way is refused. A rule that asks for something of a request is a load error for a port that is declared to carry \
            TCP; on a port that declares nothing such rules make HTTP the only thing that gets in.",
    fields: FIELDS,
};

const FIELDS: &[Field] = &[
    supported(
        "selector.matchLabels",
        "{app: api}",
        "The workloads of the namespace that have all these labels.",
    ),
    refused("targetRef", "{kind: Gateway, name: g}", "There are no gateways or waypoints. Use `selector`."),
    refused("targetRefs", "[{kind: Service, name: s}]", "As above."),
    supported("action", "DENY", "`ALLOW`, `DENY` or `AUDIT`; `ALLOW` when not given."),
    refused("action: CUSTOM", "", "Nobody else is asked for decisions."),
    refused("provider", "{name: opa}", "As above."),
    supported(
        "rules",
        "[{}]",
        "One must be met. ALLOW without rules lets nobody in; an empty rule is met by everybody. `from`, `to` and `when` \
         must all be met when they are there, and must not be empty lists.",
    ),
    different(
        "rules[].from[].source.principals",
        "[cluster.local/ns/a/sa/b]",
        "Identities without `spiffe://`; `*` at one end or alone. Of this trust domain, as others do not get that far.",
    ),
    different("rules[].from[].source.notPrincipals", "[cluster.local/ns/a/sa/b]", "None of them. As above."),
    refused(
        "rules[].from[].source.requestPrincipals",
        "[\"iss/sub\"]",
        "Tokens of requests are not checked. Use `principals`.",
    ),
    refused("rules[].from[].source.notRequestPrincipals", "[\"iss/sub\"]", "As above."),
    supported(
        "rules[].from[].source.namespaces",
        "[a]",
        "The namespace of the peer's identity; `*` at one end or alone.",
    ),
    supported("rules[].from[].source.notNamespaces", "[a]", "None of them."),
    supported(
        "rules[].from[].source.serviceAccounts",
        "[a/b]",
        "`NAMESPACE/NAME`, or `NAME` in the policy's namespace.",
    ),
    supported("rules[].from[].source.notServiceAccounts", "[a/b]", "None of them."),
    supported("rules[].from[].source.ipBlocks", "[10.0.0.0/8]", "The peer's address on the connection."),
    supported("rules[].from[].source.notIpBlocks", "[10.0.0.0/8]", "None of them."),
    refused(
        "rules[].from[].source.remoteIpBlocks",
        "[10.0.0.0/8]",
        "`X-Forwarded-For` is what the caller writes. Use `ipBlocks`.",
    ),
    refused("rules[].from[].source.notRemoteIpBlocks", "[10.0.0.0/8]", "As above."),
    different(
        "rules[].to[].operation.hosts",
        "[api.example.com]",
        "Letters in either case; `*` at one end or alone. A pattern without a port is met with any port.",
    ),
    different("rules[].to[].operation.notHosts", "[api.example.com]", "None of them. As above."),
    supported("rules[].to[].operation.ports", "[\"8080\"]", "The workload's ports, as texts."),
    supported("rules[].to[].operation.notPorts", "[\"8080\"]", "None of them."),
    supported("rules[].to[].operation.methods", "[GET]", "In their own case; `*` at one end or alone."),
    supported("rules[].to[].operation.notMethods", "[GET]", "None of them."),
    different(
        "rules[].to[].operation.paths",
        "[/a]",
        "The path without query, in both readings; `*` at one end or alone, or a template of whole segments. `{*}` is one \
         that is not empty. `{**}`, once and behind every `{*}`, is all that is between the slashes around it, also \
         nothing: `/a/{**}` fits `/a/` and `/a/b/c`, and not `/a`; `/a/{**}/z` fits `/a/b/c/z`, and not `/a/z`. A \
         pattern that no such path can have is a load error.",
    ),
    different("rules[].to[].operation.notPaths", "[/a]", "None of them. As above."),
    supported(
        "rules[].when[].key",
        "source.ip",
        "`request.headers[NAME]`, `source.ip`, `source.namespace`, `source.principal`, `source.serviceAccount`, \
         `destination.ip`, `destination.port`, `connection.sni`.",
    ),
    refused(
        "rules[].when[].key: \"request.auth.claims[iss]\"",
        "",
        "And all of `request.auth`: tokens of requests are not checked.",
    ),
    refused(
        "rules[].when[].key: remote.ip",
        "",
        "`X-Forwarded-For` is what the caller writes. Use `source.ip`.",
    ),
    refused(
        "rules[].when[].key: \"source.labels[version]\"",
        "",
        "Ours, and not there yet: certificates carry no labels.",
    ),
    refused("rules[].when[].key: \"experimental.envoy.filters.a[b]\"", "", "There are no Envoy filters."),
    supported("rules[].when[].values", "[\"a\"]", "One of them."),
    supported("rules[].when[].notValues", "[\"a\"]", "None of them."),
];
