//! What a number was measured on, and the memory of a process. What a system does not tell is left out.

use std::fs;
use std::thread::available_parallelism;
use std::time::Duration;

use serde::Serialize;

use crate::render;

/// Clock ticks a second in `/proc` (USER_HZ): 100 on every Linux that Rust runs on.
const TICKS_PER_SECOND: u64 = 100;

/// The machine and the build.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    /// Model of the processor, as the system names it.
    pub(crate) cpu: Option<String>,
    /// Processors this program may use.
    pub(crate) cores: usize,
    /// Operating system, kernel release and architecture.
    pub(crate) kernel: String,
    /// Version of this program.
    pub(crate) comity: &'static str,
    /// `release` or `debug`.
    pub(crate) profile: &'static str,
    /// When the run began, RFC 3339.
    pub(crate) at: String,
    /// Load average over one minute before the network started.
    pub(crate) load_before: Option<f64>,
    /// The same after the last measurement; the network's own load is part of it.
    pub(crate) load_after: Option<f64>,
}

impl Machine {
    /// This machine, now.
    pub(crate) fn here() -> Self {
        let system = rustix::system::uname();
        let words = [system.sysname(), system.release(), system.machine()];
        Self {
            cpu: cpu_model(),
            cores: available_parallelism().map_or(1, usize::from),
            kernel: words.map(|word| word.to_string_lossy()).join(" "),
            comity: env!("CARGO_PKG_VERSION"),
            profile: if cfg!(debug_assertions) { "debug" } else { "release" },
            at: render::instant(render::now_ms()),
            load_before: load(),
            load_after: None,
        }
    }
}

/// Load average over one minute.
pub(crate) fn load() -> Option<f64> {
    fs::read_to_string("/proc/loadavg").ok()?.split_whitespace().next()?.parse().ok()
}

/// Memory of a process, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Resident, with the pages of the program's file, which all processes of one program share.
    pub(crate) resident: u64,
    /// The part of it that is the process's own: heap, stacks, changed data.
    pub(crate) own: u64,
}

/// Memory of a process, where the system tells (Linux, proc(5)).
pub(crate) fn usage(pid: u32) -> Option<Usage> {
    usage_of(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?)
}

/// Processor time this process has used, user and system together.
pub(crate) fn processor_time() -> Option<Duration> {
    // The command in parentheses may hold anything, spaces and parentheses included (proc(5)).
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    ticks_of(&stat).map(|ticks| Duration::from_millis(ticks * 1_000 / TICKS_PER_SECOND))
}

fn ticks_of(stat: &str) -> Option<u64> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let user: u64 = fields.get(11)?.parse().ok()?;
    let system: u64 = fields.get(12)?.parse().ok()?;
    user.checked_add(system)
}

fn cpu_model() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn usage_of(status: &str) -> Option<Usage> {
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        kib.checked_mul(1_024)
    };
    Some(Usage { resident: field("VmRSS:")?, own: field("RssAnon:")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_bytes() {
        let status = "Name:\tcomity\nVmHWM:\t  20000 kB\nVmRSS:\t  12345 kB\nRssAnon:\t  45 kB\n";
        let wanted = Usage { resident: 12_345 * 1_024, own: 45 * 1_024 };
        assert_eq!(usage_of(status), Some(wanted));
        assert_eq!(usage_of("Name:\tkthreadd\n"), None);
        assert_eq!(usage_of("VmRSS:\t99999999999999999999 kB\nRssAnon:\t1 kB\n"), None);
    }

    #[test]
    fn processor_time_is_read_past_any_name() {
        let stat = "1 (a b) c) S 1 1 1 0 -1 4 5 6 7 8 120 30 9 9 20 0 1 0 5";
        assert_eq!(ticks_of(stat), Some(150));
        assert_eq!(ticks_of("1 (x) S 1"), None);
        assert!(processor_time().is_some() || !cfg!(target_os = "linux"));
    }
}
