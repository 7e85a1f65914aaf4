//! What a command takes until it ends: time, and the most memory at a time.

use std::fs;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::ensure;

/// What it took.
#[derive(Debug, Clone, Copy)]
pub struct Taken {
    /// From the call to its end, in seconds.
    pub seconds: f64,
    /// The kernel's high-water mark of its memory, in MiB.
    pub peak_mib: f64,
    /// How it ended.
    pub status: ExitStatus,
}

/// Waits for `child` and looks at its memory `every` so often; what it takes after the last look is not seen, which is
/// its end.
pub fn taken(child: &mut Child, every: Duration) -> anyhow::Result<Taken> {
    let begin = Instant::now();
    let path = format!("/proc/{}/status", child.id());
    let mut peak_kib = 0.0f64;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        let text = fs::read_to_string(&path).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
        peak_kib = peak_kib.max(kib.unwrap_or(0.0));
        std::thread::sleep(every);
    };
    ensure!(peak_kib > 0.0, "it ended before its memory was seen");
    Ok(Taken { seconds: begin.elapsed().as_secs_f64(), peak_mib: peak_kib / 1024.0, status })
}
