//! What a process with the number 1 owes to others.
//!
//! In a container the bridge often is it, and the system gives it every process that has lost its
//! parent. A grandchild that was killed, or that had left its group and ended later, stays a zombie
//! until the bridge waits for it, and a container has few places for processes.

use std::{fs, process};

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

/// Whether orphans come to this process.
pub(super) fn are_ours() -> bool {
    process::id() == 1
}

/// Waits for every child that has ended and that `is_orphan`. Those who are about to end are for the
/// next time.
pub(super) fn bury(is_orphan: impl Fn(u32) -> bool) {
    let Ok(entries) = fs::read_dir("/proc") else { return };
    let numbers = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    for number in numbers.filter(|number| is_orphan(*number)) {
        if let Some(pid) = i32::try_from(number).ok().and_then(Pid::from_raw) {
            // An error says that it is nobody's child of ours.
            let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn the_dead_are_waited_for_unless_somebody_else_does_that() {
        let mut children = [(); 2].map(|()| Command::new("/bin/true").spawn().expect("it starts"));
        let [orphan, other] = &mut children;
        // Both are zombies once their ends can be seen without being taken.
        for child in [&*orphan, &*other] {
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            waitid(WaitId::Pid(Pid::from_child(child)), options).expect("our own child");
        }
        bury(|id| id == orphan.id());
        assert!(orphan.try_wait().is_err(), "it was waited for");
        assert!(other.try_wait().expect("our own child").is_some_and(|status| status.success()));
    }
}
