//! The fields of DestinationRule.

use super::{Field, Kind, different, refused, supported};

pub(super) const KIND: Kind = Kind {
    name: "DestinationRule",
    about: "How a service is reached. The rule is looked for in the client's namespace, then in the service's, then in \
            the root namespace; in each the exact host goes before the longest wildcard, and of two for one host the \
            one with a `workloadSelector` that fits goes first. Two of a sort for one host are a load error: Istio \
            merges them.\n\n\
            The narrower setting wins, and what it leaves out is inherited: the subset's port, the subset, the rule's \
            port, the rule. Istio inherits nothing at a port. Limits and TLS settings are inherited one by one, \
            `loadBalancer` and `outlierDetection` as a block. TLS settings towards SPIFFE IDs (`ISTIO_MUTUAL`, \
            `DISABLE`) inherit nothing from those towards DNS names (`SIMPLE`, `MUTUAL`), nor the reverse.",
    fields: FIELDS,
};

const FIELDS: &[Field] = &[
    supported(
        "host",
        "api",
        "Exact, `*.SUFFIX` or `*`. A name without dots is a service of the rule's namespace.",
    ),
    supported(
        "workloadSelector.matchLabels",
        "{app: api}",
        "The clients of the rule's namespace that it is for.",
    ),
    supported(
        "exportTo",
        "[\".\"]",
        "`*`, `.` and names of namespaces: clients elsewhere do not see the rule.",
    ),
    // TLS.
    different(
        "trafficPolicy.tls.mode",
        "ISTIO_MUTUAL",
        "`ISTIO_MUTUAL` (own identity, and the server proves a SPIFFE ID), `SIMPLE` and `MUTUAL` (the server proves a DNS \
         name), or `DISABLE`. Not written it is `ISTIO_MUTUAL`, where Istio is in plaintext. `DISABLE` is an exception, \
         and should have a plan: see [Annotations](#annotations). It is refused for wildcard hosts.",
    ),
    different(
        "trafficPolicy.tls.clientCertificate",
        "client.pem",
        "With `MUTUAL`: the chain, a PEM file. Paths are absolute or start where the policy file lies, and the files are \
         read when the policy is loaded, and again when they change.",
    ),
    different(
        "trafficPolicy.tls.privateKey",
        "client.key",
        "With `MUTUAL`: the key of that certificate, a PEM file.",
    ),
    different(
        "trafficPolicy.tls.caCertificates",
        "ca.pem",
        "With `SIMPLE` and `MUTUAL`: the roots, a PEM file. The system's roots when not given, where Istio checks nothing.",
    ),
    refused(
        "trafficPolicy.tls.credentialName",
        "secret",
        "There is no API server to ask for it. Write the files.",
    ),
    different(
        "trafficPolicy.tls.subjectAltNames",
        "[\"spiffe://cluster.local/ns/a/sa/b\"]",
        "Who may answer: SPIFFE IDs with `ISTIO_MUTUAL`, DNS names with `SIMPLE` and `MUTUAL`. Without them, see \
         ServiceEntry; for DNS names it is the `sni`. An empty list is an error, it never means any.",
    ),
    supported("trafficPolicy.tls.sni", "api.example.com", "The name asked for; the host when not given."),
    refused("trafficPolicy.tls.insecureSkipVerify: true", "", "A server that proves nothing can be anyone."),
    refused(
        "trafficPolicy.tls.caCrl",
        "crl.pem",
        "No revocation list is read. Take the authority out of `caCertificates`.",
    ),
    // Connections.
    supported(
        "trafficPolicy.connectionPool.tcp.maxConnections",
        "100",
        "Exact over all threads and endpoints, for each destination and each proxy. A request beyond it waits, see \
         `http1MaxPendingRequests`; a TCP connection is reset. 0 is no bound.",
    ),
    supported(
        "trafficPolicy.connectionPool.tcp.connectTimeout",
        "5s",
        "1ms to 24h; 10s when not given. TLS has a time of its own.",
    ),
    different(
        "trafficPolicy.connectionPool.tcp.tcpKeepalive.probes",
        "3",
        "1 to 127; the system's when not given, or 0. Without the block the first probe comes after 60 s of silence, \
         and then every 20 s, where Istio sends none.",
    ),
    supported(
        "trafficPolicy.connectionPool.tcp.tcpKeepalive.time",
        "7200s",
        "Whole seconds from 1s to 32767s; the system's when not given.",
    ),
    supported(
        "trafficPolicy.connectionPool.tcp.tcpKeepalive.interval",
        "75s",
        "Whole seconds from 1s to 32767s; the system's when not given.",
    ),
    different(
        "trafficPolicy.connectionPool.tcp.idleTimeout",
        "1h",
        "Longest silence on a TCP stream. For ever when not given, or 0s, where Istio takes an hour.",
    ),
    supported(
        "trafficPolicy.connectionPool.tcp.maxConnectionDuration",
        "24h",
        "Longest life of a connection, 1ms to 87600h. A TCP stream is cut then; an HTTP connection takes no new request, \
         and ends with the last one under way. Without end when not given.",
    ),
    supported(
        "trafficPolicy.connectionPool.http.http1MaxPendingRequests",
        "50",
        "Requests that wait for a connection, in any version of HTTP, and not for one that is being opened. One more is \
         answered 503 at once. How long they wait: see [Annotations](#annotations). 0 is no bound.",
    ),
    supported(
        "trafficPolicy.connectionPool.http.http2MaxRequests",
        "1000",
        "Requests under way, in any version of HTTP. One more is answered 503 at once. 0 is no bound.",
    ),
    supported(
        "trafficPolicy.connectionPool.http.maxRequestsPerConnection",
        "10",
        "After so many a connection is closed. 0 is no bound.",
    ),
    different(
        "trafficPolicy.connectionPool.http.maxRetries",
        "3",
        "Retries under way at once. One more is not made, and the failure is handed on with \
         `x-portcullis-retries: budget`. When not given, or 0, one for five requests under way, and three in any case.",
    ),
    different(
        "trafficPolicy.connectionPool.http.idleTimeout",
        "30s",
        "How long a connection is kept without a request. A minute when not given, where Istio takes an hour: it should \
         be less than the server waits. 1ms to 87600h.",
    ),
    supported(
        "trafficPolicy.connectionPool.http.h2UpgradePolicy",
        "UPGRADE",
        "`UPGRADE` sends HTTP/1.1 requests as HTTP/2; `DEFAULT` and `DO_NOT_UPGRADE` send them as the port declares.",
    ),
    supported(
        "trafficPolicy.connectionPool.http.useClientProtocol",
        "true",
        "Requests travel in the version that the app speaks, whatever else is said.",
    ),
    different(
        "trafficPolicy.connectionPool.http.http2KeepAlive.interval",
        "30s",
        "How long an HTTP/2 connection is silent before it is probed (PING), with or without requests under way. 1ms to \
         24h; needed in the block. Without the block 30 s between sidecars, and no probes elsewhere, because servers may \
         take them for abuse; Istio sends none.",
    ),
    different(
        "trafficPolicy.connectionPool.http.http2KeepAlive.timeout",
        "20s",
        "How long the answer is waited for before the connection is given up. 1ms to 24h; 20s when not given.",
    ),
    supported(
        "trafficPolicy.connectionPool.http.maxConcurrentStreams",
        "100",
        "Streams at once on one HTTP/2 connection. 0 is no bound but the server's.",
    ),
    // Balancing.
    supported(
        "trafficPolicy.loadBalancer.simple",
        "ROUND_ROBIN",
        "`ROUND_ROBIN`, `LEAST_REQUEST`, `RANDOM`, `UNSPECIFIED`, and the old name `LEAST_CONN`. `LEAST_REQUEST` when not \
         given.",
    ),
    refused(
        "trafficPolicy.loadBalancer.simple: PASSTHROUGH",
        "",
        "A ServiceEntry with resolution NONE dials what the app dialled, and says who may answer.",
    ),
    refused(
        "trafficPolicy.loadBalancer.consistentHash",
        "{useSourceIp: true}",
        "And all of it. No server is bound to a client.",
    ),
    refused(
        "trafficPolicy.loadBalancer.localityLbSetting",
        "{enabled: true}",
        "And all of it. Endpoints have no locality.",
    ),
    refused(
        "trafficPolicy.loadBalancer.warmup",
        "{duration: 30s}",
        "And all of it. A new server gets its full share at once.",
    ),
    refused("trafficPolicy.loadBalancer.warmupDurationSecs", "30s", "As `warmup`."),
    // Outliers.
    refused(
        "trafficPolicy.outlierDetection.consecutiveErrors",
        "5",
        "Istio gave it up. Write `consecutive5xxErrors` or `consecutiveGatewayErrors`.",
    ),
    supported(
        "trafficPolicy.outlierDetection.splitExternalLocalOriginErrors",
        "false",
        "Only `false`: a failed connection counts as an error of both sorts.",
    ),
    refused("trafficPolicy.outlierDetection.splitExternalLocalOriginErrors: true", "", "As above."),
    refused(
        "trafficPolicy.outlierDetection.consecutiveLocalOriginFailures",
        "5",
        "It belongs to the field before it.",
    ),
    supported(
        "trafficPolicy.outlierDetection.consecutiveGatewayErrors",
        "5",
        "502, 503, 504 and no answer, in a row. Off when not given, or 0.",
    ),
    supported(
        "trafficPolicy.outlierDetection.consecutive5xxErrors",
        "5",
        "500 to 599 and no answer, in a row. 5 when not given, off when 0.",
    ),
    supported(
        "trafficPolicy.outlierDetection.interval",
        "10s",
        "How often servers left out are looked through; 10s when not given.",
    ),
    supported(
        "trafficPolicy.outlierDetection.baseEjectionTime",
        "30s",
        "The first time so long, the second time twice, and so on; 30s when not given.",
    ),
    supported(
        "trafficPolicy.outlierDetection.maxEjectionPercent",
        "50",
        "At most so many at a time, though one may always be; 10 when not given, or 0.",
    ),
    supported(
        "trafficPolicy.outlierDetection.minHealthPercent",
        "20",
        "Below so many left all are used again; 0 when not given.",
    ),
    // The rest.
    different(
        "trafficPolicy.portLevelSettings[].port.number",
        "80",
        "The service's port. What the port leaves out is inherited.",
    ),
    different(
        "trafficPolicy.portLevelSettings[].connectionPool",
        "{tcp: {maxConnections: 1}}",
        "As above, for one port.",
    ),
    different(
        "trafficPolicy.portLevelSettings[].loadBalancer",
        "{simple: RANDOM}",
        "As above, for one port.",
    ),
    different(
        "trafficPolicy.portLevelSettings[].outlierDetection",
        "{interval: 1s}",
        "As above, for one port.",
    ),
    different("trafficPolicy.portLevelSettings[].tls", "{mode: ISTIO_MUTUAL}", "As above, for one port."),
    refused(
        "trafficPolicy.tunnel",
        "{targetHost: a.b, targetPort: 1}",
        "And all of it. Nothing is tunnelled through another proxy.",
    ),
    refused("trafficPolicy.proxyProtocol", "{version: V2}", "Who called is proven by the certificate."),
    refused("trafficPolicy.retryBudget", "{percent: 20}", "Bound retries by `maxRetries`."),
    supported("subsets[].name", "v1", "What routes refer to."),
    supported(
        "subsets[].labels",
        "{version: v1}",
        "The endpoints that have all of them; all endpoints when there are none.",
    ),
    supported("subsets[].trafficPolicy", "{loadBalancer: {simple: RANDOM}}", "As above, for the subset."),
];
