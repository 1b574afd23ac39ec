//! The fields of VirtualService.

use super::{Field, Kind, different, refused, supported};

pub(super) const KIND: Kind = Kind {
    name: "VirtualService",
    about: "Where requests and connections to a service go. It is read by the caller's sidecar, and the one whose host \
            fits closest is taken, the exact one first. Two for one host that the workload sees are a load error: Istio \
            takes the oldest. The first route whose conditions are met is taken; when none is, the answer is 404 and \
            says which rule it was. Conditions on the workload (`sourceLabels`, `sourceNamespace`, `port`) are settled \
            when the policy is loaded.\n\n\
            `sourceLabels` are matched by the caller's own sidecar against the labels of its bootstrap file. That is \
            routing and no boundary: who may call is said by an AuthorizationPolicy on the server's side.",
    fields: FIELDS,
};

const FIELDS: &[Field] = &[
    supported(
        "hosts",
        "[api]",
        "Exact, `*.SUFFIX` or `*`. A name without dots is a service of the rule's namespace.",
    ),
    different("gateways: [mesh]", "", "Only `mesh`, which is what holds when the field is not written."),
    refused("gateways[]: my-gateway", "", "There are no gateways. Remove it, or write `mesh` alone."),
    supported("exportTo", "[\".\"]", "`*`, `.` and names of namespaces: workloads elsewhere do not see it."),
    refused("tls", "[]", "TLS of the app's own travels inside ours as bytes. Route it with `tcp`."),
    // Conditions of HTTP.
    supported("http[].name", "main", "Shown in logs and reasons."),
    supported("http[].match[].name", "by-path", "For readers."),
    supported(
        "http[].match[].uri",
        "{prefix: /a}",
        "`exact`, `prefix` or `regex`, on the path without its query.",
    ),
    supported("http[].match[].ignoreUriCase", "true", "For `exact` and `prefix`."),
    different(
        "http[].match[].scheme",
        "{exact: http}",
        "What an app sends in the clear is `http`: a condition that `http` does not meet is a load error.",
    ),
    supported(
        "http[].match[].method",
        "{exact: GET}",
        "`exact`, `prefix` or `regex`, in its own case of letters.",
    ),
    supported(
        "http[].match[].authority",
        "{exact: api}",
        "As the client wrote it, with the port if it wrote one.",
    ),
    different(
        "http[].match[].headers",
        "{x-user: {exact: jo}}",
        "`exact`, `prefix`, `regex`, or `{}` for: it is there. Names are in lower case. Fields of one connection and of \
         the identity are taken out of a request first, and a condition on them is a load error.",
    ),
    different(
        "http[].match[].withoutHeaders",
        "{x-user: {}}",
        "The request has none that fits. Else as `headers`.",
    ),
    supported(
        "http[].match[].queryParams",
        "{v: {exact: \"1\"}}",
        "`exact`, `prefix`, `regex`, or `{}` for: it is there.",
    ),
    supported("http[].match[].port", "80", "The service's port that was asked for."),
    different(
        "http[].match[].sourceLabels",
        "{version: v2}",
        "Labels of the caller: routing and no boundary.",
    ),
    supported("http[].match[].sourceNamespace", "production", "The caller's namespace."),
    different("http[].match[].gateways: [mesh]", "", "Only `mesh`."),
    refused("http[].match[].gateways[]: my-gateway", "", "There are no gateways."),
    refused("http[].match[].statPrefix", "a", "Metrics have names of their own."),
    // Destinations.
    supported(
        "http[].route[].destination.host",
        "api",
        "A service that a ServiceEntry declares; anything else is a load error.",
    ),
    supported(
        "http[].route[].destination.subset",
        "v1",
        "A subset of its DestinationRule, with at least one endpoint.",
    ),
    supported(
        "http[].route[].destination.port.number",
        "80",
        "The only port that the host has when not given, else the one that was asked for.",
    ),
    different(
        "http[].route[].weight",
        "1",
        "In relation to the others. With several destinations each needs one; a single one gets everything.",
    ),
    supported(
        "http[].route[].headers",
        "{request: {set: {x-a: b}}}",
        "As `headers` of the route, for this destination, and after them.",
    ),
    // Actions.
    supported("http[].redirect.uri", "/b", "The whole new path."),
    supported("http[].redirect.authority", "b.example.com", "The new authority."),
    supported("http[].redirect.port", "8080", "The new port."),
    supported("http[].redirect.derivePort", "FROM_REQUEST_PORT", "Or `FROM_PROTOCOL_DEFAULT`."),
    supported("http[].redirect.scheme", "https", "`http` or `https`."),
    supported("http[].redirect.redirectCode", "308", "301, 302, 303, 307 or 308; 301 when not given."),
    supported("http[].directResponse.status", "503", "200 to 599."),
    supported("http[].directResponse.body.string", "gone", "Text, bounded."),
    supported("http[].directResponse.body.bytes", "Z29uZQ==", "Bytes in base64, bounded."),
    refused("http[].delegate", "{name: other}", "Write the routes of the other VirtualService here."),
    supported(
        "http[].rewrite.uri",
        "/b",
        "The new path; under a prefix condition the new prefix. The query stays.",
    ),
    supported("http[].rewrite.authority", "b.example.com", "The new authority."),
    supported("http[].rewrite.uriRegexRewrite.match", "\"^/a\"", "RE2 syntax; every match is replaced."),
    supported("http[].rewrite.uriRegexRewrite.rewrite", "/b", "`\\1` is the first group."),
    supported("http[].timeout", "5s", "504 after that. None when not given, or 0s."),
    different(
        "http[].retries.attempts",
        "2",
        "At most so often, and only if the request was provably not acted upon or does no harm when it is acted upon \
         twice (RFC 9110, 9.2.2). A POST, or any other request that is not idempotent, is never sent again after an \
         answer (whatever its status or gRPC status), a reset or `perTryTimeout`, whatever `retryOn` says: only when no \
         connection was made, or the server said that it has not begun. 2 when `retries` is not written.",
    ),
    supported("http[].retries.perTryTimeout", "1s", "Of one attempt; not longer than the timeout."),
    different(
        "http[].retries.retryOn",
        "5xx",
        "`5xx`, `gateway-error`, `reset`, `reset-before-request`, `connect-failure`, `refused-stream`, `retriable-4xx`, \
         status codes, and the gRPC words `cancelled`, `deadline-exceeded`, `internal`, `resource-exhausted`, \
         `unavailable`. It narrows down what may be sent again, it allows nothing that does harm. Every call of gRPC is a \
         POST, so that those words are read and lead to no retry.",
    ),
    refused(
        "http[].retries.retryOn: envoy-ratelimited",
        "",
        "Nothing here makes that condition; so for `retriable-headers` and `http3-post-connect-failure`.",
    ),
    refused("http[].retries.retryRemoteLocalities", "true", "Endpoints have no locality."),
    supported(
        "http[].retries.retryIgnorePreviousHosts",
        "true",
        "Another server is tried first whenever there is one.",
    ),
    refused("http[].retries.retryIgnorePreviousHosts: false", "", "As above."),
    refused("http[].retries.backoff", "10ms", "How long a retry waits is fixed."),
    supported("http[].fault.delay.fixedDelay", "1s", "At most an hour."),
    supported("http[].fault.delay.percentage.value", "50", "All when not given."),
    supported("http[].fault.delay.percent", "50", "The old form."),
    refused("http[].fault.delay.exponentialDelay", "1s", "Write `fixedDelay`."),
    supported("http[].fault.abort.httpStatus", "503", "The answer instead."),
    supported("http[].fault.abort.grpcStatus", "UNAVAILABLE", "The gRPC answer instead, by name or number."),
    refused(
        "http[].fault.abort.http2Error",
        "a",
        "Write `httpStatus` or `grpcStatus`, which every client can read.",
    ),
    supported("http[].fault.abort.percentage.value", "50", "All when not given."),
    different(
        "http[].mirror",
        "{host: api}",
        "A copy whose answer is thrown away. A copy that lags by more than 64 KiB is given up, the request is not.",
    ),
    supported("http[].mirrorPercentage.value", "50", "All when not given."),
    supported("http[].mirrorPercent", "50", "The old form."),
    supported("http[].mirrors[].destination", "{host: api}", "As `mirror`."),
    supported("http[].mirrors[].percentage.value", "50", "All when not given."),
    refused(
        "http[].corsPolicy",
        "{allowOrigins: [{exact: \"*\"}]}",
        "And all of it. No browser calls a sidecar. Answer in the app.",
    ),
    different(
        "http[].headers.request.set",
        "{x-a: b}",
        "Replaced or made. `host`, lengths, fields of one connection and of the identity cannot be changed, and there are \
         no `%` operators.",
    ),
    different("http[].headers.request.add", "{x-a: b}", "Made beside what is there. As above."),
    different("http[].headers.request.remove", "[x-a]", "Taken out. As above."),
    different("http[].headers.response.set", "{x-a: b}", "As for requests."),
    different("http[].headers.response.add", "{x-a: b}", "As for requests."),
    different("http[].headers.response.remove", "[x-a]", "As for requests."),
    // TCP.
    supported("tcp[].match[].destinationSubnets", "[10.0.0.0/8]", "The address that the app dialled."),
    supported("tcp[].match[].port", "5432", "The service's port that was asked for."),
    different(
        "tcp[].match[].sourceLabels",
        "{version: v2}",
        "Labels of the caller: routing and no boundary.",
    ),
    supported("tcp[].match[].sourceNamespace", "production", "The caller's namespace."),
    different("tcp[].match[].gateways: [mesh]", "", "Only `mesh`."),
    refused(
        "tcp[].match[].sourceSubnet",
        "10.0.0.0/8",
        "A sidecar has one workload. Write `sourceLabels` or `sourceNamespace`.",
    ),
    supported("tcp[].route[].destination", "{host: api}", "As for HTTP."),
    different("tcp[].route[].weight", "1", "As for HTTP."),
];
