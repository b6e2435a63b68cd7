//! From a name to a connection: resolve once, judge every address, connect to one that was judged.
//!
//! The name is never resolved a second time, so a server of names that answers differently each time gains nothing.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket},
    sync::{Arc, OnceLock},
    time::Duration,
};

use rustls::{ClientConfig, crypto::aws_lc_rs, pki_types::ServerName};
use rustls_platform_verifier::BuilderVerifierExt as _;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::OwnedSemaphorePermit,
    time::{Instant, timeout_at},
};
use tokio_rustls::TlsConnector;
use wasmtime_wasi_http::Error;

use super::{Explain, Held, Shared, Shares};
use crate::model::egress::Refused;

/// Addresses of one name that are tried.
const MAX_ADDRESSES: usize = 8;
/// The least time that one of several addresses gets.
const LEAST_PATIENCE: Duration = Duration::from_millis(250);

/// A byte stream to a server, encrypted or not.
pub(super) trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// The settings of TLS, made when they are first needed: a machine without root certificates may still speak plain HTTP.
#[derive(Default)]
pub(super) struct Tls(OnceLock<Result<TlsConnector, String>>);

impl Tls {
    fn connector(&self) -> Result<&TlsConnector, Error> {
        let connector = self.0.get_or_init(|| {
            let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .and_then(|builder| builder.with_platform_verifier())
                .map_err(|error| error.to_string())?;
            let mut config = config.with_no_client_auth();
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
            // A ticket of one run would let a server recognise another.
            config.resumption = rustls::client::Resumption::disabled();
            Ok(TlsConnector::from(Arc::new(config)))
        });
        connector.as_ref().map_err(|error| {
            tracing::warn!(error, "no TLS for requests of tasks");
            Error::InternalError(Some("this worker has no root certificates to check servers with".into()))
        })
    }
}

/// Connects to `host`, which is a name or an address, until `deadline`. `explain` is told what an error has no room for.
pub(super) async fn connect(
    egress: &Shared,
    (host, port): (&str, u16),
    (shares, place): (&Shares, &Arc<OwnedSemaphorePermit>),
    deadline: Instant,
    explain: &Explain,
) -> Result<TcpStream, Error> {
    let found = match host.parse::<IpAddr>() {
        Ok(address) => vec![SocketAddr::new(address, port)],
        Err(_) => match timeout_at(deadline, resolve(egress, shares, (host.to_owned(), port), place.clone())).await {
            Ok(found) => found?,
            Err(_) => return Err(Error::DnsTimeout),
        },
    };
    let (mut open, mut refused) = (Vec::new(), None);
    for address in found {
        match egress.policy.check(address.ip()) {
            Ok(()) if !egress.policy.names(address.ip()) && is_own(address) => refused = Some(Refused("this machine's own")),
            Ok(()) => open.push(address),
            Err(what) => refused = Some(what),
        }
    }
    if let (true, Some(what)) = (open.is_empty(), refused) {
        explain(format!(
            "A request was not sent: {host:?} is {what}, and requests to such are not allowed. The server's --allow-egress \
             says which are"
        ));
        return Err(Error::DestinationIpProhibited);
    }
    open.truncate(MAX_ADDRESSES);
    connect_to_any(&open, deadline).await
}

/// Whether an address, public or not, is one of this machine's: then the way to it begins at itself. Sends nothing.
fn is_own(address: SocketAddr) -> bool {
    let from: IpAddr = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let way = UdpSocket::bind((from, 0)).and_then(|socket| {
        socket.connect(address)?;
        socket.local_addr()
    });
    way.is_ok_and(|local| local.ip().to_canonical() == address.ip().to_canonical())
}

/// All addresses of a name. The system's resolver cannot be interrupted and has a thread while it works, also when nobody waits
/// for it any more: until it is done it holds the exchange's place of the run, and those of its own.
async fn resolve(
    egress: &Shared,
    shares: &Shares,
    name: (String, u16),
    place: Arc<OwnedSemaphorePermit>,
) -> Result<Vec<SocketAddr>, Error> {
    let mut lookups = Held::new();
    for places in [&*shares.run, &shares.environment, &egress.of_process] {
        lookups.push(places.lookups.clone().acquire_owned().await.map_err(|_| Error::DnsTimeout)?);
    }
    let found = tokio::task::spawn_blocking(move || {
        let found = name.to_socket_addrs().map(Vec::from_iter);
        drop((lookups, place));
        found
    });
    // The cause is the resolver's own text, and may name what is in its network.
    let unknown = || Error::DnsError { rcode: Some("the name was not found".into()), info_code: None };
    found.await.ok().and_then(Result::ok).ok_or_else(unknown)
}

/// One address after the other, each with an equal share of the time that is left.
async fn connect_to_any(addresses: &[SocketAddr], deadline: Instant) -> Result<TcpStream, Error> {
    let mut last = Error::DestinationNotFound;
    for (tried, address) in addresses.iter().enumerate() {
        let (now, others) = (Instant::now(), (addresses.len() - tried) as u32);
        let share = (deadline.saturating_duration_since(now) / others).max(LEAST_PATIENCE);
        match timeout_at(deadline.min(now + share), TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // Requests are written in few pieces; waiting to join them only delays the last.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(error)) => last = refusal(&error),
            Err(_) => last = Error::ConnectionTimeout,
        }
    }
    Err(last)
}

fn refusal(error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Error::ConnectionRefused,
        io::ErrorKind::TimedOut => Error::ConnectionTimeout,
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => Error::DestinationUnavailable,
        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted => Error::ConnectionTerminated,
        kind => Error::InternalError(Some(format!("connecting failed: {kind}"))),
    }
}

/// Encrypts a connection, once the server has shown that it is `host`.
pub(super) async fn secure(tls: &Tls, host: &str, stream: TcpStream, deadline: Instant) -> Result<Box<dyn Connection>, Error> {
    let name = ServerName::try_from(host.to_owned()).map_err(|_| Error::HttpRequestUriInvalid)?;
    match timeout_at(deadline, tls.connector()?.connect(name, stream)).await {
        Err(_) => Err(Error::ConnectionTimeout),
        Ok(Ok(stream)) => Ok(Box::new(stream)),
        Ok(Err(error)) => Err(match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::InvalidCertificate(_)) => Error::TlsCertificateError,
            Some(rustls::Error::AlertReceived(alert)) => {
                Error::TlsAlertReceived { alert_id: Some(u8::from(*alert)), alert_message: Some(format!("{alert:?}")) }
            }
            Some(_) => Error::TlsProtocolError,
            None => Error::ConnectionTerminated,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_own_addresses_are_known_whatever_they_are() {
        assert!(is_own("127.0.0.1:80".parse().unwrap()));
        assert!(is_own("[::ffff:127.0.0.1]:80".parse().unwrap()));
        assert!(!is_own("192.0.2.1:80".parse().unwrap()));
        // The address under which others see it, if it has a network.
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        if socket.connect("192.0.2.1:80").is_ok() {
            assert!(is_own(SocketAddr::new(socket.local_addr().unwrap().ip(), 80)));
        }
    }
}
