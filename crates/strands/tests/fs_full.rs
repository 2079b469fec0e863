//! A full disk: the errors are the kernel's, by std's names; what was written before is there, what was not is not lost;
//! and whoever has nothing to do with it does not notice.
//!
//! The disk is a tmpfs of a process of its own, where one may be mounted, and in any case files that may not grow
//! beyond a limit.
#![cfg(not(loom))]

mod process;

use process::Program;
use std::ffi::CString;
use std::io::{self, BufWriter, ErrorKind, Read, Seek, Write};
use std::path::{Path, PathBuf};
use strands::fs::{self, File};
use strands::net::{Shutdown, TcpListener, TcpStream};

/// What there is room for.
const ROOM: usize = 256 << 10;
/// What there is room for once somebody has made some.
const MORE: usize = 64 << 20;

/// A directory on a disk that is full soon.
struct Disk {
    path: PathBuf,
    is_tmpfs: bool,
}

impl Disk {
    /// The one that the test has chosen for this process, which has one thread yet.
    fn here() -> Disk {
        let path = std::env::temp_dir().join(format!("strands-full-{}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        let is_tmpfs = process::parameter() == "tmpfs";
        if is_tmpfs {
            if let Err(error) = own_mounts().and_then(|()| mount(&path, ROOM, 0)) {
                println!("refused {error}");
                std::fs::remove_dir(&path).unwrap();
                std::process::exit(0);
            }
        } else {
            // SAFETY: the process is to be told by an error, and handles no signal.
            unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
            limit_files(ROOM);
        }
        Disk { path, is_tmpfs }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The error of a write for which there is no room.
    fn error(&self) -> ErrorKind {
        if self.is_tmpfs { ErrorKind::StorageFull } else { ErrorKind::FileTooLarge }
    }

    fn make_room(&self) {
        match self.is_tmpfs {
            true => mount(&self.path, MORE, libc::MS_REMOUNT).unwrap(),
            false => limit_files(MORE),
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // A mount of this process alone goes with it; what it hides must be empty.
        if self.is_tmpfs {
            let path = CString::new(self.path.to_str().unwrap()).unwrap();
            // SAFETY: a string that is live.
            unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) };
        }
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// Gives this process mounts of its own, as a user of its own if need be.
fn own_mounts() -> io::Result<()> {
    // SAFETY: neither touches memory.
    let (user, group) = unsafe { (libc::getuid(), libc::getgid()) };
    // SAFETY: touches no memory.
    if unsafe { libc::unshare(libc::CLONE_NEWNS) } != 0 {
        // SAFETY: as above.
        if unsafe { libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS) } != 0 {
            return Err(io::Error::last_os_error());
        }
        std::fs::write("/proc/self/uid_map", format!("0 {user} 1"))?;
        std::fs::write("/proc/self/setgroups", "deny")?;
        std::fs::write("/proc/self/gid_map", format!("0 {group} 1"))?;
    }
    let flags = libc::MS_REC | libc::MS_PRIVATE;
    let none = std::ptr::null();
    // SAFETY: strings that are live, and null where nothing is meant.
    match unsafe { libc::mount(none, c"/".as_ptr(), none, flags, none.cast()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn mount(path: &Path, size: usize, flags: libc::c_ulong) -> io::Result<()> {
    let path = CString::new(path.to_str().unwrap()).unwrap();
    let options = CString::new(format!("size={size}")).unwrap();
    let kind = c"tmpfs".as_ptr();
    // SAFETY: strings that are live.
    match unsafe { libc::mount(kind, path.as_ptr(), kind, flags, options.as_ptr().cast()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn limit_files(size: usize) {
    let limit = libc::rlimit { rlim_cur: size as u64, rlim_max: libc::RLIM_INFINITY };
    let mut now = limit;
    // SAFETY: live structures.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_FSIZE, &mut now), 0);
        now.rlim_cur = limit.rlim_cur.min(now.rlim_max);
        assert_eq!(libc::setrlimit(libc::RLIMIT_FSIZE, &now), 0);
    }
}

/// Plays the test on either disk.
fn on_each_disk(program: Option<Program>) {
    let Some(program) = program else { return };
    program.clone().processors(2).parameter("limit").run().succeeded();
    let outcome = program.processors(2).parameter("tmpfs").run();
    let refused = outcome.values("refused").next().map(str::to_owned);
    match refused {
        Some(why) => println!("skipped on a tmpfs, of which none can be mounted: {why}"),
        None => {
            outcome.succeeded();
        }
    }
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// Which descriptors are open, but for those that the runtime has for each worker (of its poller) or for a moment (to look
/// at its threads).
fn descriptors() -> Vec<PathBuf> {
    let all = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let mut targets: Vec<_> =
        all.filter_map(|entry| std::fs::read_link(entry.path()).ok()).collect();
    targets.retain(|target| {
        !target.starts_with("/proc") && !target.starts_with("/sys") && !is_of_a_poller(target)
    });
    targets.sort();
    targets
}

fn is_of_a_poller(target: &Path) -> bool {
    target.to_string_lossy().starts_with("anon_inode:[event")
}

#[test]
fn a_write_takes_what_there_is_room_for_and_then_fails_as_stds() {
    on_each_disk(process::stage(|| {
        let disk = Disk::here();
        strands::run(|| {
            let bytes = pattern(2 * ROOM);
            // What std's does in the same place.
            let mut std = std::fs::File::create_new(disk.at("std")).unwrap();
            let stds_error = std.write_all(&bytes).unwrap_err();
            let stds_length = std.metadata().unwrap().len();
            drop(std);
            std::fs::remove_file(disk.at("std")).unwrap();

            let mut file = File::create_new(disk.at("ours")).unwrap();
            let error = file.write_all(&bytes).unwrap_err();
            assert_eq!((error.kind(), stds_error.kind()), (disk.error(), disk.error()));
            let length = file.metadata().unwrap().len();
            assert_eq!(length, stds_length);
            assert!(length > 0);
            assert_eq!(file.stream_position().unwrap(), length);
            // It stays so, in each of the ways in which one can write.
            assert_eq!(file.write(b"x").unwrap_err().kind(), disk.error());
            let slices = [io::IoSlice::new(b"x"), io::IoSlice::new(b"y")];
            assert_eq!(file.write_vectored(&slices).unwrap_err().kind(), disk.error());
            let error = std::os::unix::fs::FileExt::write_at(&file, b"x", length).unwrap_err();
            assert_eq!(error.kind(), disk.error());
            assert!(fs::read(disk.at("ours")).unwrap() == bytes[..length as usize]);
            if disk.is_tmpfs {
                assert_eq!(fs::write(disk.at("more"), &bytes).unwrap_err().kind(), disk.error());
                let error = fs::copy(disk.at("ours"), disk.at("copy")).unwrap_err();
                assert_eq!(error.kind(), disk.error());
            } else {
                assert_eq!(file.set_len(MORE as u64).unwrap_err().kind(), disk.error());
            }

            disk.make_room();
            file.write_all(&bytes[length as usize..]).unwrap();
            assert!(fs::read(disk.at("ours")).unwrap() == bytes);
        });
    }));
}

#[test]
fn a_buffered_writer_keeps_what_found_no_room() {
    on_each_disk(process::stage(|| {
        let disk = Disk::here();
        strands::run(|| {
            let bytes = pattern(2 * ROOM);
            let file = File::create_new(disk.at("buffered")).unwrap();
            // Neither the room nor a page is a multiple of either.
            let mut writer = BufWriter::with_capacity(10_007, file);
            let mut taken = 0;
            let error = loop {
                match writer.write(&bytes[taken..][..999]) {
                    Ok(more) => taken += more,
                    Err(error) => break error,
                }
            };
            assert_eq!(error.kind(), disk.error());
            assert_eq!(writer.flush().unwrap_err().kind(), disk.error());
            let on_disk = fs::read(disk.at("buffered")).unwrap();
            assert!(on_disk.len() + writer.buffer().len() == taken);
            assert!(bytes[..taken] == [&on_disk, writer.buffer()].concat());

            let writer = writer.into_inner().unwrap_err();
            assert_eq!(writer.error().kind(), disk.error());
            let mut writer = writer.into_inner();
            disk.make_room();
            writer.flush().unwrap();
            writer.write_all(&bytes[taken..]).unwrap();
            drop(writer.into_inner().unwrap());
            assert!(fs::read(disk.at("buffered")).unwrap() == bytes);
        });
    }));
}

#[test]
fn a_copy_to_a_full_disk_ends_with_what_there_was_room_for() {
    on_each_disk(process::stage(|| {
        let source = std::env::temp_dir().join(format!("strands-source-{}", std::process::id()));
        let bytes = pattern(3 * ROOM);
        std::fs::write(&source, &bytes).unwrap();
        let disk = Disk::here();
        strands::run(|| {
            // Of this name, the beginning; how much of it.
            let check = |name: &str, copied: io::Result<u64>| {
                assert_eq!(copied.unwrap_err().kind(), disk.error(), "{name}");
                let written = fs::read(disk.at(name)).unwrap();
                assert!(!written.is_empty() && written == bytes[..written.len()], "{name}");
                written.len() as u64
            };
            let target = |name: &str| File::create_new(disk.at(name)).unwrap();
            let forget = |name: &str| fs::remove_file(disk.at(name)).unwrap();
            let round = || {
                // From a pipe.
                let (mut reader, mut writer) = strands::io::pipe().unwrap();
                let sent = bytes.clone();
                let feeding = strands::go(move || writer.write_all(&sent));
                check("pipe", strands::io::copy(&mut reader, &mut target("pipe")));
                drop(reader);
                assert_eq!(feeding.join().unwrap().unwrap_err().kind(), ErrorKind::BrokenPipe);
                forget("pipe");

                // From a socket, which can be used after that.
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                let mut stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
                let (mut peer, _) = listener.accept().unwrap();
                let sent = bytes.clone();
                let feeding = strands::go(move || {
                    stream.write_all(&sent)?;
                    stream.shutdown(Shutdown::Write)?;
                    let mut answer = String::new();
                    stream.read_to_string(&mut answer).map(|_| answer)
                });
                check("socket", strands::io::copy(&mut peer, &mut target("socket")));
                io::copy(&mut peer, &mut io::sink()).unwrap();
                peer.write_all(b"full").unwrap();
                drop(peer);
                assert_eq!(feeding.join().unwrap().unwrap(), "full");
                forget("socket");

                // From a reader that is none of ours.
                check("bytes", strands::io::copy(&mut &bytes[..], &mut target("bytes")));
                forget("bytes");
            };
            round();
            let before = descriptors();
            (0..3).for_each(|_| round());
            assert_eq!(descriptors(), before);

            // From a file to a file nothing is lost: it stands where the copy has got to.
            let mut from = File::open(&source).unwrap();
            let mut to = target("file");
            let written = check("file", strands::io::copy(&mut from, &mut to));
            assert_eq!(from.stream_position().unwrap(), written);
            disk.make_room();
            let rest = strands::io::copy(&mut from, &mut to).unwrap();
            assert_eq!(written + rest, bytes.len() as u64);
            assert!(fs::read(disk.at("file")).unwrap() == bytes);
        });
        std::fs::remove_file(&source).unwrap();
    }));
}

#[test]
fn many_who_meet_a_full_disk_at_once_harm_nobody() {
    on_each_disk(process::stage(|| {
        let disk = Disk::here();
        strands::run(|| {
            let round = || {
                strands::scope(|s| {
                    for n in 0..40_u8 {
                        let disk = &disk;
                        s.spawn(move || {
                            let path = disk.at(&n.to_string());
                            let mut file = match File::create(&path) {
                                Ok(file) => file,
                                // Not even a name finds room.
                                Err(error) => return assert_eq!(error.kind(), disk.error()),
                            };
                            let error = loop {
                                match file.write(&[n; 3000]) {
                                    Ok(written) => {
                                        assert!(written > 0);
                                        strands::yield_now();
                                    }
                                    Err(error) => break error,
                                }
                            };
                            assert_eq!(error.kind(), disk.error());
                            let length = file.metadata().unwrap().len() as usize;
                            assert!(fs::read(&path).unwrap() == vec![n; length]);
                        });
                    }
                });
                (0..40).for_each(|n| fs::remove_file(disk.at(&n.to_string())).unwrap());
            };
            round();
            let before = descriptors();
            round();
            assert_eq!(descriptors(), before);
            // Every processor still runs goroutines: these two must be at it at the same time.
            let meeting = std::sync::Arc::new(std::sync::Barrier::new(2));
            let met: Vec<_> = (0..2)
                .map(|_| {
                    let meeting = std::sync::Arc::clone(&meeting);
                    strands::go(move || meeting.wait())
                })
                .collect();
            met.into_iter().for_each(|one| assert!(one.join().is_ok()));
        });
    }));
}
