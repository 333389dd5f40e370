//! Long paths on one machine: network namespaces joined by an emulator in user space, and threads that live in them.
#![expect(clippy::print_stderr, reason = "progress goes to stderr")]

pub mod lab;
pub mod stage;
mod sys;

/// One line of progress for whoever watches.
pub fn progress(text: &str) {
    eprintln!("{text}");
}
