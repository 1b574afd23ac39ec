//! Handshakes over an in-memory pipe: ours against ours, and against peers that break one rule each.

mod bad_peers;
mod protocol;

use std::sync::Arc;
use std::time::Duration;

use portcullis_identity::SpiffeId;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::sign::any_ecdsa_type;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, DigitallySignedStruct, Error, ServerConfig, SignatureScheme};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::testing::{Leaf, Mesh};
use super::*;

const API: &str = "spiffe://cluster.local/ns/production/sa/api";
const WEB: &str = "spiffe://cluster.local/ns/production/sa/web";
const LONG: Duration = Duration::from_secs(20);

fn sni() -> ServerName<'static> {
    ServerName::try_from("api.production.svc.cluster.local").unwrap()
}

fn expecting(id: &str) -> ExpectedPeer {
    ExpectedPeer::one_of(vec![SpiffeId::parse(id).unwrap()]).unwrap()
}

/// What a peer that is not ours presents; nothing stops it from being wrong.
fn credential(leaf: &Leaf) -> Arc<SingleCertAndKey> {
    let key = any_ecdsa_type(&PrivatePkcs8KeyDer::from(leaf.key.serialize_der()).into()).unwrap();
    Arc::new(CertifiedKey::new(leaf.chain.clone(), key).into())
}

/// A foreign client that trusts any server.
fn foreign_client(leaf: Option<&Leaf>, versions: MinVersionOf) -> ClientConfig {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone));
    match leaf {
        Some(leaf) => builder.with_client_cert_resolver(credential(leaf)),
        None => builder.with_no_client_auth(),
    }
}

/// A foreign server that asks for a certificate and takes any, by the rules of `judge`.
fn foreign_server(leaf: &Leaf, judge: &Identity) -> ServerConfig {
    let mut config = (*judge.server_config()).clone();
    config.cert_resolver = credential(leaf);
    config
}

type MinVersionOf = &'static [&'static rustls::SupportedProtocolVersion];
static BOTH: [&rustls::SupportedProtocolVersion; 2] = [&rustls::version::TLS13, &rustls::version::TLS12];
static OLD: [&rustls::SupportedProtocolVersion; 1] = [&rustls::version::TLS12];

/// Runs a foreign client against [`terminate`].
async fn call(config: ClientConfig, server: &Identity) -> Result<Terminated<DuplexStream>, NoMutualTls> {
    let (near, far) = duplex(64 * 1024);
    let client = async move {
        let mut stream =
            tokio_rustls::TlsConnector::from(Arc::new(config)).connect(sni(), near).await.ok()?;
        // A server that refuses the certificate says so after the client's last flight.
        let _ = stream.read(&mut [0]).await;
        Some(())
    };
    let client = tokio::spawn(client);
    let ended = terminate(far, server, LONG).await;
    client.abort();
    ended
}

/// Runs [`originate`] against a foreign server.
async fn serve(
    config: ServerConfig,
    client: &Identity,
    expected: &ExpectedPeer,
) -> Result<Originated<DuplexStream>, NoMutualTls> {
    let (near, far) = duplex(64 * 1024);
    let server = tokio::spawn(async move {
        let mut stream = tokio_rustls::TlsAcceptor::from(Arc::new(config)).accept(far).await.ok()?;
        let _ = stream.read(&mut [0]).await;
        Some(())
    });
    let ended = originate(near, client, &sni(), expected, &[Alpn::Http1], LONG).await;
    server.abort();
    ended
}

fn label<T>(result: Result<T, NoMutualTls>) -> &'static str {
    result.err().map_or("ok", |failure| failure.label())
}

#[tokio::test]
async fn two_workloads_prove_to_each_other_who_they_are() {
    let mesh = Mesh::new();
    let (api, web) = (mesh.identity(API), mesh.identity(WEB));
    let (near, far) = duplex(64 * 1024);
    let (name, expected) = (sni(), expecting(API));
    let (server, client) = tokio::join!(
        terminate(far, &api, LONG),
        originate(near, &web, &name, &expected, &[Alpn::Http1], LONG)
    );
    let (mut server, mut client) = (server.unwrap(), client.unwrap());
    assert_eq!((server.peer.id().as_str(), server.alpn), (WEB, Alpn::Http1));
    assert_eq!((client.peer.id().as_str(), client.alpn), (API, Alpn::Http1));
    assert_eq!(server.peer.serial(), &web.svid().facts().serial);
    assert_eq!(server.peer.fingerprint(), &web.svid().facts().fingerprint);
    assert_eq!(server.peer.not_after().as_secs(), web.svid().facts().not_after);
    let group = client.stream.get_ref().1.negotiated_key_exchange_group().unwrap();
    assert_eq!(group.name(), rustls::NamedGroup::X25519MLKEM768);
    let suite = server.stream.get_ref().1.negotiated_cipher_suite().unwrap();
    assert_eq!(suite.suite(), rustls::CipherSuite::TLS13_AES_128_GCM_SHA256);

    client.stream.write_all(b"ping").await.unwrap();
    let mut got = [0; 4];
    server.stream.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"ping");
}

#[derive(Debug)]
struct Anyone;

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
