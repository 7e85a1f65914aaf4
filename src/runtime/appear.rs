//! Waits until the socket of a runtime that is not there may have come, without looking for it again and again.
//!
//! The kernel tells what is made in the nearest directory on the way to it that is there. What it does not tell, that
//! something was mounted on the way or that a link leads elsewhere, is found by a look each half a minute; where it cannot
//! be asked, for want of inotify instances, by one each two seconds.

use std::ffi::{OsStr, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;

use super::backoff::until_next_look;
use super::socket::Socket;
use crate::sys::wait_readable;

/// Between looks where the kernel tells.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// Between two answers: who makes and removes what is on the way a thousand times a second wakes nobody as often.
const REST: Duration = Duration::from_millis(100);
const BUFFER_BYTES: usize = 4 << 10;

/// Until `socket`, which was not there, may be. It may not be there after all.
pub async fn appears(socket: &Socket) {
    let Ok(watch) = Watch::on(socket) else {
        return tokio::time::sleep(until_next_look()).await;
    };
    // It may have come before it was watched for.
    if socket.find().is_some() {
        return;
    }
    tokio::select! {
        () = watch.heard() => tokio::time::sleep(REST).await,
        () = tokio::time::sleep(LOOK_EVERY) => {}
    }
}

/// A watch on what comes next on the way to each path of a socket.
struct Watch {
    inotify: AsyncFd<OwnedFd>,
    /// The watched directory and what comes next in it. The kernel numbers two names of one directory alike.
    next: Vec<(i32, OsString)>,
}

impl Watch {
    fn on(socket: &Socket) -> io::Result<Watch> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let next = socket.paths().filter_map(|path| watch(&inotify, path).transpose());
        let next = next.collect::<io::Result<Vec<_>>>()?;
        Ok(Watch { inotify: wait_readable(inotify)?, next })
    }

    /// Until something came that was waited for, or a watched directory has gone.
    async fn heard(&self) {
        loop {
            let Ok(mut ready) = self.inotify.readable().await else { return };
            // One that cannot be read is looked at again as one that was heard.
            if ready.try_io(|inotify| self.take(inotify.get_ref())).is_ok() {
                return;
            }
        }
    }

    /// Takes what has happened up to what was waited for; `WouldBlock` where nothing of that has.
    fn take(&self, inotify: &OwnedFd) -> io::Result<()> {
        let mut buffer = [MaybeUninit::uninit(); BUFFER_BYTES];
        let mut reader = Reader::new(inotify, &mut buffer);
        loop {
            let event = reader.next()?;
            let comes =
                |name: &OsStr| self.next.iter().any(|(watched, next)| *watched == event.wd() && next == name);
            let gone = ReadFlags::IGNORED | ReadFlags::MOVE_SELF | ReadFlags::QUEUE_OVERFLOW;
            if event.events().intersects(gone)
                || event.file_name().is_some_and(|name| comes(OsStr::from_bytes(name.to_bytes())))
            {
                return Ok(());
            }
        }
    }
}

/// Watches the nearest directory on the way to `path` that is there. None where the way leads through what is no directory.
fn watch(inotify: &OwnedFd, path: &Path) -> io::Result<Option<(i32, OsString)>> {
    let flags = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::MOVE_SELF | WatchFlags::ONLYDIR;
    for (dir, below) in path.ancestors().skip(1).zip(path.ancestors()) {
        let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
        match inotify::add_watch(inotify, dir, flags) {
            Ok(watched) => return Ok(below.file_name().map(|name| (watched, name.to_owned()))),
            Err(Errno::NOENT) => {}
            Err(Errno::NOTDIR) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;
    use std::time::Instant;

    /// How long it took to hear that `path` may be there, after `makes` was done once it was waited for.
    fn heard_after(path: &Path, makes: impl FnOnce()) -> Duration {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let socket = Socket::At(path.into());
        runtime.block_on(async {
            let watch = Watch::on(&socket).unwrap();
            makes();
            let begin = Instant::now();
            watch.heard().await;
            begin.elapsed()
        })
    }

    #[test]
    fn a_socket_is_heard_of_when_it_comes_and_so_is_a_directory_on_the_way() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/docker.sock");
        let soon = Duration::from_secs(10);
        assert!(heard_after(&path, || std::fs::create_dir(dir.path().join("a")).unwrap()) < soon);
        let made = dir.path().join("other");
        std::fs::create_dir(&made).unwrap();
        assert!(heard_after(&path, || std::fs::rename(&made, dir.path().join("a/b")).unwrap()) < soon);
        assert!(heard_after(&path, || drop(UnixListener::bind(&path).unwrap())) < soon);
        std::fs::remove_file(&path).unwrap();
        assert!(heard_after(&path, || std::fs::remove_dir(dir.path().join("a/b")).unwrap()) < soon);
    }

    #[test]
    fn others_that_come_there_are_not_what_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let socket = Socket::At(dir.path().join("a.sock"));
            let watch = Watch::on(&socket).unwrap();
            std::fs::write(dir.path().join("b.sock"), "").unwrap();
            let taken = watch.take(watch.inotify.get_ref());
            assert_eq!(
                taken.unwrap_err().kind(),
                io::ErrorKind::WouldBlock,
                "one that concerns nobody was read"
            );
            std::fs::write(dir.path().join("a.sock"), "").unwrap();
            watch.take(watch.inotify.get_ref()).unwrap();
            // One that is there is not waited for.
            appears(&socket).await;
        });
    }

    #[test]
    fn a_way_through_a_file_is_none() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), "").unwrap();
        let inotify = inotify::init(CreateFlags::CLOEXEC).unwrap();
        assert_eq!(watch(&inotify, &dir.path().join("file/a.sock")).unwrap(), None);
        let (_, next) = watch(&inotify, Path::new("nowhere.sock")).unwrap().unwrap();
        assert_eq!(next, "nowhere.sock", "from the working directory");
    }
}
