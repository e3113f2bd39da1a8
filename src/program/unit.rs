//! One program in a transient unit of its own, from its start to its last process's end.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use tokio::net::unix::pipe;

use super::ending::{self, LastWord};
use super::group::Group;
use super::manager::Manager;
use super::output::Output;
use super::{Keep, NotRun, PATH, Ran, Task};

/// Beyond the program's own time, before the service manager ends it by itself: for when nobody else does.
const BACKSTOP: Duration = Duration::from_secs(30);

/// How long the service manager may take to stop a unit, beyond what the program is given.
const STOPPING: Duration = Duration::from_secs(10);

/// How long we wait for the service manager to take the order to kill, when nobody waits for the program any more.
const KILLING: Duration = Duration::from_secs(1);

/// What systemd says when it could not even begin the program: exit statuses 200 to 245 (systemd.exec(5)).
const COULD_NOT_EXECUTE: i32 = 203;
const LAST_OF_ITS_OWN: i32 = 245;

/// A transient unit, its pipes, and what came out of them. When it is dropped, all of it is gone.
pub(super) struct Unit<'a> {
    manager: &'a Manager,
    /// Without `.service`; it is also the token of its last word.
    name: String,
    /// Ours: the named pipes, and the input.
    directory: PathBuf,
    /// Standard output, and standard error with it if no answer is to be kept. The last word comes here.
    output: Output,
    /// Standard error, if it is kept apart.
    words: Output,
    last_word: Option<LastWord>,
    /// `systemd-run`, until it has ended.
    starter: Option<Group>,
    state: State,
}

/// Whether something may be running.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    /// The service manager was not asked yet.
    Unasked,
    /// It was.
    Asked,
    /// It said that all is over, or that it never began.
    Over,
}

impl<'a> Unit<'a> {
    /// Its pipes are made; nothing runs yet.
    ///
    /// # Errors
    /// If they cannot be made, or the program's name is one that the service manager would change.
    pub(super) fn new(manager: &'a Manager, task: &Task<'_>) -> Result<Self, NotRun> {
        let never = |error: io::Error| NotRun::Never(error.to_string());
        if !is_plain(task.path) {
            let why = "its name, or that of its directory, has a '$', a '%' or what is no text: rename it";
            return Err(NotRun::Never(why.into()));
        }
        let name = manager.name(task);
        let directory = manager.directory.join(&name);
        let new = |mut unit: Self| -> io::Result<Self> {
            // 0700: what a program writes, and is told, is nobody else's business.
            DirBuilder::new().mode(0o700).recursive(true).create(&unit.directory)?;
            let most = if let Keep::Answer(most) = task.keep { most } else { 0 };
            unit.output = Output::of(fifo(&unit.file("out"))?, most);
            if matches!(task.keep, Keep::Answer(_)) {
                unit.words = Output::of(fifo(&unit.file("err"))?, 0);
            }
            if let Some(input) = task.input {
                let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(unit.file("in"));
                file?.write_all(input)?;
            }
            Ok(unit)
        };
        let (output, words) = (Output::none(), Output::none());
        new(Self {
            manager,
            name,
            directory,
            output,
            words,
            last_word: None,
            starter: None,
            state: State::Unasked,
        })
        .map_err(never)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn service(&self) -> String {
        format!("{}.service", self.name)
    }

    /// Has the program run, to its end or to the end of its time.
    pub(super) async fn run(&mut self, task: &Task<'_>) -> Result<Ran, NotRun> {
        let starter = Group::start(self.command(task), None, Keep::Tail)
            .map_err(|error| NotRun::Never(format!("systemd-run cannot be run: {error}")))?;
        (self.starter, self.state) = (Some(starter), State::Asked);
        let in_time = tokio::time::timeout(task.limit, self.ended()).await;
        if let Ok(Err(why)) = in_time {
            return Err(why);
        }
        if in_time.is_err() {
            self.stop(task.grace).await;
        }
        self.words.drain();
        let last_word = self.last_word.take();
        self.output.cut(last_word.map_or(0, |word| word.len));
        let status = last_word.and_then(|word| word.status).filter(|_| in_time.is_ok());
        let (tail, answer) = match task.keep {
            Keep::Tail => (self.output.tail(), Some(Vec::new())),
            Keep::Answer(_) => (self.words.tail(), self.output.whole().map(<[u8]>::to_vec)),
        };
        Ok(Ran { status, tail, answer })
    }

    /// The whole command of `systemd-run`.
    fn command(&self, task: &Task<'_>) -> Command {
        let mut command = self.manager.starter();
        // Collected: a unit that failed is not kept for anybody to look at. exec: it has started when the program has.
        command.args(["--quiet", "--no-ask-password", "--collect", "--service-type=exec"]);
        command.arg(format!("--unit={}", self.service()));
        command.arg(format!("--description=twinboot: {} {}", task.purpose.word(), task.name));
        let path = |name: &str| format!("file:{}", self.file(name).display());
        let input = if task.input.is_some() { path("in") } else { "null".into() };
        let words = if task.keep == Keep::Tail { "inherit".into() } else { path("err") };
        let limit = task.limit + task.grace + BACKSTOP;
        for property in [
            format!("StandardInput={input}"),
            format!("StandardOutput={}", path("out")),
            format!("StandardError={words}"),
            format!("ExecStopPost={}", ending::command(&self.name)),
            // All that it started ends with it.
            "KillMode=control-group".into(),
            format!("TimeoutStopSec={}ms", task.grace.as_millis()),
            format!("RuntimeMaxSec={}ms", limit.as_millis()),
            // As for any program that is not a service.
            "IgnoreSIGPIPE=no".into(),
            // What happens is told by us; else each question would be three lines of the journal.
            "LogLevelMax=crit".into(),
        ] {
            command.arg(format!("--property={property}"));
        }
        if let Some(ours) = &self.manager.ours {
            // What is ordered before is stopped after: when the machine goes down, we stop listening before the program
            // is ended, and do not take that for its verdict.
            command.arg(format!("--property=Before={ours}"));
        }
        command.arg(format!("--setenv=PATH={PATH}"));
        command.args(task.environment.iter().map(|(name, value)| format!("--setenv={name}={value}")));
        command.arg("--").arg(task.path).args(task.arguments);
        command
    }

    /// Waits for the last word. May be dropped and called again.
    async fn ended(&mut self) -> Result<(), NotRun> {
        while self.last_word.is_none() {
            let started = async {
                match &mut self.starter {
                    Some(starter) => starter.exited().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.output.read() => self.listen(),
                () = self.words.read() => {}
                () = started => self.started()?,
            }
        }
        self.state = State::Over;
        match (self.last_word.and_then(|word| word.status), &mut self.starter) {
            (Some(_), None) => Ok(()),
            // The word may have been faster than the starter, who knows whether the program itself has begun.
            (Some(status), Some(starter)) => {
                let failed = starter.exited_within(STOPPING).await
                    && starter.finish().is_some_and(|status| !status.success());
                self.starter = None;
                never_began(status.code()).filter(|_| failed).map_or(Ok(()), Err)
            }
            (None, _) => Err(NotRun::NotNow("the service manager could not set up its unit".into())),
        }
    }

    /// `systemd-run` has ended: the program runs, or it never will.
    fn started(&mut self) -> Result<(), NotRun> {
        let Some(mut starter) = self.starter.take() else { return Ok(()) };
        if starter.finish().is_some_and(|status| status.success()) {
            return Ok(());
        }
        self.output.drain();
        self.listen();
        let Some(word) = self.last_word else {
            // There is no unit.
            self.state = State::Over;
            return Err(NotRun::NotNow(starter.tail()));
        };
        never_began(word.status.and_then(|status| status.code())).map_or(Ok(()), Err)
    }

    fn listen(&mut self) {
        self.last_word = ending::find(self.output.end(), &self.name);
    }

    /// Has the service manager end it: by a signal, and when its grace is over by force.
    async fn stop(&mut self, grace: Duration) {
        let limit = grace + STOPPING;
        // What has not been asked for yet is not to be.
        self.starter = None;
        // Whatever it writes meanwhile is read, or it might not end.
        let (manager, service) = (self.manager, self.service());
        let order = ["stop", service.as_str()];
        let stopped = manager.ask(&order, limit);
        let read = async {
            loop {
                tokio::select! {
                    () = self.output.read() => {}
                    () = self.words.read() => {}
                }
            }
        };
        let stopped = tokio::select! {
            stopped = stopped => stopped,
            never = read => never,
        };
        match stopped {
            Ok(()) => self.state = State::Over,
            Err(why) => tracing::warn!(service, why, "a program that took too long could not be stopped"),
        }
        self.output.drain();
        self.listen();
    }

    /// Kills all that may be running of it, and waits until the service manager has taken that order.
    fn kill(&mut self) {
        // Before it asks for what is to be killed.
        self.starter = None;
        let arguments = ["kill", "--signal=SIGKILL", &self.service()];
        let until = Instant::now() + KILLING;
        while Instant::now() < until {
            let mut command = self.manager.systemctl(&arguments);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let ended = command.spawn().ok().and_then(|child| wait_until(child, until));
            // The signal that the service manager ends us with goes to all of our processes, this one included: then
            // nobody has been asked yet.
            if ended.is_none_or(|status| status.code().is_some()) {
                return;
            }
        }
    }
}

impl Drop for Unit<'_> {
    fn drop(&mut self) {
        if self.state == State::Asked {
            self.kill();
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// The reason not to have run, if `code` is systemd's own and not the program's.
fn never_began(code: Option<i32>) -> Option<NotRun> {
    match code? {
        COULD_NOT_EXECUTE => {
            let why = "the kernel does not take it for a program, or what its first line names is missing";
            Some(NotRun::Never(why.into()))
        }
        code @ 200..=LAST_OF_ITS_OWN => {
            let why =
                format!("the service manager could not set it up (exit status {code} of systemd.exec(5))");
            Some(NotRun::Never(why))
        }
        _ => None,
    }
}

/// Whether systemd takes the path as it is: `$` and `%` have meanings to it.
fn is_plain(path: &Path) -> bool {
    path.to_str().is_some_and(|path| !path.contains(['$', '%', '\n']))
}

/// A new named pipe, to be read by us. We hold its writing end, too: it has an end when the service manager says so,
/// and not between two processes that write to it.
fn fifo(path: &Path) -> io::Result<pipe::Receiver> {
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
    pipe::OpenOptions::new().read_write(true).open_receiver(path)
}

/// Waits for a child's end, here up to `until` and elsewhere for as long as it takes: somebody must.
fn wait_until(mut child: Child, until: Instant) -> Option<ExitStatus> {
    while Instant::now() < until {
        match child.try_wait() {
            Ok(None) => std::thread::sleep(Duration::from_millis(5)),
            Ok(Some(status)) => return Some(status),
            Err(_) => return None,
        }
    }
    // Without a thread it stays a zombie until we exit, which is harmless.
    let _ = std::thread::Builder::new().name("reaper".into()).spawn(move || child.wait());
    None
}
