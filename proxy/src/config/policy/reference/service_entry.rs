//! The fields of ServiceEntry.

use super::{Field, Kind, different, refused, supported};

pub(super) const KIND: Kind = Kind {
    name: "ServiceEntry",
    about: "A service that may be called: what is not declared is refused. There is no control plane that knows the \
            services of a cluster, so that those are declared too. One host and port declared twice is a load error.\n\n\
            A connection belongs to the service that has its original address and port among its `addresses`, or \
            else among its endpoints. Several services may share an endpoint if each has an address of its own; the \
            endpoint's address then leads to none of them. An address that leads to two services in any other way is \
            a load error.\n\n\
            Who may answer is said by `subjectAltNames` of the DestinationRule, else of the ServiceEntry, else by the \
            endpoints' `serviceAccount`, else by the host's name: any service account of `NS` for \
            `NAME.NS.svc.DOMAIN`. A host for which none of them says anything is a load error, unless a \
            DestinationRule has the mode SIMPLE, MUTUAL or DISABLE for it.",
    fields: FIELDS,
};

const FIELDS: &[Field] = &[
    different(
        "hosts",
        "[a.example.com]",
        "Full names. One name stands for one service; the proxy answers no DNS itself.",
    ),
    refused(
        "hosts[]: \"*.example.com\"",
        "",
        "Nobody can say who answers for every host there may be. Write each host, whatever the resolution.",
    ),
    different(
        "addresses",
        "[10.0.0.1]",
        "IP addresses that lead to the service, each with the ports of the service.",
    ),
    refused("addresses[]: 10.0.0.0/8", "", "A range has no list of servers. Write each address."),
    supported("ports[].number", "80", "The port that clients ask for."),
    different(
        "ports[].protocol",
        "HTTP",
        "`HTTP` (HTTP/1.1), `HTTP2`, `GRPC` and `GRPC-WEB` (HTTP/2), `HTTP_PROXY` (HTTP/1.1 with CONNECT), and \
         `TCP`, `TLS`, `HTTPS`, `MONGO`, `MYSQL`, `REDIS`, which are all bytes: no protocol but HTTP is looked into. What an app reads \
         from a port that is declared to carry bytes may say anything, `x-forwarded-client-cert` included: declare \
         HTTP where it trusts that. \
         In either case of letters. Without it the name's prefix decides, without one that says something the first \
         bytes do.",
    ),
    refused("ports[].protocol: UDP", "", "Mutual TLS needs a stream of bytes."),
    supported(
        "ports[].name",
        "http-api",
        "`PROTOCOL` or `PROTOCOL-SUFFIX` declares the protocol where `protocol` is not written. Endpoints refer to it.",
    ),
    supported("ports[].targetPort", "8080", "The port of the endpoints; the number when not given."),
    different(
        "location",
        "MESH_EXTERNAL",
        "`MESH_EXTERNAL` or `MESH_INTERNAL`. It changes nothing: mutual TLS is asked of both, until a DestinationRule \
         says otherwise.",
    ),
    supported("resolution: STATIC", "", "The balancer picks an endpoint. Endpoints have to be there."),
    different(
        "resolution: DNS",
        "",
        "The balancer picks an address of all that the endpoints' names have; without endpoints the hosts are the \
         names. Names are looked up again when their TTL is over, and the last good answer is kept.",
    ),
    different(
        "resolution: DNS_ROUND_ROBIN",
        "",
        "As DNS, with at most one endpoint: the balancer alone decides.",
    ),
    different(
        "resolution: NONE",
        "",
        "The app's own destination is dialled. `addresses` are needed, since nothing else leads to the service, and \
         `endpoints` are refused.",
    ),
    refused("resolution: DYNAMIC_DNS", "", "It follows a name that the client chooses."),
    different("endpoints[].address", "10.0.0.1", "An IP address, or with resolution DNS a name."),
    refused("endpoints[].address: \"unix:///run/app.sock\"", "", "There is no peer that could prove itself."),
    supported("endpoints[].ports", "{http: 8081}", "The endpoint's port, by the name of the service's port."),
    supported("endpoints[].labels", "{version: v1}", "What subsets select by."),
    refused("endpoints[].network", "n1", "No gateway between networks is known."),
    refused("endpoints[].locality", "eu/west", "Endpoints have no locality. Divide traffic by weight."),
    supported(
        "endpoints[].weight",
        "3",
        "Share of the traffic in relation to the other endpoints; 1 when not given, or 0.",
    ),
    different(
        "endpoints[].serviceAccount",
        "api",
        "A service account of the entry's namespace that may answer. All endpoints name one or none does, and it does \
         not go together with `subjectAltNames` of the entry, where Istio adds up both.",
    ),
    refused(
        "workloadSelector",
        "{labels: {app: api}}",
        "Nobody here knows all workloads. Write their addresses as endpoints.",
    ),
    supported(
        "exportTo",
        "[\"*\"]",
        "`*`, `.` and names of namespaces: workloads elsewhere do not know the service.",
    ),
    different(
        "subjectAltNames",
        "[\"spiffe://cluster.local/ns/a/sa/b\"]",
        "SPIFFE IDs that may answer, whole. They stand alone: the namespace of the host's name is then not asked. Names \
         of servers outside of the mesh go into the DestinationRule.",
    ),
];
