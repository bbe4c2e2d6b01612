//! iroh with default settings, and its relay server: over TLS, with discovery of addresses by QUIC beside it, and
//! without any look-up by names.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Instant;

use ::iroh::endpoint::presets::Minimal;
use ::iroh::endpoint::{Builder, Connection};
use ::iroh::{Endpoint, EndpointAddr, PublicKey, RelayConfig, RelayMode, RelayUrl};
use iroh_relay::RelayQuicConfig;
use iroh_relay::server::{CertConfig, QuicConfig, Server, ServerConfig, TlsConfig};
use iroh_relay::tls::CaTlsConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::json;
use sss_bench::Outcome;

use crate::node::{self, Call, FAREWELL, Place};

const ALPN: &[u8] = b"reach/1";
const HTTP: u16 = 80;
const HTTPS: u16 = 443;
const QUIC: u16 = iroh_relay::defaults::DEFAULT_RELAY_QUIC_PORT;

/// Serves as the program `iroh-relay` does. Its key is the certificate, which hosts trust.
pub(crate) async fn relay(at: Ipv4Addr) -> Outcome<()> {
    let made = rcgen::generate_simple_self_signed(vec![at.to_string()])?;
    let certificate = made.cert.der().clone();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let server_config = rustls::ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)?;
    let mut relay = iroh_relay::server::RelayConfig::new((at, HTTP));
    relay.tls = Some(TlsConfig::new((at, HTTPS), CertConfig::Manual { server_config }));
    let mut config = ServerConfig::default();
    config.relay = Some(relay);
    config.quic = Some(QuicConfig::new((at, QUIC)));
    let _server = Server::spawn(config).await?;
    let key: String = certificate.iter().map(|byte| format!("{byte:02x}")).collect();
    node::stay(&json!({ "key": key })).await
}

fn url(place: &Place) -> Outcome<RelayUrl> {
    Ok(format!("https://{}:{HTTPS}", place.at).parse()?)
}

fn builder(place: &Place) -> Outcome<Builder> {
    let byte = |at: usize| u8::from_str_radix(place.key.get(at..at + 2).unwrap_or_default(), 16);
    let certificate: Vec<u8> = (0..place.key.len()).step_by(2).map(byte).collect::<Result<_, _>>()?;
    let relay = RelayConfig::new(url(place)?, Some(RelayQuicConfig::new(QUIC)));
    Ok(Endpoint::builder(Minimal)
        .alpns(vec![ALPN.to_vec()])
        .relay_mode(RelayMode::Custom(relay.into()))
        .ca_tls_config(CaTlsConfig::custom_roots([CertificateDer::from(certificate)])))
}

/// Waits for callers, online at the relay.
pub(crate) async fn listen(place: &Place) -> Outcome<()> {
    let endpoint = builder(place)?.bind().await?;
    endpoint.online().await;
    node::tell(&json!({ "id": endpoint.id().to_string() }));
    while let Some(incoming) = endpoint.accept().await {
        tokio::spawn(async {
            let connection = incoming.await?;
            while let Ok((writer, reader)) = connection.accept_bi().await {
                node::answer(writer, reader).await?;
            }
            Outcome::Ok(())
        });
    }
    Ok(())
}

/// Says whether the path that is used for data is no relay's.
fn is_direct(connection: &Connection) -> bool {
    let paths = connection.paths();
    paths.iter().any(|path| path.is_selected() && path.is_ip())
}

/// Calls by the id and the relay alone, and measures.
pub(crate) async fn call(place: &Place, id: &str, what: &str) -> Outcome<()> {
    let (id, begun): (PublicKey, _) = (id.parse()?, Instant::now());
    let endpoint = builder(place)?.bind().await?;
    let built = Instant::now();
    let address = EndpointAddr::new(id).with_relay_url(url(place)?);
    let connection = endpoint.connect(address, ALPN).await?;
    let (writer, reader) = connection.open_bi().await?;
    let watched = connection.clone();
    let call = Call {
        writer,
        reader,
        is_direct: Box::new(move || is_direct(&watched)),
        built,
    };
    node::measure(begun, call, what).await?;
    connection.close(0_u32.into(), b"");
    // It says goodbye, if it is heard.
    let _ = tokio::time::timeout(FAREWELL, endpoint.close()).await;
    Ok(())
}
