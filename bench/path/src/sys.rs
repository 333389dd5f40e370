//! The few system calls that have no safe wrapper among our dependencies.
#![expect(
    unsafe_code,
    reason = "setns, TUNSETIFF, poll, prctl and geteuid have no safe wrapper here"
)]

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd as _, RawFd},
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, Result};

/// `TUNSETIFF` of linux/if_tun.h: `_IOW('T', 202, int)`.
const TUNSETIFF: libc::c_ulong = 0x4004_54ca;
/// `IFF_TUN | IFF_NO_PI`: IP packets without a header of the driver's own.
const TUN_FLAGS: u16 = 0x0001 | 0x1000;

/// `struct ifreq` as far as `TUNSETIFF` reads it.
#[repr(C)]
struct InterfaceRequest {
    name: [u8; libc::IFNAMSIZ],
    flags: u16,
    rest: [u8; 22],
}

/// Moves the calling thread, and threads it starts later, into the network namespace behind `handle`.
pub(crate) fn enter_network_namespace(handle: &Path) -> Result<()> {
    let file = File::open(handle).with_context(|| format!("open {}", handle.display()))?;
    // SAFETY: setns reads an open descriptor and changes nothing in our memory.
    let outcome = unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) };
    if outcome != 0 {
        return Err(io::Error::last_os_error())
            .with_context(|| format!("enter network namespace {}", handle.display()));
    }
    Ok(())
}

/// Makes a TUN device `name` (shorter than 16 bytes) in the calling thread's network namespace. It lives as
/// long as the file.
pub(crate) fn tun(name: &str) -> Result<File> {
    let file =
        File::options().read(true).write(true).open("/dev/net/tun").context("open /dev/net/tun")?;
    let mut request =
        InterfaceRequest { name: [0; libc::IFNAMSIZ], flags: TUN_FLAGS, rest: [0; 22] };
    for (to, from) in request.name.iter_mut().take(libc::IFNAMSIZ - 1).zip(name.bytes()) {
        *to = from;
    }
    // SAFETY: the request is a whole `ifreq` (40 bytes) that outlives the call; the name ends in a zero byte.
    let outcome = unsafe { libc::ioctl(file.as_raw_fd(), TUNSETIFF, &raw mut request) };
    if outcome != 0 {
        return Err(io::Error::last_os_error()).with_context(|| format!("make TUN device {name}"));
    }
    Ok(file)
}

/// Waits until `file` can be read, at most `limit`.
pub(crate) fn readable(file: RawFd, limit: Duration) -> io::Result<bool> {
    let mut poll = libc::pollfd { fd: file, events: libc::POLLIN, revents: 0 };
    let limit_ms = i32::try_from(limit.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: one valid pollfd, borrowed for the call.
    match unsafe { libc::poll(&raw mut poll, 1, limit_ms) } {
        -1 => Err(io::Error::last_os_error()),
        ready => Ok(ready > 0),
    }
}

/// Lets sleeps of the calling thread end within a microsecond of their time instead of the default 50.
pub(crate) fn precise_sleep() {
    let slack_ns: libc::c_ulong = 1_000;
    // SAFETY: PR_SET_TIMERSLACK takes one integer and touches only this thread's timer slack.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, slack_ns) };
}

/// Whether the process runs as root.
pub(crate) fn is_root() -> bool {
    // SAFETY: geteuid has no preconditions.
    unsafe { libc::geteuid() == 0 }
}
