//! The service manager's last word about a unit: how its program ended.
//!
//! The exit status of `systemd-run` cannot be used for that. It says 0 for a program that SIGTERM ended, such as a
//! health check that the shutdown of the machine cut short: that would be a verdict of "well". And it only waits for a
//! program's end where there is a D-Bus daemon. So each unit has a command that runs when all of its processes are gone
//! (`ExecStopPost=`), and writes what systemd knows into the stream that the program wrote to. No such word is never
//! taken for success.

use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

use rustix::process::Signal;

/// The command; systemd fills in the variables (systemd.exec(5), "Environment Variables Set or Propagated").
pub(super) fn command(token: &str) -> String {
    format!("/bin/echo {token} ${{SERVICE_RESULT}} ${{EXIT_CODE}} ${{EXIT_STATUS}}")
}

/// What it said.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct LastWord {
    /// How the program ended; `None` if it never began.
    pub status: Option<ExitStatus>,
    /// How many bytes at the end of the stream it is.
    pub len: usize,
}

/// Looks for it at the end of what was written.
pub(super) fn find(end: &[u8], token: &str) -> Option<LastWord> {
    let at = end.windows(token.len()).rposition(|it| it == token.as_bytes())?;
    let said = end.get(at + token.len()..)?;
    let line = said.split(|byte| *byte == b'\n').next().filter(|line| line.len() < said.len())?;
    let words: Vec<_> = str::from_utf8(line).ok()?.split_ascii_whitespace().collect();
    let status = match words[..] {
        // There was no process. (Whatever the result, it is not "success".)
        [_] => None,
        [_, code, status] => Some(status_of(code, status)?),
        _ => return None,
    };
    Some(LastWord { status, len: end.len() - at })
}

/// As waitpid(2) would have told it.
fn status_of(code: &str, status: &str) -> Option<ExitStatus> {
    const CORE_DUMPED: i32 = 0x80;
    match code {
        "exited" => Some(ExitStatus::from_raw(i32::from(status.parse::<u8>().ok()?) << 8)),
        "killed" => Some(ExitStatus::from_raw(signal(status))),
        "dumped" => Some(ExitStatus::from_raw(signal(status) | CORE_DUMPED)),
        _ => None,
    }
}

/// The number of a signal that systemd names without its `SIG`. Which one it was is only for people; that it was one is
/// not to be lost.
fn signal(name: &str) -> i32 {
    let named = [
        ("ABRT", Signal::ABORT),
        ("ALRM", Signal::ALARM),
        ("BUS", Signal::BUS),
        ("FPE", Signal::FPE),
        ("HUP", Signal::HUP),
        ("ILL", Signal::ILL),
        ("INT", Signal::INT),
        ("PIPE", Signal::PIPE),
        ("QUIT", Signal::QUIT),
        ("SEGV", Signal::SEGV),
        ("SYS", Signal::SYS),
        ("TERM", Signal::TERM),
        ("TRAP", Signal::TRAP),
        ("USR1", Signal::USR1),
        ("USR2", Signal::USR2),
        ("XCPU", Signal::XCPU),
        ("XFSZ", Signal::XFSZ),
    ];
    named.iter().find(|(word, _)| *word == name).map_or(Signal::KILL, |(_, signal)| *signal).as_raw()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const TOKEN: &str = "twinboot-program-health-10-app-77.1";

    fn told(end: &str) -> Option<String> {
        let word = find(end.as_bytes(), TOKEN)?;
        Some(word.status.map_or("never began".to_owned(), |status| status.to_string()))
    }

    #[test]
    fn the_last_word_is_read_as_waitpid_would_have_told_it() {
        for (said, status) in [
            ("success exited 0", "exit status: 0"),
            ("exit-code exited 75", "exit status: 75"),
            ("signal killed SEGV", "signal: 11 (SIGSEGV)"),
            ("core-dump dumped ABRT", "signal: 6 (SIGABRT) (core dumped)"),
            // What `systemd-run --wait` calls a success.
            ("success killed TERM", "signal: 15 (SIGTERM)"),
            ("oom-kill killed RTMIN+3", "signal: 9 (SIGKILL)"),
            ("resources", "never began"),
        ] {
            let end = format!("what it printed{TOKEN} {said}\n");
            assert_eq!(told(&end).as_deref(), Some(status), "{said}");
            let word = find(end.as_bytes(), TOKEN).unwrap();
            assert_eq!(&end[..end.len() - word.len], "what it printed");
        }
    }

    #[test]
    fn what_is_no_last_word_is_none() {
        let shown = command(TOKEN);
        for end in [
            "",
            "exit-code exited 0\n",
            // Not all of it yet.
            &format!("{TOKEN} success exited 0"),
            &format!("{TOKEN} success exi"),
            // Of another unit.
            "twinboot-program-health-10-app-77.2 success exited 0\n",
            // The program looked at its own unit.
            &format!("{{ path=/bin/echo ; argv[]={shown} ; ignore_errors=no }}\n"),
            &format!("{TOKEN}.service - twinboot: health 10-app\n"),
            &format!("{TOKEN}\n"),
            &format!("{TOKEN} success exited 256\n"),
            &format!("{TOKEN} success exited -1\n"),
            &format!("{TOKEN} success exited zero\n"),
        ] {
            assert_eq!(told(end), None, "{end}");
        }
    }
}
