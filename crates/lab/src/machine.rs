//! What a number was measured on. What a system does not tell is left out.

use std::fs;
use std::thread::available_parallelism;

use serde::{Deserialize, Serialize};

/// Ticks of processor time in a second, as Linux reports them to programs (`USER_HZ`, proc(5)).
const TICKS_PER_SECOND: f64 = 100.0;

/// The machine and the build.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Machine {
    /// Model of the processor, as the system names it.
    pub cpu: Option<String>,
    /// Processors this program may use.
    pub cores: usize,
    /// Memory of the machine, bytes.
    pub memory_bytes: Option<u64>,
    /// Operating system and architecture.
    pub system: String,
    /// Version of this program.
    pub comity: String,
    /// `release` or `debug`.
    pub profile: String,
}

impl Machine {
    /// This machine.
    #[must_use]
    pub fn here() -> Self {
        let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = info.lines().find(|line| line.starts_with("model name"));
        Self {
            cpu: model.and_then(|line| Some(line.split_once(':')?.1.trim().to_owned())),
            cores: available_parallelism().map_or(1, usize::from),
            memory_bytes: meminfo("MemTotal:"),
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            comity: env!("CARGO_PKG_VERSION").to_owned(),
            profile: if cfg!(debug_assertions) { "debug" } else { "release" }.to_owned(),
        }
    }

    /// The machine in one line.
    #[must_use]
    pub fn words(&self) -> String {
        let memory = self.memory_bytes.map_or_else(
            || "memory unknown".to_owned(),
            |bytes| format!("{:.0} GiB of memory", bytes as f64 / 1_073_741_824.0),
        );
        let cores = if self.cores == 1 { "core" } else { "cores" };
        format!(
            "{}, {} {cores}, {memory}, {}, comity {} ({} build)",
            self.cpu.as_deref().unwrap_or("an unnamed processor"),
            self.cores,
            self.system,
            self.comity,
            self.profile
        )
    }
}

/// Memory that could be used now without swapping, bytes.
#[must_use]
pub fn memory_available() -> Option<u64> {
    meminfo("MemAvailable:")
}

/// Largest resident set of this process so far, bytes.
#[must_use]
pub fn peak_bytes() -> Option<u64> {
    kilobytes(&fs::read_to_string("/proc/self/status").ok()?, "VmHWM:")
}

/// Processor seconds of this process so far, its threads included.
#[must_use]
pub fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    cpu_of(&stat)
}

/// Hash of this program's file, 16 hexadecimal digits: results of another build are not these results.
#[must_use]
pub fn program() -> String {
    let bytes = std::env::current_exe().and_then(fs::read).unwrap_or_default();
    let mut hash = blake3::hash(&bytes).to_hex().to_string();
    hash.truncate(16);
    hash
}

fn cpu_of(stat: &str) -> Option<f64> {
    // The second field is the program's name in brackets and may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) / TICKS_PER_SECOND)
}

fn meminfo(field: &str) -> Option<u64> {
    kilobytes(&fs::read_to_string("/proc/meminfo").ok()?, field)
}

fn kilobytes(text: &str, field: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_the_system_are_read() {
        assert_eq!(kilobytes("VmHWM:\t   20 kB\nVmRSS:\t 5 kB\n", "VmRSS:"), Some(5 * 1_024));
        assert_eq!(kilobytes("VmRSS:\t99999999999999999999 kB\n", "VmRSS:"), None);
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0";
        assert_eq!(cpu_of(stat), Some(3.0));
        assert_eq!(cpu_of("7 (a"), None);
    }
}
