//! What `docs/POLICY.md` says before its tables.

pub(super) const INTRODUCTION: &str = r#"# Policy

Portcullis reads the shapes of Istio's policies: five kinds, as YAML files. This file lists every field of theirs, and
what becomes of it. It is made from `proxy/src/config/policy/reference.rs`; the tests keep both the same, and try every
row on the readers.

- **supported**: it does what Istio's documentation says.
- **different**: it is read, and the row says what is not as in Istio.
- **refused**: writing it is a load error that names the place. Nothing is ignored silently: a field that is in none of
  the tables is an error too.

All faults of all files come in one report, with file, line and YAML path. At start a fault ends the sidecar; at a
reload the last good policy stays.

## Documents

- `apiVersion`: `v1alpha3`, `v1beta1` and `v1` of `security.istio.io` and of `networking.istio.io`. Each is taken for
  every kind.
- `kind`: the five below. Other kinds of Istio's (Gateway, Sidecar, EnvoyFilter, RequestAuthentication, Telemetry,
  WasmPlugin, WorkloadEntry and so on) are refused by name.
- `metadata.name` and `metadata.namespace` are needed: there is no API server that would know the namespace. What an API
  server adds to metadata (`labels`, `uid`, `managedFields` and so on), and `status`, is passed over.
- Durations are numbers with `ms`, `s`, `m` or `h`, such as `1.5s` or `1h30m`, in whole milliseconds.
- Numbers and booleans are written bare, texts that look like them in quotes.

## Annotations

| Annotation | Where | What it means |
|---|---|---|
| `portcullis.dev/exception-PORT` | PeerAuthentication, DestinationRule | The plan of a plaintext exception for that port: `"reason=...; owner=...; expires=YYYY-MM-DD"`. On that day (UTC) the port is STRICT again by itself, and egress is mutual TLS or refused. |
| `portcullis.dev/queue-timeout` | DestinationRule | How long a request waits for a connection when `maxConnections` are in use, for all ports and subsets of the rule: `5s`, from 1ms to 24h. When not given 15 s. The route's `timeout` ends the wait in any case, with 504. |
| other `portcullis.dev/...` | | Load error. |
| `istio.io/dry-run` | AuthorizationPolicy | Load error: write `action: AUDIT`. |
| anything else | | Left alone. |

A plan for a port that has no exception is a load error. An exception without a plan takes effect with a warning at
every load, or not at all with `exceptionPlans: require` in the bootstrap file.

## What differs from Istio

- **STRICT is the default**, for every port of every workload, with no policy at all. `PERMISSIVE` does not exist.
- **Leaving something out never means plaintext.** A DestinationRule without `tls`, or with a `tls` block without `mode`,
  means mutual TLS. Plaintext is an exception, for one port, on purpose.
- **A destination that nobody declared is refused.** There is no passthrough.
- **Who may answer is always known.** An empty list of names never means any.
- **A conflict is a load error**, where Istio takes the oldest resource or merges them: two PeerAuthentications of one
  scope, two DestinationRules or VirtualServices for one host, two ServiceEntries for one host and port, two services at
  one address.
- **Narrower settings inherit from wider ones**, port-level settings of a DestinationRule included.
- **Limits are exact**, over all threads. Only after a reload that changes the settings of a destination, requests
  that are under way keep their connections beside those of the new settings.

## Beyond a limit

A request that a limit of `connectionPool` refuses is answered at once, and not sent:

| Limit | When |
|---|---|
| `http2MaxRequests` | so many requests are under way |
| `http1MaxPendingRequests` | `maxConnections` are in use, and so many requests wait for one |
| `queueTimeout` | the request has waited for as long as the annotation `portcullis.dev/queue-timeout` says |
| `maxConnections` | no connection came free, and the request cannot wait |

- **HTTP**: status 503, `x-portcullis-overflow` with the name of the limit, `x-envoy-overloaded: true`, and a JSON body
  with `limit`, `value` and `destination`, and in words as `reason`. The value of `queueTimeout` is a duration, such as
  `"250ms"`, that of the others a number.
- **gRPC**: `grpc-status` 14 (UNAVAILABLE), the same header fields, and limit, value and destination in `grpc-message`.
- **TCP**: beyond `maxConnections` the app's connection is reset (RST), and limit, value and destination are logged.
- **Metrics**: `portcullis_overflows_total{limit, destination}` counts all of them, and retries that `maxRetries` did not
  allow.

## Sent again without being asked to

A server may close an idle connection at the moment that the next request is sent on it. What provably was not sent is
sent again over another connection, whatever its method. Where nothing proves it, but the connection had been used before
and ended before any byte of the answer, a request with an idempotent method (RFC 9110, 9.2.2), whose body is not beyond
64 KiB, is sent again once, without a word of the rules and on top of their retries
(`portcullis_retries_total{outcome="stale"}`). A POST never is, and nothing is that went out on a new connection.

## What is matched where

| Question | Who asks | Against what |
|---|---|---|
| Is this port STRICT? | the server's sidecar | PeerAuthentication, by the workload's port |
| May this peer do this? | the server's sidecar | AuthorizationPolicy, by the certificate, the connection, the request |
| Which service is this? | the client's sidecar | ServiceEntry, by the original address and port, or for HTTP to a service found by DNS by the `Host` |
| Where does it go? | the client's sidecar | VirtualService, by the service, the workload's labels, the request |
| How does it get there? | the client's sidecar | DestinationRule, by the service, port and subset that the route chose |
| Who may answer? | the client's sidecar | the names of DestinationRule or ServiceEntry, by the certificate |
"#;
