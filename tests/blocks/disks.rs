//! Disks that note down what reaches them (`disks.c`, compiled by the system's C compiler), block devices of them, and
//! file systems on these.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

static PROGRAM: LazyLock<(TempDir, PathBuf)> = LazyLock::new(|| {
    let directory = tempfile::tempdir().expect("a directory for the disks' program");
    let program = directory.path().join("disks");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/blocks/disks.c");
    let mut compiler = Command::new("cc");
    compiler.args(["-std=gnu11", "-Wall", "-Wextra", "-O2", "-o"]).arg(&program).arg(source);
    assert!(compiler.status().is_ok_and(|status| status.success()), "cc cannot compile the disks");
    (directory, program)
});

/// Set in the process that has mounts of its own.
const APART: &str = "BLOCKS_APART";

/// How long a file system may be busy that nobody uses.
const BUSY: Duration = Duration::from_secs(30);

/// Runs the test `name` again in a namespace of mounts of its own: whatever ends it, nothing stays mounted. Whether this
/// is that process.
pub(super) fn is_apart(name: &str) -> bool {
    if std::env::var_os(APART).is_some() {
        return true;
    }
    // One after another: there are only so many loop devices.
    static ONE: Mutex<()> = Mutex::new(());
    let _alone = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut child = Command::new("unshare");
    child
        .args(["--mount", "--fork", "--kill-child=SIGKILL"])
        .arg(std::env::current_exe().expect("a test program"));
    child.args(["--exact", name, "--include-ignored", "--nocapture"]).env(APART, "1");
    let mut child = child.stdout(Stdio::piped()).spawn().expect("unshare is there");
    let mut has_passed = false;
    for line in BufReader::new(child.stdout.take().expect("it is piped")).lines().map_while(Result::ok) {
        has_passed |= line.contains("1 passed");
        // Its own summary would be counted as another test's.
        if !["", "running 1 test"].contains(&line.as_str()) && !line.starts_with("test ") {
            println!("{line}");
        }
    }
    let status = child.wait().expect("it is ours");
    assert!(status.success() && has_passed, "{name} failed in its own namespace of mounts");
    false
}

/// Runs a program that must succeed.
pub(super) fn run(program: &str, arguments: &[&str]) -> io::Result<()> {
    let output = Command::new(program).args(arguments).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("{program} {arguments:?}: {}", said.trim())))
}

/// Some disks with one log.
#[derive(Debug)]
pub(super) struct Disks {
    child: Child,
    commands: Mutex<(Option<ChildStdin>, BufReader<ChildStdout>)>,
    directory: TempDir,
    /// How far the log is, as it is seen from outside.
    log: PathBuf,
    control: File,
    stores: Vec<File>,
    sizes: Vec<u64>,
}

impl Disks {
    /// Disks of these sizes, full of zeros.
    pub(super) fn new(sizes: &[u64]) -> io::Result<Self> {
        let directory = tempfile::Builder::new().prefix("blocks-").tempdir()?;
        let mut command = Command::new(&PROGRAM.1);
        for (index, size) in sizes.iter().enumerate() {
            fs::write(directory.path().join(format!("disk{index}")), "")?;
            command.arg(format!("disk{index}={size}"));
        }
        command.current_dir(&directory).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let mut line = String::new();
        let mut answers = BufReader::new(child.stdout.take().expect("it is piped"));
        answers.read_line(&mut line)?;
        let (process, files) = line.trim().split_once(' ').unwrap_or_default();
        let files: Vec<_> =
            files.split(' ').map(|fd| PathBuf::from(format!("/proc/{process}/fd/{fd}"))).collect();
        let [log, control, stores @ ..] = files.as_slice() else {
            let _ = child.kill();
            return Err(io::Error::other("there are no disks: is this root, with /dev/fuse?"));
        };
        let open = |path: &PathBuf| OpenOptions::new().read(true).write(true).open(path);
        let (control, stores) = (open(control)?, stores.iter().map(open).collect::<io::Result<Vec<_>>>()?);
        let commands = Mutex::new((child.stdin.take(), answers));
        Ok(Self { child, commands, directory, log: log.clone(), control, stores, sizes: sizes.to_vec() })
    }

    /// Has something done to a device or a directory.
    fn command(&self, words: &[&str]) -> io::Result<()> {
        let mut commands = self.commands.lock().unwrap_or_else(PoisonError::into_inner);
        let (input, answers) = &mut *commands;
        let (text, mut answer) = (words.join(" "), String::new());
        input.as_mut().ok_or(io::ErrorKind::BrokenPipe)?.write_all(format!("{text}\n").as_bytes())?;
        answers.read_line(&mut answer)?;
        match answer.trim() {
            "0" => Ok(()),
            why => Err(io::Error::other(format!("{text}: {why}"))),
        }
    }

    /// What was changed behind the back of a device is read anew.
    pub(super) fn forget(&self, device: &Loop) -> io::Result<()> {
        self.command(&["forget", &device.path.to_string_lossy()])
    }

    /// Mounts an ext4 as a device's data partition is: with the kernel's own settings.
    pub(super) fn mount(&self, device: &Loop, at: &Path) -> io::Result<Mounted<'_>> {
        self.command(&["mount", &device.path.to_string_lossy(), &at.to_string_lossy()])?;
        Ok(Mounted { disks: self, at: at.to_owned() })
    }

    /// A disk as a file: what is written to it reaches the disk at once.
    pub(super) fn file(&self, disk: usize) -> PathBuf {
        self.directory.path().join(format!("disk{disk}"))
    }

    /// A directory of the host's, which no cut touches.
    pub(super) fn beside(&self) -> &Path {
        self.directory.path()
    }

    /// What a disk holds.
    pub(super) fn bytes(&self, disk: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; self.sizes[disk] as usize];
        self.stores[disk].read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }

    /// Has a disk hold something else, while nobody uses it.
    pub(super) fn fill(&self, disk: usize, bytes: &[u8]) -> io::Result<()> {
        self.stores[disk].write_all_at(bytes, 0)
    }

    /// Whether what comes is noted down.
    pub(super) fn note(&self, is_noted: bool) -> io::Result<()> {
        self.control.write_all_at(&u32::from(is_noted).to_ne_bytes(), 0)
    }

    /// So many writes that come next to a disk are said to be done, and are not.
    pub(super) fn lose(&self, disk: usize, writes: u32) -> io::Result<()> {
        self.control.write_all_at(&writes.to_ne_bytes(), 4 + 4 * disk as u64)
    }

    /// How far the log is, in bytes: whatever was answered by now is in it.
    pub(super) fn position(&self) -> io::Result<u64> {
        Ok(fs::metadata(&self.log)?.size())
    }

    /// All of the log.
    pub(super) fn log(&self) -> io::Result<Vec<u8>> {
        fs::read(&self.log)
    }
}

impl Drop for Disks {
    fn drop(&mut self) {
        drop(self.commands.get_mut().unwrap_or_else(PoisonError::into_inner).0.take());
        let _ = self.child.wait();
        for disk in 0..self.stores.len() {
            // At once, though the kernel may not be done with a device that was closed just now.
            let _ = run("umount", &["--lazy", &self.file(disk).to_string_lossy()]);
        }
    }
}

/// A block device made of a disk. Held open, so that it is gone with this process however that ends.
#[derive(Debug)]
pub(super) struct Loop {
    path: PathBuf,
    _open: File,
}

impl Loop {
    pub(super) fn new(disk: &Path) -> io::Result<Self> {
        let output = Command::new("losetup").args(["--find", "--show"]).arg(disk).output()?;
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).trim().to_owned();
        if !output.status.success() {
            return Err(io::Error::other(format!("losetup: {said}")));
        }
        let held = File::open(&said)?;
        // While it is open this means: once it is closed.
        run("losetup", &["--detach", &said])?;
        Ok(Self { path: said.into(), _open: held })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// A file system, mounted until this is dropped.
#[derive(Debug)]
pub(super) struct Mounted<'a> {
    disks: &'a Disks,
    at: PathBuf,
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        // A program that another thread starts has our open files until it is executed.
        let deadline = Instant::now() + BUSY;
        while let Err(error) = self.disks.command(&["umount", &self.at.to_string_lossy()]) {
            assert!(Instant::now() < deadline || thread::panicking(), "{error}");
            thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Makes an ext4 with a journal, of this block size. All of it at once: nothing is left for the kernel to do later.
pub(super) fn make_ext4(device: &Path, block: usize) -> io::Result<()> {
    let (block, device) = (block.to_string(), device.to_string_lossy());
    let at_once = "lazy_itable_init=0,lazy_journal_init=0,hash_seed=11111111-2222-3333-4444-555555555555";
    let uuid = "11111111-2222-3333-4444-666666666666";
    run("mke2fs", &["-q", "-t", "ext4", "-b", &block, "-U", uuid, "-E", at_once, &device])
}
