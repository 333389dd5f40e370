//! The few system calls that have no safe wrapper among our dependencies.
#![expect(unsafe_code, reason = "malloc_trim and setrlimit have no safe wrapper here")]

/// Gives freed heap pages back to the kernel, so that resident memory counts what is in use.
pub(crate) fn release_free_memory() {
    // SAFETY: malloc_trim may be called at any time.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Lets the process open as many files as the system allows it: each endpoint takes several.
pub(crate) fn raise_open_files_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls borrow one valid rlimit.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            // The old limit stays in force on failure, and shows as a failed bind.
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        }
    }
}
