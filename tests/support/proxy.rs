//! A TCP proxy before Postgres with which a test does to connections what networks do.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixStream},
    sync::watch,
};

/// How long Postgres takes to find out that it talks to nobody; a little less than with the settings of the store, which have no
/// effect on a Unix socket.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// The proxy; gone with the test's runtime.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    connections: Mutex<Vec<Arc<Connection>>>,
    refuses: AtomicBool,
    swallows: AtomicBool,
}

struct Connection {
    fate: watch::Sender<Fate>,
    /// It has said LISTEN.
    listens: AtomicBool,
}

/// What becomes of a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Forwarded,
    /// Both ends see it closed.
    Cut,
    /// Stays open, and nothing comes through any more: both ends wait.
    Swallowed,
}

/// Which connections.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Which {
    All,
    /// Those on which somebody listens to notifications.
    Listening,
}

impl Proxy {
    /// Leads from a free port to the Postgres of this URL, which is on a Unix socket.
    pub async fn start(database_url: &str) -> Proxy {
        let folder = database_url.split("host=").nth(1).unwrap().split('&').next().unwrap();
        let socket = format!("{folder}/.s.PGSQL.5432");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let proxy = Proxy { address, shared: shared.clone() };
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if shared.refuses.load(SeqCst) {
                    continue;
                }
                let fate = if shared.swallows.load(SeqCst) { Fate::Swallowed } else { Fate::Forwarded };
                let connection = Arc::new(Connection { fate: watch::Sender::new(fate), listens: AtomicBool::new(false) });
                shared.connections.lock().unwrap().push(connection.clone());
                tokio::spawn(carry(client, socket.clone(), connection));
            }
        });
        proxy
    }

    /// The database through this proxy.
    pub fn database_url(&self) -> String {
        format!("postgres://dormouse@{}/postgres?sslmode=disable", self.address)
    }

    /// Connections that are forwarded and on which somebody listens to notifications.
    pub fn listening(&self) -> usize {
        let connections = self.shared.connections.lock().unwrap();
        let is_heard = |connection: &&Arc<Connection>| {
            let fate = &connection.fate;
            connection.listens.load(SeqCst) && *fate.borrow() == Fate::Forwarded && fate.receiver_count() > 0
        };
        connections.iter().filter(is_heard).count()
    }

    /// Closes connections, and tells how many.
    pub fn cut(&self, which: Which) -> usize {
        self.decide(which, Fate::Cut)
    }

    /// Lets nothing through connections any more, for ever, and tells how many there were.
    pub fn swallow(&self, which: Which) -> usize {
        self.decide(which, Fate::Swallowed)
    }

    /// From now on, new connections are closed at once, or not.
    pub fn refuse_new(&self, refuses: bool) {
        self.shared.refuses.store(refuses, SeqCst);
    }

    /// From now on, new connections are swallowed, or not.
    pub fn swallow_new(&self, swallows: bool) {
        self.shared.swallows.store(swallows, SeqCst);
    }

    fn decide(&self, which: Which, fate: Fate) -> usize {
        let mut connections = self.shared.connections.lock().unwrap();
        // Those that are over have nobody who looks at their fate.
        connections.retain(|connection| connection.fate.receiver_count() > 0);
        let concerned = |connection: &&Arc<Connection>| {
            *connection.fate.borrow() == Fate::Forwarded && (which == Which::All || connection.listens.load(SeqCst))
        };
        let concerned: Vec<_> = connections.iter().filter(concerned).collect();
        for connection in &concerned {
            connection.fate.send_replace(fate);
        }
        concerned.len()
    }
}

/// Carries bytes both ways for as long as the connection's fate is to be forwarded.
async fn carry(mut client: TcpStream, socket: String, connection: Arc<Connection>) {
    let mut fate = connection.fate.subscribe();
    // A database that is away closes the connection of the client.
    let Ok(mut server) = UnixStream::connect(socket).await else { return };
    tokio::select! {
        _ = forward(&mut client, &mut server, &connection) => return,
        _ = fate.wait_for(|fate| *fate != Fate::Forwarded) => {}
    }
    // Swallowed, both ends stay open: Postgres, too, holds on to what is in progress, until its keepalive finds the client gone.
    let cut = fate.wait_for(|fate| *fate == Fate::Cut);
    if tokio::time::timeout(KEEPALIVE, cut).await.is_err() {
        drop(server);
        let _ = fate.wait_for(|fate| *fate == Fate::Cut).await;
    }
}

async fn forward(client: &mut TcpStream, server: &mut UnixStream, connection: &Connection) -> std::io::Result<()> {
    let (mut up, mut down) = (vec![0; 32 << 10], vec![0; 32 << 10]);
    loop {
        tokio::select! {
            read = client.read(&mut up) => {
                let bytes = &up[..read?];
                if bytes.windows(6).any(|word| word == b"LISTEN") {
                    connection.listens.store(true, SeqCst);
                }
                server.write_all(bytes).await?;
                if bytes.is_empty() {
                    return Ok(());
                }
            }
            read = server.read(&mut down) => {
                let bytes = &down[..read?];
                client.write_all(bytes).await?;
                if bytes.is_empty() {
                    return Ok(());
                }
            }
        }
    }
}
