//! Files: as std's, error for error; and what may take any time stalls nobody.

mod child;
mod process;
mod waiting;

use std::fs as std_fs;
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use strands::fs::{self, File, OpenOptions};
use waiting::KINDS;

/// A directory that goes with it.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Dir {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("strands-fs-{}-{}", std::process::id(), COUNT.fetch_add(1, SeqCst));
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Dir(path)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std_fs::remove_dir_all(&self.0);
    }
}

fn make_fifo(path: &Path) {
    let name = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
    // SAFETY: a string that is live.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
}

#[test]
fn files_are_written_and_read_as_by_std() {
    for kind in KINDS {
        kind.start(|| {
            let dir = Dir::new();
            let path = dir.at("file");
            let mut file = File::create_new(&path).unwrap();
            file.write_all(b"0123456789").unwrap();
            file.seek(SeekFrom::Start(2)).unwrap();
            let mut two = [0; 2];
            file.read_exact(&mut two).unwrap();
            assert_eq!(&two, b"23");
            assert_eq!((&file).stream_position().unwrap(), 4);
            file.write_all_at(b"XY", 8).unwrap();
            file.read_exact_at(&mut two, 7).unwrap();
            assert_eq!(&two, b"7X");
            let mut copy = file.try_clone().unwrap();
            let mut rest = String::new();
            copy.read_to_string(&mut rest).unwrap();
            assert_eq!(rest, "4567XY");
            file.sync_all().unwrap();
            file.sync_data().unwrap();
            file.set_len(3).unwrap();
            assert_eq!(file.metadata().unwrap().len(), 3);
            file.set_permissions(fs::Permissions::from_mode(0o640)).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
            let mut appended = File::options().append(true).open(&path).unwrap();
            appended.write_all(b"!").unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"012!");
            assert_eq!(fs::copy(&path, dir.at("copy")).unwrap(), 4);
            fs::write(&path, "new").unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), "new");
            assert_eq!(fs::canonicalize(dir.at("./copy")).unwrap().file_name().unwrap(), "copy");
            let mut names: Vec<_> =
                fs::read_dir(&dir.0).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            assert_eq!(names, ["copy", "file"]);
            let std = std_fs::File::from(file);
            assert!(format!("{:?}", File::from(std)).contains("file"));
            fs::remove_dir_all(&dir.0).unwrap();
            assert!(!fs::exists(&dir.0).unwrap());
        })
        .join();
    }
}

#[test]
fn errors_are_stds() {
    for kind in KINDS {
        kind.start(|| {
            let dir = Dir::new();
            let (file, none) = (dir.at("file"), dir.at("none/at/all"));
            fs::write(&file, "x").unwrap();
            let kind_of = |done: std::io::Result<File>| done.unwrap_err().kind();
            assert_eq!(kind_of(File::open(&none)), ErrorKind::NotFound);
            assert_eq!(kind_of(File::create(&none)), ErrorKind::NotFound);
            assert_eq!(kind_of(File::create_new(&file)), ErrorKind::AlreadyExists);
            assert_eq!(kind_of(File::open(file.join("in"))), ErrorKind::NotADirectory);
            assert_eq!(kind_of(File::create(&dir.0)), ErrorKind::IsADirectory);
            let mut options = OpenOptions::new();
            assert_eq!(kind_of(options.open(&file)), ErrorKind::InvalidInput);
            assert_eq!(kind_of(options.create(true).open(&file)), ErrorKind::InvalidInput);
            // A directory can be opened, and not read.
            let error = File::open(&dir.0).unwrap().read(&mut [0]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::IsADirectory);
            assert_eq!(fs::read(&dir.0).unwrap_err().kind(), ErrorKind::IsADirectory);
            let error = File::open(&file).unwrap().write(b"x").unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EBADF));
            fs::write(&file, [0xff]).unwrap();
            assert_eq!(fs::read_to_string(&file).unwrap_err().kind(), ErrorKind::InvalidData);
            assert_eq!(fs::copy(&none, &file).unwrap_err().kind(), ErrorKind::NotFound);
            assert_eq!(fs::remove_dir_all(&none).unwrap_err().kind(), ErrorKind::NotFound);
            assert_eq!(fs::canonicalize(&none).unwrap_err().kind(), ErrorKind::NotFound);
        })
        .join();
    }
}

#[test]
fn a_fifo_stalls_no_sibling() {
    process::on_processors(&[1], || {
        strands::run(|| {
            let dir = Dir::new();
            let path = dir.at("fifo");
            make_fifo(&path);
            let (tx, rx) = strands::channel::bounded(0);
            let reading = {
                let path = path.clone();
                strands::go(move || {
                    tx.send("opens").unwrap();
                    // Waits for its other end to be opened; and then for what is written to it.
                    let mut file = File::open(&path).unwrap();
                    tx.send("reads").unwrap();
                    let mut text = String::new();
                    file.read_to_string(&mut text).unwrap();
                    text
                })
            };
            // We are at home where it is.
            assert_eq!(rx.recv(), Ok("opens"));
            strands::sleep(std::time::Duration::from_millis(1));
            let mut writer = File::options().write(true).open(&path).unwrap();
            assert_eq!(rx.recv(), Ok("reads"));
            strands::sleep(std::time::Duration::from_millis(1));
            writer.write_all(b"at last").unwrap();
            drop(writer);
            assert_eq!(reading.join().unwrap(), "at last");
            // And in one call.
            let read = {
                let path = path.clone();
                strands::go(move || fs::read_to_string(&path).unwrap())
            };
            strands::yield_now();
            fs::write(&path, "at once").unwrap();
            assert_eq!(read.join().unwrap(), "at once");
        });
    });
}

#[test]
fn a_lock_that_another_has_stalls_no_sibling() {
    process::on_processors(&[1], || {
        strands::run(|| {
            let dir = Dir::new();
            let path = dir.at("locked");
            let holder = File::create(&path).unwrap();
            holder.lock().unwrap();
            let waiting = strands::go(move || {
                let file = File::open(&path).unwrap();
                assert!(matches!(file.try_lock(), Err(fs::TryLockError::WouldBlock)));
                file.lock_shared().unwrap();
                file.unlock().unwrap();
                file.lock().unwrap();
            });
            while !strands::runtime::dump().contains("[blocking call,") {
                strands::sleep(std::time::Duration::from_micros(100));
            }
            holder.unlock().unwrap();
            waiting.join().unwrap();
        });
    });
}

#[test]
fn devices_are_files() {
    for kind in KINDS {
        kind.start(|| {
            let mut zeros = [1; 100];
            File::open("/dev/zero").unwrap().read_exact(&mut zeros).unwrap();
            assert_eq!(zeros, [0; 100]);
            let mut options = OpenOptions::new();
            let full = options.write(true).custom_flags(libc::O_CLOEXEC).open("/dev/full");
            let error = full.unwrap().write(b"x").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::StorageFull);
            fs::write("/dev/null", "nobody reads this").unwrap();
        })
        .join();
    }
}

#[test]
fn cached_files_are_read_without_another_thread() {
    let Some(program) = process::stage(|| {
        strands::run(|| {
            let dir = Dir::new();
            fs::write(dir.at("cached"), [1; 4096]).unwrap();
            for _ in 0..100 {
                assert_eq!(fs::read(dir.at("cached")).unwrap().len(), 4096);
            }
            assert_eq!(strands::runtime::metrics().blocking_threads, 0);
        });
    }) else {
        return;
    };
    program.run().succeeded();
}
