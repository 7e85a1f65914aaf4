//! What it would cost to parse programs of containers in a process of its own, without rights, which is handed open files
//! and hands tables back, against parsing them where they are used, in a thread without rights.
//!
//! Both make the same tables of the same programs of this machine. The process is this program again, as nobody and
//! without capabilities; files go to it by SCM_RIGHTS.

use std::fs::File;
use std::io::{IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, ensure};
use fnscope::stack::SymbolTable;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

use crate::measure::{Bar, Bound, Measurement};

/// The measurement.
pub const SEPARATION: Measurement = Measurement {
    name: "bench-separation",
    about: "symbol tables of real programs, made in the process and in an unprivileged process handed open files",
    runs: 5,
    run: separation,
};

/// The argument by which this program knows that it is the process.
pub const WORKER: &str = "separation-worker";
/// Most programs that are looked at.
const PROGRAMS: usize = 30;
/// Larger ones are left out, in bytes.
const MAX_BYTES: u64 = 4 << 20;

fn separation() -> anyhow::Result<Vec<Bar>> {
    let programs = programs();
    let bytes: u64 = programs.iter().filter_map(|path| path.metadata().ok()).map(|about| about.len()).sum();
    // So that neither pays for the disk.
    parse_all(&programs)?;
    let begin = Instant::now();
    let here = parse_all(&programs)?;
    let here_ms = begin.elapsed().as_secs_f64() * 1e3;

    let begin = Instant::now();
    let mut worker = Worker::start()?;
    let start_ms = begin.elapsed().as_secs_f64() * 1e3;
    let idle_kib = worker.memory_kib("VmRSS")?;
    let begin = Instant::now();
    let there = worker.parse_all(&programs)?;
    let there_ms = begin.elapsed().as_secs_f64() * 1e3;
    ensure!(here == there, "the tables differ: {here} symbols and {there}");
    let per_program = |ms: f64| ms * 1e3 / programs.len() as f64;
    Ok(vec![
        Bar::new("programs", programs.len() as f64, "", Bound::AtLeast(20.0)),
        Bar::new("their size", bytes as f64 / 1e6, "MB", Bound::Recorded),
        Bar::new("in the process, each", per_program(here_ms), "us", Bound::Recorded),
        Bar::new("in one of its own, each", per_program(there_ms), "us", Bound::Recorded),
        Bar::new("times as long", there_ms / here_ms, "", Bound::Recorded),
        Bar::new("its start", start_ms, "ms", Bound::Recorded),
        Bar::new("its memory before any work", idle_kib / 1024.0, "MiB", Bound::Recorded),
        Bar::new("its memory at most", worker.memory_kib("VmHWM")? / 1024.0, "MiB", Bound::Recorded),
    ])
}

/// Programs and libraries of this machine that anybody may read and of which a table can be made.
fn programs() -> Vec<PathBuf> {
    let folders = ["/usr/bin", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu"];
    let files = folders.iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten().flatten();
    let mut found: Vec<(u64, PathBuf)> = files
        .filter_map(|file| Some((file.path().metadata().ok()?, file.path())))
        .filter(|(about, _)| about.is_file() && about.len() <= MAX_BYTES)
        .map(|(about, path)| (about.len(), path))
        .collect();
    // The largest, where parsing takes time.
    found.sort_by(|a, b| b.cmp(a));
    found.into_iter().map(|(_, path)| path).filter(|path| table(path).is_some()).take(PROGRAMS).collect()
}

fn table(path: &PathBuf) -> Option<SymbolTable> {
    SymbolTable::from_elf_bytes(&std::fs::read(path).ok()?).ok()
}

fn parse_all(programs: &[PathBuf]) -> anyhow::Result<usize> {
    programs.iter().map(|path| Ok(table(path).context("a table, as before")?.len())).sum()
}

struct Worker {
    child: std::process::Child,
    socket: UnixStream,
}

impl Worker {
    fn start() -> anyhow::Result<Worker> {
        let (socket, theirs) = UnixStream::pair().context("make a pair of sockets")?;
        let own = std::env::current_exe().context("find this program")?;
        let mut command = Command::new("setpriv");
        command.args([
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "--inh-caps=-all",
            "--no-new-privs",
        ]);
        // By a descriptor: nobody may not look into our folders.
        let program = File::open(own).context("open this program")?;
        rustix::io::fcntl_setfd(&program, rustix::io::FdFlags::empty()).context("keep it open")?;
        command.arg(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&program))).arg(WORKER);
        let child = command.stdin(Stdio::from(OwnedFd::from(theirs))).spawn().context("start setpriv")?;
        let mut worker = Worker { child, socket };
        worker.socket.read_exact(&mut [0]).context("wait for the process")?;
        Ok(worker)
    }

    fn parse_all(&mut self, programs: &[PathBuf]) -> anyhow::Result<usize> {
        let mut symbols = 0;
        for path in programs {
            let file = File::open(path)?;
            let descriptors = [file.as_fd()];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            ensure!(control.push(SendAncillaryMessage::ScmRights(&descriptors)), "there is room for one");
            sendmsg(&self.socket, &[IoSlice::new(&[1])], &mut control, SendFlags::empty())?;
            let mut len = [0; 8];
            self.socket.read_exact(&mut len)?;
            let mut bytes = Vec::new();
            (&self.socket).take(u64::from_le_bytes(len)).read_to_end(&mut bytes)?;
            symbols += SymbolTable::from_bytes(&bytes)?.len();
        }
        Ok(symbols)
    }

    fn memory_kib(&self, field: &str) -> anyhow::Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(field)).context("a field of memory")?;
        let number = line.trim_start_matches(':').split_whitespace().next().context("a number")?;
        Ok(number.parse()?)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
        let _ = self.child.wait();
    }
}

/// The process: reads files as they come, until its socket is closed.
pub fn work() -> anyhow::Result<()> {
    let mut socket = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    socket.write_all(&[0])?;
    loop {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        let got = recvmsg(&socket, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
        if got.bytes == 0 {
            return Ok(());
        }
        let descriptor = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
            _ => None,
        });
        let mut bytes = Vec::new();
        File::from(descriptor.context("a file")?).read_to_end(&mut bytes)?;
        let table = SymbolTable::from_elf_bytes(&bytes)?.to_bytes();
        socket.write_all(&(table.len() as u64).to_le_bytes())?;
        socket.write_all(&table)?;
    }
}
