//! A process for each test. Descriptors, children, limits and forks are of the whole process, and
//! tests of one binary run in threads of one; besides, a zygote that is forked while another test
//! has a pool would keep that pool's sockets open.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitOptions, getpid, set_child_subreaper, set_parent_process_death_signal, wait,
    waitpid,
};

/// A test that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(10);

/// Runs a test in a process of its own, and checks that nothing is left of it: no process, thread or
/// descriptor.
pub fn isolated(test: impl FnOnce()) {
    print_panics();
    // SAFETY: the child uses nothing that another thread of this process may have locked: the
    // allocator prepares itself, and what is printed goes to the descriptor.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "a process could not be made");
    if pid == 0 {
        exit(i32::from(!run(test)));
    }
    let pid = Pid::from_raw(pid).expect("a child has a number");
    let ended = rustix::io::retry_on_intr(|| waitpid(Some(pid), WaitOptions::empty()));
    let status = ended.expect("it is our child").expect("it was waited for").1;
    if status.terminating_signal() == Some(libc::SIGALRM) {
        panic!("the test hung for {LIMIT:?}, or left something behind");
    }
    assert_eq!(status.exit_status(), Some(0), "the test failed: {status:?}");
}

/// Ends this process without touching what it was forked from.
pub fn exit(code: i32) -> ! {
    // SAFETY: it does not return.
    unsafe { libc::_exit(code) }
}

/// What panics in a forked process is printed at once: a test's own output is that of the process it
/// was forked from. Set there, since a child could wait for ever for the lock of the hook.
fn print_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let here = std::process::id();
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if std::process::id() == here {
                before(panic);
            } else {
                print(&format!("{panic}\n"));
            }
        }));
    });
}

fn print(text: &str) {
    let _ = rustix::io::write(std::io::stderr(), text.as_bytes());
}

fn run(test: impl FnOnce()) -> bool {
    // SAFETY: nobody else in this new process has set an alarm.
    unsafe { libc::alarm(LIMIT.as_secs() as u32) };
    set_parent_process_death_signal(Some(Signal::KILL)).expect("a process may die");
    // Whatever loses its parent comes here, to be counted.
    set_child_subreaper(Some(getpid())).expect("the kernel is not that old");
    let before = descriptors();
    if catch_unwind(AssertUnwindSafe(test)).is_err() {
        return false;
    }
    while !matches!(wait(WaitOptions::empty()), Err(Errno::CHILD)) {}
    // The supervisor's thread ends by itself when the pool is closed, and holds its last handles.
    super::until(|| count("/proc/self/task") == 1);
    let after = descriptors();
    if after != before {
        print(&format!("descriptors before: {before:#?}\nand after: {after:#?}\n"));
    }
    after == before
}

fn count(folder: &str) -> usize {
    std::fs::read_dir(folder).expect("the kernel shows it").count()
}

fn descriptors() -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir("/proc/self/fd")
        .expect("the kernel shows it")
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let target = std::fs::read_link(entry.path()).ok()?;
            // The folder that is being read is one of them.
            let target = target.to_string_lossy().into_owned();
            (!target.ends_with("/fd"))
                .then(|| format!("{} {target}", entry.file_name().to_string_lossy()))
        })
        .collect();
    names.sort();
    names
}
