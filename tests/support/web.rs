//! A web server on this machine for guests to talk to: each path behaves in a way of its own, also badly.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    net::TcpListener,
    sync::watch,
};
use tokio_rustls::TlsAcceptor;

/// A certificate for 127.0.0.1 that nobody but itself vouches for, valid for a hundred years.
pub const CERTIFICATE: &str = include_str!("tls/certificate.pem");

/// The server; gone with the test's runtime.
pub struct Web {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    heads: Mutex<Vec<String>>,
    open: AtomicUsize,
    gate: watch::Sender<bool>,
}

impl Web {
    /// A server on a free port of 127.0.0.1.
    pub async fn start() -> Web {
        Web::listen(None).await
    }

    async fn listen(tls: Option<TlsAcceptor>) -> Web {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let shared = Arc::new(Shared { heads: Mutex::default(), open: AtomicUsize::new(0), gate: watch::channel(false).0 });
        let web = Web { address: listener.local_addr().unwrap(), shared: shared.clone() };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (shared, tls) = (shared.clone(), tls.clone());
                tokio::spawn(async move {
                    shared.open.fetch_add(1, SeqCst);
                    // A client that goes away is the client's affair.
                    let _ = match tls {
                        None => answer(stream, &shared).await,
                        Some(tls) => match tls.accept(stream).await {
                            Ok(stream) => answer(stream, &shared).await,
                            Err(error) => Err(error),
                        },
                    };
                    shared.open.fetch_sub(1, SeqCst);
                });
            }
        });
        web
    }

    /// A server that speaks TLS, with [`CERTIFICATE`].
    pub async fn start_secure() -> Web {
        let certificate = CertificateDer::from_pem_slice(CERTIFICATE.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(include_bytes!("tls/key.pem")).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        Web::listen(Some(TlsAcceptor::from(Arc::new(config)))).await
    }

    /// What a guest writes for it.
    pub fn authority(&self) -> String {
        self.address.to_string()
    }

    /// The request line and fields of every request so far.
    pub fn heads(&self) -> Vec<String> {
        self.shared.heads.lock().unwrap().clone()
    }

    /// Connections that are open.
    pub fn open(&self) -> usize {
        self.shared.open.load(SeqCst)
    }

    /// Lets `/gated` answers go on, from now on.
    pub fn open_gate(&self) {
        self.shared.gate.send_replace(true);
    }
}

/// A connection, encrypted or not.
trait Connection: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Connection for T {}

async fn answer(stream: impl Connection, shared: &Shared) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).await? == 0 {
            return Ok(());
        }
    }
    shared.heads.lock().unwrap().push(head.clone());
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let (path, number) = path.split_once('?').map_or((path.as_str(), 0), |(path, number)| (path, number.parse().unwrap()));
    match path {
        "/hello" => whole(&mut stream, "hello").await?,
        "/head" => whole(&mut stream, &head).await?,
        "/echo" => {
            let length = body_length(&mut stream, &head).await?;
            whole(&mut stream, &length.to_string()).await?;
        }
        "/empty" => stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await?,
        "/redirect" => {
            stream.write_all(b"HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n").await?;
        }
        "/big" => {
            stream.write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: {number}\r\n\r\n").as_bytes()).await?;
            for _ in 0..number / 4096 {
                stream.write_all(&[b'y'; 4096]).await?;
            }
            stream.write_all(&vec![b'y'; number % 4096]).await?;
        }
        "/endless" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await?;
            loop {
                stream.write_all(b"1000\r\n").await?;
                stream.write_all(&[b'z'; 4096]).await?;
                stream.write_all(b"\r\n").await?;
            }
        }
        "/many-fields" => {
            let fields = (0..number).fold(String::new(), |fields, n| fields + &format!("field-{n}: value\r\n"));
            stream.write_all(format!("HTTP/1.1 200 OK\r\n{fields}content-length: 0\r\n\r\n").as_bytes()).await?;
        }
        "/large-field" => {
            let field = "v".repeat(number);
            stream.write_all(format!("HTTP/1.1 200 OK\r\nx: {field}\r\ncontent-length: 0\r\n\r\n").as_bytes()).await?;
        }
        "/cut" => stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await?,
        "/nonsense" => stream.write_all(b"220 mail.example.org ESMTP\r\n\r\n").await?,
        "/gated" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\nfirst ").await?;
            stream.flush().await?;
            let mut gate = shared.gate.subscribe();
            let _ = gate.wait_for(|is_open| *is_open).await;
            stream.write_all(b"second").await?;
        }
        // As long as the client stays.
        _ => {
            let _ = tokio::time::timeout(Duration::from_secs(120), stream.read_u8()).await;
        }
    }
    stream.flush().await?;
    stream.get_mut().shutdown().await
}

async fn whole(stream: &mut BufReader<impl Connection>, body: &str) -> std::io::Result<()> {
    stream.write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).as_bytes()).await
}

/// Reads a request's body and tells how long it was.
async fn body_length(stream: &mut BufReader<impl Connection>, head: &str) -> std::io::Result<usize> {
    let head = head.to_ascii_lowercase();
    if let Some(length) = head.lines().find_map(|line| line.strip_prefix("content-length: ")) {
        let length = length.trim().parse().unwrap();
        stream.read_exact(&mut vec![0; length]).await?;
        return Ok(length);
    }
    assert!(head.contains("transfer-encoding: chunked"), "{head}");
    let mut total = 0;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        let length = usize::from_str_radix(line.trim(), 16).map_err(|_| std::io::ErrorKind::UnexpectedEof)?;
        stream.read_exact(&mut vec![0; length + 2]).await?;
        if length == 0 {
            return Ok(total);
        }
        total += length;
    }
}
