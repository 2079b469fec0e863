//! tokio-postgres over our sockets, without tokio's runtime, at a PostgreSQL server that this test starts.

mod support;

use std::env;
use std::fs;
use std::future::poll_fn;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use strands::net::{TcpStream, UnixStream};
use strands::task;
use support::{PATIENCE, Scratch, succeeds};
use tokio_postgres::{AsyncMessage, Client, Config, NoTls};
use tokio_util::compat::FuturesAsyncReadCompatExt;

/// Where the programs are: Debian has them off the path, since there may be several versions.
fn programs() -> Option<PathBuf> {
    let debian = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut directories: Vec<_> = debian.map(|entry| entry.path().join("bin")).collect();
    directories.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
    let found = directories
        .into_iter()
        .find(|it| it.join("initdb").is_file() && it.join("postgres").is_file());
    if found.is_none() {
        assert!(env::var_os("CI").is_none(), "PostgreSQL has to be installed");
        println!("skipped: PostgreSQL is not installed");
    }
    found
}

/// It refuses to run as root: then it runs as its own user, or as nobody.
fn user() -> Option<(u32, u32)> {
    if fs::metadata("/proc/self").is_ok_and(|it| it.uid() != 0) {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").expect("there are users");
    let ids = |name: &str| {
        let line = users.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":x:"))?;
        let mut numbers = line.split(':').map_while(|number| number.parse().ok());
        Some((numbers.next()?, numbers.next()?))
    };
    Some(ids("postgres").or_else(|| ids("nobody")).expect("somebody who is not root"))
}

/// A server with a directory of its own, ended with this value.
struct Postgres {
    child: Child,
    port: u16,
    scratch: Scratch,
}

impl Postgres {
    fn start() -> Option<Postgres> {
        let programs = programs()?;
        let user = user();
        let scratch = Scratch::new();
        if let Some((uid, gid)) = user {
            chown(&scratch.0, Some(uid), Some(gid)).expect("root may");
        }
        let data = scratch.0.join("data");
        let command = |program: &str| {
            let mut command = Command::new(programs.join(program));
            if let Some((uid, gid)) = user {
                command.uid(uid).gid(gid);
            }
            command.arg("-D").arg(&data).current_dir(&scratch.0).env("LC_ALL", "C");
            command
        };
        succeeds(command("initdb").args([
            "-A",
            "trust",
            "-U",
            "strands",
            "--no-sync",
            "-E",
            "UTF8",
        ]));
        // Free now, and hardly anybody else's until it is the server's.
        let probe = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = probe.local_addr().expect("it has one").port();
        drop(probe);
        let mut server = command("postgres");
        server
            .args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1", "-F"])
            .args(["-c", "max_connections=50", "-c", "shared_buffers=16MB"])
            .arg("-k")
            .arg(&scratch.0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::from(fs::File::create(scratch.0.join("log")).expect("a file")));
        // SAFETY: one system call, which touches no memory: whoever ends the test ends the server.
        unsafe {
            server.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGQUIT);
                Ok(())
            });
        }
        let child = server.spawn().expect("it starts");
        let mut postgres = Postgres { child, port, scratch };
        postgres.wait_until_it_answers();
        Some(postgres)
    }

    fn wait_until_it_answers(&mut self) {
        let begun = Instant::now();
        loop {
            if let Ok(stream) = std::os::unix::net::UnixStream::connect(self.socket()) {
                let client = strands::run(|| connect(UnixStream::from(stream)));
                if client.is_ok() {
                    return;
                }
            }
            let ended = self.child.try_wait().expect("it is ours");
            if ended.is_some() || begun.elapsed() > PATIENCE {
                let log = fs::read_to_string(self.scratch.0.join("log")).unwrap_or_default();
                panic!("it does not answer ({ended:?}):\n{log}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn socket(&self) -> PathBuf {
        self.scratch.0.join(Path::new(&format!(".s.PGSQL.{}", self.port)))
    }

    fn addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // SAFETY: no pointers; the process is ours and has not been waited for. SIGQUIT has it end at once, its children too.
        unsafe { libc::kill(self.child.id() as i32, libc::SIGQUIT) };
        let _ = self.child.wait();
    }
}

/// A client whose connection is a task beside the goroutines.
fn connect<S>(stream: S) -> Result<Client, tokio_postgres::Error>
where
    S: futures_io::AsyncRead + futures_io::AsyncWrite + Unpin + Send + 'static,
{
    let mut config = Config::new();
    config.user("strands").dbname("postgres");
    let (client, connection) = task::block_on(config.connect_raw(stream.compat(), NoTls))?;
    task::spawn(connection);
    Ok(client)
}

#[test]
fn a_real_database_is_used_from_goroutines() {
    let Some(server) = Postgres::start() else { return };
    let addr = server.addr();
    strands::run(|| {
        let client = connect(TcpStream::connect(addr).unwrap()).unwrap();
        task::block_on(client.batch_execute(
            "CREATE TABLE account (id INT PRIMARY KEY, name TEXT NOT NULL, balance BIGINT NOT NULL)",
        ))
        .unwrap();
        let insert =
            task::block_on(client.prepare("INSERT INTO account VALUES ($1, $2, $3)")).unwrap();
        for id in 0..20_i32 {
            let name = format!("owner {id} Ünïcode");
            task::block_on(client.execute(&insert, &[&id, &name, &100_i64])).unwrap();
        }
    });

    // Many at once, each with a connection of its own, over TCP or the other: money is moved, and none is lost.
    let socket = server.socket();
    strands::scope(|s| {
        for n in 0..16_i32 {
            let socket = &socket;
            s.go(move || {
                let mut client = match n % 2 {
                    0 => connect(TcpStream::connect(addr).unwrap()).unwrap(),
                    _ => connect(UnixStream::connect(socket).unwrap()).unwrap(),
                };
                task::block_on(async {
                    for round in 0..10_i32 {
                        // In the order of their numbers, or they might wait for each other.
                        let (one, other) = ((n + round) % 19, 19);
                        let change = client.transaction().await.unwrap();
                        let sql = "UPDATE account SET balance = balance + $2 WHERE id = $1";
                        change.execute(sql, &[&one, &-1_i64]).await.unwrap();
                        change.execute(sql, &[&other, &1_i64]).await.unwrap();
                        match round % 5 {
                            0 => change.rollback().await.unwrap(),
                            _ => change.commit().await.unwrap(),
                        }
                    }
                });
            });
        }
    });

    strands::run(|| {
        let client = connect(TcpStream::connect(addr).unwrap()).unwrap();
        let rows =
            task::block_on(client.query("SELECT id, name, balance FROM account ORDER BY id", &[]))
                .unwrap();
        assert_eq!(rows.len(), 20);
        assert_eq!(rows[7].get::<_, &str>(1), "owner 7 Ünïcode");
        assert_eq!(rows[19].get::<_, i64>(2), 100 + 16 * 8);
        assert_eq!(rows.iter().map(|row| row.get::<_, i64>(2)).sum::<i64>(), 2_000);

        // Errors are the database's, and the connection lives on.
        let error = task::block_on(client.execute("INSERT INTO account VALUES (1, 'x', 0)", &[]));
        let error = error.unwrap_err();
        assert_eq!(error.code(), Some(&tokio_postgres::error::SqlState::UNIQUE_VIOLATION));
        // Ten megabytes in one value, there and back.
        let long = "0123456789".repeat(1_000_000);
        let row = task::block_on(client.query_one("SELECT $1::TEXT || '!'", &[&long])).unwrap();
        assert!(row.get::<_, String>(0) == format!("{long}!"));
    });
    notifications_come_to_a_goroutine(addr);
    a_query_that_takes_too_long_is_left(addr);
}

fn notifications_come_to_a_goroutine(addr: SocketAddr) {
    strands::run(|| {
        let mut config = Config::new();
        config.user("strands").dbname("postgres");
        let stream = TcpStream::connect(addr).unwrap().compat();
        let (client, mut connection) = task::block_on(config.connect_raw(stream, NoTls)).unwrap();
        let (tx, rx) = strands::channel::bounded(8);
        // Straight-line code in place of a stream.
        let listening = strands::go(move || {
            while let Some(Ok(message)) = task::block_on(poll_fn(|cx| connection.poll_message(cx)))
            {
                if let AsyncMessage::Notification(note) = message {
                    tx.send(note.payload().to_owned()).unwrap();
                }
            }
        });
        task::block_on(client.batch_execute("LISTEN news")).unwrap();
        let other = connect(TcpStream::connect(addr).unwrap()).unwrap();
        task::block_on(other.batch_execute("NOTIFY news, 'extra'")).unwrap();
        assert_eq!(rx.recv_timeout(PATIENCE).unwrap(), "extra");
        drop(client);
        listening.join().unwrap();
    });
}

fn a_query_that_takes_too_long_is_left(addr: SocketAddr) {
    use strands::context::{self, ContextError};
    strands::run(|| {
        let stream = TcpStream::connect(addr).unwrap();
        let also = stream.try_clone().unwrap();
        let client = connect(stream).unwrap();
        let (ctx, _cancel) =
            context::with_timeout(&context::background(), Duration::from_millis(50));
        let result = ctx.run(client.query("SELECT pg_sleep(3600)", &[]));
        assert_eq!(result.map(drop).unwrap_err(), ContextError::DeadlineExceeded);
        // The server is at it still; hanging up is what ends that.
        also.shutdown(std::net::Shutdown::Both).unwrap();
        let mut rest = Vec::new();
        let _ = (&also).read_to_end(&mut rest);
        assert!(task::block_on(client.query("SELECT 1", &[])).is_err());
    });
}
