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
pub(crate) const NAME: &str = "localhost";

const ALPN: &[u8] = b"sss-bench";

/// A server's configuration with a new certificate, and the certificate.
pub(crate) fn server(setup: &Setup) -> Outcome<(ServerConfig, Vec<u8>)> {
    let made = rcgen::generate_simple_self_signed([NAME.to_owned()])?;
    let certificate = made.cert.der().clone();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der())?;
    let mut config = ServerConfig::builder_with_provider(provider(setup))
        .with_protocol_versions(&[&TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok((config, certificate.to_vec()))
}

/// A client's configuration that trusts one certificate.
pub(crate) fn client(setup: &Setup, certificate: &[u8]) -> Outcome<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(certificate.to_vec()))?;
    let mut config = ClientConfig::builder_with_provider(provider(setup))
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(config)
}

fn provider(setup: &Setup) -> Arc<CryptoProvider> {
    let provider = if setup.backend.uses_ring() {
        CryptoProvider {
            kx_groups: vec![ring::kx_group::X25519],
            ..ring::default_provider()
        }
    } else {
        let group = if setup.workload.is_post_quantum() {
            aws_lc_rs::kx_group::X25519MLKEM768
        } else {
            aws_lc_rs::kx_group::X25519
        };
        CryptoProvider {
            kx_groups: vec![group],
            ..aws_lc_rs::default_provider()
        }
    };
    Arc::new(provider)
}
