//! Everything stable that std's sockets, files, streams and children can do, ours can: the same lines for both.
//!
//! What is not here cannot be: `Read` and its kin for `Arc<File>`, `CommandExt` and `IsTerminal`, which nobody but std may implement
//! (`Command::as_std_mut` and `is_terminal` stand in), and what std has marked as deprecated.
#![cfg(not(loom))]

use std::io::{BufRead, Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::process::Stdio;
use std::time::Duration;

fn is_thread_safe<T: Send + Sync + UnwindSafe + RefUnwindSafe + std::fmt::Debug>() {}
fn is_fd<T: AsFd + AsRawFd>() {}
fn owns_fd<T: AsFd + AsRawFd + FromRawFd + IntoRawFd + From<OwnedFd> + Into<OwnedFd>>() {}
fn reads<T: Read>()
where
    for<'a> &'a T: Read,
{
}
fn writes<T: Write>()
where
    for<'a> &'a T: Write,
{
}
fn is_given_to_children<T: Into<Stdio>>() {}
fn converts<A: Into<B>, B>() {}

type Result<T> = std::io::Result<T>;
type Time = Option<Duration>;

macro_rules! timeouts {
    ($socket:ty) => {
        let _: [fn(&$socket, Time) -> Result<()>; 2] =
            [<$socket>::set_read_timeout, <$socket>::set_write_timeout];
        let _: [fn(&$socket) -> Result<Time>; 2] =
            [<$socket>::read_timeout, <$socket>::write_timeout];
    };
}

macro_rules! sockets {
    ($($socket:ty),+) => {$(
        is_thread_safe::<$socket>();
        owns_fd::<$socket>();
        let _: fn(&$socket) -> Result<$socket> = <$socket>::try_clone;
        let _: fn(&$socket, bool) -> Result<()> = <$socket>::set_nonblocking;
        let _: fn(&$socket) -> Result<Option<std::io::Error>> = <$socket>::take_error;
    )+};
}

macro_rules! internet {
    ($($net:tt)+) => {{
        use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr};
        use $($net)+::{Incoming, TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
        sockets!(TcpListener, TcpStream, UdpSocket);
        timeouts!(TcpStream);
        timeouts!(UdpSocket);
        reads::<TcpStream>();
        writes::<TcpStream>();
        let _: [fn(&TcpStream) -> Result<SocketAddr>; 2] =
            [TcpStream::peer_addr, TcpStream::local_addr];
        let _: fn(&'static str) -> Result<TcpStream> = TcpStream::connect;
        let _: fn(&SocketAddr, Duration) -> Result<TcpStream> = TcpStream::connect_timeout;
        let _: fn(&TcpStream, Shutdown) -> Result<()> = TcpStream::shutdown;
        let _: fn(&TcpStream, &mut [u8]) -> Result<usize> = TcpStream::peek;
        let _: fn(&TcpStream, bool) -> Result<()> = TcpStream::set_nodelay;
        let _: fn(&TcpStream) -> Result<bool> = TcpStream::nodelay;
        let _: fn(&TcpStream, u32) -> Result<()> = TcpStream::set_ttl;
        let _: fn(&TcpStream) -> Result<u32> = TcpStream::ttl;
        let _: fn(&'static str) -> Result<TcpListener> = TcpListener::bind;
        let _: fn(&TcpListener) -> Result<SocketAddr> = TcpListener::local_addr;
        let _: fn(&TcpListener) -> Result<(TcpStream, SocketAddr)> = TcpListener::accept;
        let _: for<'a> fn(&'a TcpListener) -> Incoming<'a> = TcpListener::incoming;
        let _: fn(&TcpListener, u32) -> Result<()> = TcpListener::set_ttl;
        let _: fn(&TcpListener) -> Result<u32> = TcpListener::ttl;
        let _: fn(&'static str) -> Result<UdpSocket> = UdpSocket::bind;
        let _: [fn(&UdpSocket) -> Result<SocketAddr>; 2] =
            [UdpSocket::peer_addr, UdpSocket::local_addr];
        let _: [fn(&UdpSocket, &mut [u8]) -> Result<(usize, SocketAddr)>; 2] =
            [UdpSocket::recv_from, UdpSocket::peek_from];
        let _: [fn(&UdpSocket, &mut [u8]) -> Result<usize>; 2] =
            [UdpSocket::recv, UdpSocket::peek];
        let _: fn(&UdpSocket, &[u8]) -> Result<usize> = UdpSocket::send;
        let _: fn(&UdpSocket, &[u8], SocketAddr) -> Result<usize> = UdpSocket::send_to;
        let _: fn(&UdpSocket, SocketAddr) -> Result<()> = UdpSocket::connect;
        let _: [fn(&UdpSocket, bool) -> Result<()>; 3] = [
            UdpSocket::set_broadcast,
            UdpSocket::set_multicast_loop_v4,
            UdpSocket::set_multicast_loop_v6,
        ];
        let _: [fn(&UdpSocket) -> Result<bool>; 3] =
            [UdpSocket::broadcast, UdpSocket::multicast_loop_v4, UdpSocket::multicast_loop_v6];
        let _: [fn(&UdpSocket, u32) -> Result<()>; 2] =
            [UdpSocket::set_ttl, UdpSocket::set_multicast_ttl_v4];
        let _: [fn(&UdpSocket) -> Result<u32>; 2] = [UdpSocket::ttl, UdpSocket::multicast_ttl_v4];
        let _: [fn(&UdpSocket, &Ipv4Addr, &Ipv4Addr) -> Result<()>; 2] =
            [UdpSocket::join_multicast_v4, UdpSocket::leave_multicast_v4];
        let _: [fn(&UdpSocket, &Ipv6Addr, u32) -> Result<()>; 2] =
            [UdpSocket::join_multicast_v6, UdpSocket::leave_multicast_v6];
        fn is_addr<T: ToSocketAddrs + ?Sized>() {}
        is_addr::<str>();
        is_addr::<String>();
        is_addr::<&str>();
        is_addr::<(&str, u16)>();
        is_addr::<(String, u16)>();
        is_addr::<SocketAddr>();
        is_addr::<std::net::SocketAddrV4>();
        is_addr::<std::net::SocketAddrV6>();
        is_addr::<(std::net::IpAddr, u16)>();
        is_addr::<(Ipv4Addr, u16)>();
        is_addr::<(Ipv6Addr, u16)>();
        is_addr::<&[SocketAddr]>();
    }};
}

macro_rules! unix {
    ($($net:tt)+) => {{
        use std::net::Shutdown;
        use $($net)+::{Incoming, SocketAddr, UnixDatagram, UnixListener, UnixStream};
        sockets!(UnixDatagram, UnixListener, UnixStream);
        timeouts!(UnixDatagram);
        timeouts!(UnixStream);
        reads::<UnixStream>();
        writes::<UnixStream>();
        let _: fn(&'static str) -> Result<UnixStream> = UnixStream::connect;
        let _: fn(&SocketAddr) -> Result<UnixStream> = UnixStream::connect_addr;
        let _: fn() -> Result<(UnixStream, UnixStream)> = UnixStream::pair;
        let _: [fn(&UnixStream) -> Result<SocketAddr>; 2] =
            [UnixStream::local_addr, UnixStream::peer_addr];
        let _: fn(&UnixStream, Shutdown) -> Result<()> = UnixStream::shutdown;
        let _: fn(&'static str) -> Result<UnixListener> = UnixListener::bind;
        let _: fn(&SocketAddr) -> Result<UnixListener> = UnixListener::bind_addr;
        let _: fn(&UnixListener) -> Result<(UnixStream, SocketAddr)> = UnixListener::accept;
        let _: fn(&UnixListener) -> Result<SocketAddr> = UnixListener::local_addr;
        let _: for<'a> fn(&'a UnixListener) -> Incoming<'a> = UnixListener::incoming;
        let _: fn(&'static str) -> Result<UnixDatagram> = UnixDatagram::bind;
        let _: fn(&SocketAddr) -> Result<UnixDatagram> = UnixDatagram::bind_addr;
        let _: fn() -> Result<UnixDatagram> = UnixDatagram::unbound;
        let _: fn() -> Result<(UnixDatagram, UnixDatagram)> = UnixDatagram::pair;
        let _: fn(&UnixDatagram, &'static str) -> Result<()> = UnixDatagram::connect;
        let _: fn(&UnixDatagram, &SocketAddr) -> Result<()> = UnixDatagram::connect_addr;
        let _: [fn(&UnixDatagram) -> Result<SocketAddr>; 2] =
            [UnixDatagram::local_addr, UnixDatagram::peer_addr];
        let _: fn(&UnixDatagram, &mut [u8]) -> Result<(usize, SocketAddr)> =
            UnixDatagram::recv_from;
        let _: fn(&UnixDatagram, &mut [u8]) -> Result<usize> = UnixDatagram::recv;
        let _: fn(&UnixDatagram, &[u8], &'static str) -> Result<usize> = UnixDatagram::send_to;
        let _: fn(&UnixDatagram, &[u8], &SocketAddr) -> Result<usize> = UnixDatagram::send_to_addr;
        let _: fn(&UnixDatagram, &[u8]) -> Result<usize> = UnixDatagram::send;
        let _: fn(&UnixDatagram, Shutdown) -> Result<()> = UnixDatagram::shutdown;
    }};
}

macro_rules! files {
    ($($fs:tt)+) => {{
        use std::path::PathBuf;
        use $($fs)+::{
            self, File, FileTimes, FileType, Metadata, OpenOptions, Permissions, ReadDir, TryLockError,
        };
        is_thread_safe::<File>();
        owns_fd::<File>();
        reads::<File>();
        writes::<File>();
        is_given_to_children::<File>();
        fn seeks<T: Seek + FileExt>()
        where
            for<'a> &'a T: Seek,
        {
        }
        seeks::<File>();
        let _: [fn(&'static str) -> Result<File>; 3] = [File::open, File::create, File::create_new];
        let _: fn() -> OpenOptions = File::options;
        let _: [fn(&File) -> Result<()>; 5] =
            [File::sync_all, File::sync_data, File::lock, File::lock_shared, File::unlock];
        let _: [fn(&File) -> std::result::Result<(), TryLockError>; 2] =
            [File::try_lock, File::try_lock_shared];
        let _: fn(&File, u64) -> Result<()> = File::set_len;
        let _: fn(&File) -> Result<Metadata> = File::metadata;
        let _: fn(&File) -> Result<File> = File::try_clone;
        let _: fn(&File, Permissions) -> Result<()> = File::set_permissions;
        let _: fn(&File, FileTimes) -> Result<()> = File::set_times;
        let _: fn(&File, std::time::SystemTime) -> Result<()> = File::set_modified;
        let _: fn() -> OpenOptions = OpenOptions::new;
        let _: [fn(&mut OpenOptions, bool) -> &mut OpenOptions; 6] = [
            OpenOptions::read,
            OpenOptions::write,
            OpenOptions::append,
            OpenOptions::truncate,
            OpenOptions::create,
            OpenOptions::create_new,
        ];
        let _: fn(&OpenOptions, &'static str) -> Result<File> = OpenOptions::open;
        fn extends<T: OpenOptionsExt + Clone>() {}
        extends::<OpenOptions>();
        type Of = &'static str;
        let _: fn(Of) -> Result<PathBuf> = fs::canonicalize;
        let _: fn(Of, Of) -> Result<u64> = fs::copy;
        let _: [fn(Of) -> Result<()>; 5] =
            [fs::create_dir, fs::create_dir_all, fs::remove_dir, fs::remove_dir_all, fs::remove_file];
        let _: fn(Of) -> Result<bool> = fs::exists;
        let _: [fn(Of, Of) -> Result<()>; 2] = [fs::hard_link, fs::rename];
        let _: [fn(Of) -> Result<Metadata>; 2] = [fs::metadata, fs::symlink_metadata];
        let _: fn(Of) -> Result<Vec<u8>> = fs::read;
        let _: fn(Of) -> Result<ReadDir> = fs::read_dir;
        let _: fn(Of) -> Result<PathBuf> = fs::read_link;
        let _: fn(Of) -> Result<String> = fs::read_to_string;
        let _: fn(Of, Permissions) -> Result<()> = fs::set_permissions;
        let _: fn(Of, &'static [u8]) -> Result<()> = fs::write;
        let _: Option<(fs::DirBuilder, fs::DirEntry, FileType)> = None;
    }};
}

macro_rules! streams {
    ($($io:tt)+) => {{
        use $($io)+::{self, PipeReader, PipeWriter, Stderr, StderrLock, Stdin, StdinLock, Stdout, StdoutLock};
        is_thread_safe::<PipeReader>();
        is_thread_safe::<PipeWriter>();
        owns_fd::<PipeReader>();
        owns_fd::<PipeWriter>();
        reads::<PipeReader>();
        writes::<PipeWriter>();
        is_given_to_children::<PipeReader>();
        is_given_to_children::<PipeWriter>();
        let _: fn() -> Result<(PipeReader, PipeWriter)> = io::pipe;
        let _: fn(&PipeReader) -> Result<PipeReader> = PipeReader::try_clone;
        let _: fn(&PipeWriter) -> Result<PipeWriter> = PipeWriter::try_clone;
        is_thread_safe::<Stdin>();
        is_thread_safe::<Stdout>();
        is_thread_safe::<Stderr>();
        is_fd::<Stdin>();
        is_fd::<StdinLock<'static>>();
        is_fd::<Stdout>();
        is_fd::<StdoutLock<'static>>();
        is_fd::<Stderr>();
        is_fd::<StderrLock<'static>>();
        reads::<Stdin>();
        writes::<Stdout>();
        writes::<Stderr>();
        is_given_to_children::<Stdout>();
        is_given_to_children::<Stderr>();
        fn of_locks<I: BufRead, O: Write, E: Write>() {}
        of_locks::<StdinLock<'static>, StdoutLock<'static>, StderrLock<'static>>();
        let _: fn(&Stdin) -> StdinLock<'static> = Stdin::lock;
        let _: fn(&Stdout) -> StdoutLock<'static> = Stdout::lock;
        let _: fn(&Stderr) -> StderrLock<'static> = Stderr::lock;
        let _: fn(&Stdin, &mut String) -> Result<usize> = Stdin::read_line;
        let _ = |input: Stdin| input.lines().collect::<Result<Vec<String>>>();
        let _: (fn() -> Stdin, fn() -> Stdout, fn() -> Stderr) = (io::stdin, io::stdout, io::stderr);
        let _: fn(PipeReader) -> Result<String> = io::read_to_string;
        let _: fn(&mut PipeReader, &mut PipeWriter) -> Result<u64> = io::copy;
        let _: (io::Empty, io::Repeat, io::Sink) = (io::empty(), io::repeat(1), io::sink());
        let _: Option<(io::BufReader<PipeReader>, io::BufWriter<PipeWriter>, io::Cursor<Vec<u8>>)> = None;
        let _: Option<(io::LineWriter<PipeWriter>, io::SeekFrom, io::Error, io::ErrorKind)> = None;
    }};
}

macro_rules! children {
    ($($process:tt)+) => {{
        use $($process)+::{self, Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Output};
        is_thread_safe::<ChildStdin>();
        is_thread_safe::<ChildStdout>();
        is_thread_safe::<ChildStderr>();
        is_fd::<ChildStdin>();
        is_fd::<ChildStdout>();
        is_fd::<ChildStderr>();
        converts::<ChildStdin, OwnedFd>();
        converts::<ChildStdout, OwnedFd>();
        converts::<ChildStderr, OwnedFd>();
        converts::<OwnedFd, ChildStdin>();
        converts::<OwnedFd, ChildStdout>();
        converts::<OwnedFd, ChildStderr>();
        is_given_to_children::<ChildStdin>();
        is_given_to_children::<ChildStdout>();
        is_given_to_children::<ChildStderr>();
        fn of_ends<I: Write, O: Read, E: Read>() {}
        of_ends::<ChildStdin, ChildStdout, ChildStderr>();
        writes::<ChildStdin>();
        let _ = |child: &mut Child| (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let _: fn(&Child) -> u32 = Child::id;
        let _: fn(&mut Child) -> Result<()> = Child::kill;
        let _: fn(&mut Child) -> Result<ExitStatus> = Child::wait;
        let _: fn(&mut Child) -> Result<Option<ExitStatus>> = Child::try_wait;
        let _: fn(Child) -> Result<Output> = Child::wait_with_output;
        let _: fn(&'static str) -> Command = Command::new;
        type Chained = for<'a> fn(&'a mut Command, &'static str) -> &'a mut Command;
        let _: [Chained; 3] = [Command::arg, Command::env_remove, Command::current_dir];
        let _: for<'a> fn(&'a mut Command, [&'static str; 2]) -> &'a mut Command = Command::args;
        let _: for<'a> fn(&'a mut Command, &'static str, &'static str) -> &'a mut Command = Command::env;
        let _: for<'a> fn(&'a mut Command, [(&'static str, String); 2]) -> &'a mut Command =
            Command::envs;
        let _: fn(&mut Command) -> &mut Command = Command::env_clear;
        let _: [for<'a> fn(&'a mut Command, Stdio) -> &'a mut Command; 3] =
            [Command::stdin, Command::stdout, Command::stderr];
        let _: fn(&mut Command) -> Result<Child> = Command::spawn;
        let _: fn(&mut Command) -> Result<Output> = Command::output;
        let _: fn(&mut Command) -> Result<ExitStatus> = Command::status;
        let _: fn(&Command) -> &std::ffi::OsStr = Command::get_program;
        let _: fn(&Command) -> Option<&std::path::Path> = Command::get_current_dir;
        let _ = |command: &Command| (command.get_args().len(), command.get_envs().len());
        let _: (fn() -> u32, fn() -> !, fn(i32) -> !) = (process::id, process::abort, process::exit);
        let _: Option<(process::ExitCode, process::Stdio)> = None;
    }};
}

#[test]
fn what_std_can_do_ours_can() {
    internet!(std::net);
    internet!(strands::net);
    unix!(std::os::unix::net);
    unix!(strands::net::unix);
    files!(std::fs);
    files!(strands::fs);
    streams!(std::io);
    streams!(strands::io);
    children!(std::process);
    children!(strands::process);
}

#[test]
fn each_becomes_its_counterpart_and_comes_back() {
    macro_rules! pairs {
        ($($std:ty, $ours:ty;)+) => {$(
            converts::<$std, $ours>();
            converts::<$ours, $std>();
        )+};
    }
    pairs! {
        std::net::TcpListener, strands::net::TcpListener;
        std::net::TcpStream, strands::net::TcpStream;
        std::net::UdpSocket, strands::net::UdpSocket;
        std::os::unix::net::UnixDatagram, strands::net::UnixDatagram;
        std::os::unix::net::UnixListener, strands::net::UnixListener;
        std::os::unix::net::UnixStream, strands::net::UnixStream;
        std::fs::File, strands::fs::File;
        std::io::PipeReader, strands::io::PipeReader;
        std::io::PipeWriter, strands::io::PipeWriter;
        std::process::Command, strands::process::Command;
        std::process::Child, strands::process::Child;
        std::process::ChildStdin, strands::process::ChildStdin;
        std::process::ChildStdout, strands::process::ChildStdout;
        std::process::ChildStderr, strands::process::ChildStderr;
    }
}
