//! TLS 1.3 for the peers that use it.
//!
//! Keys are exchanged as in libsss: by X25519 with ML-KEM-768, or by X25519 alone where the workload says so (and
//! always with ring, which has no ML-KEM). Certificates are ECDSA P-256, the session is never resumed.

use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs, ring};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::NoServerSessionStorage;
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::outcome::Outcome;
use crate::setup::Setup;

/// Name in the server's certificate.
pub const NAME: &str = "localhost";

/// Protocol that both sides speak over TLS.
pub const ALPN: &[u8] = b"sss-bench";

/// Library of cryptography below rustls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cryptography {
    /// ring
    Ring,
    /// aws-lc-rs
    AwsLc,
}

/// A certificate for [`NAME`] signed by itself, and its key; both in DER.
pub fn certificate() -> Outcome<(Vec<u8>, Vec<u8>)> {
    let made = rcgen::generate_simple_self_signed([NAME.to_owned()])?;
    Ok((made.cert.der().to_vec(), made.signing_key.serialize_der()))
}

/// A server's configuration with a new certificate, and the certificate.
pub fn server(setup: &Setup, cryptography: Cryptography) -> Outcome<(ServerConfig, Vec<u8>)> {
    let (certificate, key) = certificate()?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider(setup, cryptography)))
        .with_protocol_versions(&[&TLS13])?
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from(certificate.clone())],
            PrivateKeyDer::try_from(key)?,
        )?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok((config, certificate))
}

/// A client's configuration that trusts one certificate.
pub fn client(setup: &Setup, cryptography: Cryptography, certificate: &[u8]) -> Outcome<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(certificate.to_vec()))?;
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider(setup, cryptography)))
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(config)
}

/// Cryptography with the one key exchange that the workload asks for.
#[must_use]
pub fn provider(setup: &Setup, cryptography: Cryptography) -> CryptoProvider {
    match cryptography {
        Cryptography::Ring => CryptoProvider {
            kx_groups: vec![ring::kx_group::X25519],
            ..ring::default_provider()
        },
        Cryptography::AwsLc => CryptoProvider {
            kx_groups: vec![if setup.workload.is_post_quantum() {
                aws_lc_rs::kx_group::X25519MLKEM768
            } else {
                aws_lc_rs::kx_group::X25519
            }],
            ..aws_lc_rs::default_provider()
        },
    }
}
