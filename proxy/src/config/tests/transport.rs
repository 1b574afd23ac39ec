//! What the `tls` of a DestinationRule comes to.

use std::fs;

use super::outbound::resource;
use super::services::{api, found, rule, to_subset};
use super::{labels, load, now, scope};
use crate::config::{Policy, load_policy};
use crate::route::Transport;

/// A root certificate in a file beside the policy, as rules name it.
fn load_with_files(yaml: &str) -> Policy {
    let directory = tempfile::tempdir().unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let pem = params.self_signed(&key).unwrap().pem();
    fs::create_dir(directory.path().join("certs")).unwrap();
    for (name, text) in
        [("ca.pem", &pem), ("certs/client.pem", &pem), ("certs/client.key", &key.serialize_pem())]
    {
        fs::write(directory.path().join(name), text).unwrap();
    }
    fs::write(directory.path().join("policy.yaml"), yaml).unwrap();
    let sources = [directory.path().to_owned()];
    load_policy(&sources, &scope("v1"), now()).unwrap_or_else(|report| panic!("{report}"))
}

#[test]
fn tls_towards_a_server_outside_of_the_mesh_needs_no_spiffe_id() {
    let service = "{hosts: [api.example.com], location: MESH_EXTERNAL, resolution: DNS, ports: [
      {number: 80, name: http, targetPort: 443}, {number: 81, name: http-b}, {number: 82, name: http-c}]}";
    let tls = "{host: api.example.com, trafficPolicy: {
      tls: {mode: MUTUAL, sni: front.example.com, caCertificates: ca.pem,
        clientCertificate: certs/client.pem, privateKey: certs/client.key},
      portLevelSettings: [
        {port: {number: 81}, tls: {mode: SIMPLE, subjectAltNames: [b.example.com]}},
        {port: {number: 82}, tls: {mode: ISTIO_MUTUAL, subjectAltNames: ['spiffe://cluster.local/ns/a/sa/b']}}]}}";
    let yaml = resource("ServiceEntry", "production", "x", service) + &rule("production", "x", tls);
    let policy = load_with_files(&yaml);
    let by_port = |port| policy.outbound.destination_by_host("api.example.com", port).unwrap();
    let egress = |port| match by_port(port).transport(now()).unwrap() {
        Transport::Tls(tls) => tls,
        other @ (Transport::MutualTls { .. } | Transport::Plaintext { .. }) => panic!("{other:?}"),
    };
    assert_eq!(egress(80).sni().to_str(), "front.example.com");
    assert_eq!(egress(81).sni().to_str(), "front.example.com", "inherited among DNS names");
    assert_ne!(egress(80), egress(81), "one shows a certificate, the other takes another name");
    let Transport::MutualTls { sni, .. } = by_port(82).transport(now()).unwrap() else {
        panic!("not mutual")
    };
    assert_eq!(sni.to_str(), "api.example.com", "nothing is inherited from the other sort");
}

#[test]
fn a_narrower_tls_block_without_names_keeps_the_wider_ones() {
    let spec = "{host: api, trafficPolicy: {
      tls: {mode: ISTIO_MUTUAL, sni: a.example.com, subjectAltNames: ['spiffe://cluster.local/ns/x/sa/a']},
      portLevelSettings: [{port: {number: 80}, tls: {mode: ISTIO_MUTUAL}}]},
      subsets: [{name: v1, labels: {version: v1}, trafficPolicy: {tls: {sni: b.example.com}}}]}";
    let policy = load(&format!("{}{}{}", api(), rule("backend", "api", spec), to_subset()));
    for (subset, name) in [(None, "a.example.com"), (Some("v1"), "b.example.com")] {
        let Transport::MutualTls { sni, expected } = found(&policy, 80, subset).transport(now()).unwrap()
        else {
            panic!("not mutual")
        };
        assert_eq!(
            (sni.to_str(), expected.to_string().as_str()),
            (name.into(), "spiffe://cluster.local/ns/x/sa/a")
        );
    }
    let subset = found(&policy, 80, Some("v1"));
    assert_eq!(subset.endpoints[0].labels, labels(&[("version", "v1")]));
}
