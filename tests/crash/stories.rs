//! What devices live through: who asks for what and when, and how it must end where nothing fails for good.

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use super::bundles::{self, Bundled};
use super::device::Image;
use super::hub;

/// Places in [`IMAGES`].
pub(super) const V1: usize = 0;
const V2: usize = 1;
const V3: usize = 2;
const SICK: usize = 3;
const DEAD: usize = 4;
const FACTORY: usize = 5;
const LONG: usize = 6;
const NEXT: usize = 7;

const KIB: usize = 1 << 10;

/// Whatever a slot may hold.
pub(super) static IMAGES: LazyLock<Vec<Image>> = LazyLock::new(|| {
    vec![
        Image::good("1.0.0", 100 * KIB),
        Image::good("2.0.0", 150 * KIB),
        Image::good("3.0.0", 90 * KIB + 100),
        Image::unhealthy("2.1.0", 70 * KIB),
        Image::unbootable("2.2.0", 70 * KIB),
        Image::good("0.9.0", 80 * KIB),
        Image::good("2.3.0", 448 * KIB),
        Image::good("4.0.0", 70 * KIB),
    ]
});

/// The files that are installed.
struct Files {
    directory: TempDir,
    bundled: Bundled,
}

static FILES: LazyLock<Files> = LazyLock::new(|| {
    let directory = tempfile::tempdir().expect("a directory for images");
    let write = |name: &str, bytes: &[u8]| {
        fs::write(directory.path().join(name), bytes).expect("an image is written");
    };
    for image in IMAGES.iter() {
        write(image.version, &image.bytes);
    }
    use std::io::Write as _;
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(&IMAGES[V2].bytes).expect("memory");
    write("2.0.0.gz", &packed.finish().expect("memory"));
    let bundled = Bundled::new();
    for (index, image) in [(1, V2), (2, NEXT)] {
        let image = &IMAGES[image];
        write(&format!("{}.twb", image.version), &bundled.bundle(image.version, index, &image.bytes));
    }
    Files { directory, bundled }
});

fn file(name: &str) -> PathBuf {
    FILES.directory.path().join(name)
}

/// The request to install a bundle: its signatures say what it must be.
fn install_bundle(name: &str, version: &str) -> Value {
    json!({"request": "install", "file": file(name), "version": version})
}

/// The request to install one of the files.
fn install(name: &str, version: &str) -> Value {
    let path = file(name);
    let bytes = fs::read(&path).expect("it was written");
    let sha256: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    json!({"request": "install", "file": path, "sha256": sha256, "version": version})
}

fn held(mut request: Value) -> Value {
    request["hold"] = true.into();
    request
}

fn plain(image: usize) -> Value {
    let version = IMAGES[image].version;
    install(version, version)
}

fn bare(request: &str) -> Value {
    json!({ "request": request })
}

/// Something that is asked for.
#[derive(Clone, Debug)]
pub(super) struct Step {
    /// In which phase.
    pub(super) when: &'static str,
    /// On the control socket.
    pub(super) request: Value,
    /// By the twin instead: which image.
    pub(super) twin: Option<usize>,
}

/// How it ends.
#[derive(Clone, Debug)]
pub(super) struct End {
    /// `succeeded`, `failed` or `rolled-back`.
    pub(super) outcome: &'static str,
    /// The failure's code; none if it is no failure.
    pub(super) code: Option<&'static str>,
    /// What runs then, by its place in the list.
    pub(super) runs: usize,
}

/// A story.
pub(super) struct Story {
    pub(super) name: &'static str,
    pub(super) config: String,
    /// Whether it needs a hub.
    pub(super) has_hub: bool,
    /// A root key, in PEM.
    pub(super) key: Option<String>,
    /// Chapters: each is over when what it asked for has had its end.
    pub(super) chapters: Vec<(Vec<Step>, End)>,
    /// What is asked for after all that, to see that nothing is in the way.
    pub(super) next: (Vec<Step>, End),
}

fn idle(request: Value) -> Step {
    Step { when: "idle", request, twin: None }
}

fn staged(request: Value) -> Step {
    Step { when: "staged", request, twin: None }
}

/// The same wish, by the twin.
fn by_twin(step: Step, image: usize) -> Step {
    Step { twin: Some(image), ..step }
}

fn good(runs: usize) -> End {
    End { outcome: "succeeded", code: None, runs }
}

fn story(name: &'static str, chapters: Vec<(Vec<Step>, End)>) -> Story {
    let next = (vec![idle(plain(NEXT))], good(NEXT));
    Story { name, config: String::new(), has_hub: false, key: None, chapters, next }
}

/// All of them.
pub(super) static STORIES: LazyLock<Vec<Story>> = LazyLock::new(|| {
    let gone = |outcome, code| End { outcome, code: Some(code), runs: V1 };
    let factory = format!(
        "[factory_reset]\nimage = '{}'\nsha256 = '{}'\nprogram = '@ROOT@/fresh'\ntimeout = '20s'\n",
        file("0.9.0").display(),
        plain(FACTORY)["sha256"].as_str().unwrap_or_default(),
    );
    vec![
        story("update", vec![(vec![idle(plain(V2))], good(V2))]),
        story("gzip", vec![(vec![idle(install("2.0.0.gz", "2.0.0"))], good(V2))]),
        story("unhealthy", vec![(vec![idle(plain(SICK))], gone("rolled-back", "health.failed"))]),
        story("dead", vec![(vec![idle(plain(DEAD))], gone("rolled-back", "boot.fallback"))]),
        story(
            "cancel",
            vec![(vec![idle(held(plain(V2))), staged(bare("cancel"))], gone("failed", "request.cancelled"))],
        ),
        Story {
            config: hub::REACHED.into(),
            has_hub: true,
            next: (vec![by_twin(idle(plain(NEXT)), NEXT)], good(NEXT)),
            ..story(
                "supersede",
                vec![(vec![by_twin(idle(held(plain(V2))), V2), by_twin(staged(plain(V3)), V3)], good(V3))],
            )
        },
        story("resume", vec![(vec![idle(plain(LONG))], good(LONG))]),
        story(
            "commit",
            vec![
                (vec![idle(held(plain(V2))), staged(bare("apply"))], good(V2)),
                (vec![idle(plain(V3))], good(V3)),
            ],
        ),
        story(
            "go-back",
            vec![
                (vec![idle(plain(V2))], good(V2)),
                (vec![idle(bare("rollback"))], End { outcome: "succeeded", code: None, runs: V1 }),
            ],
        ),
        Story {
            config: factory,
            ..story("factory-reset", vec![(vec![idle(bare("factory-reset"))], good(FACTORY))])
        },
        Story {
            config: bundles::TRUST.into(),
            key: Some(FILES.bundled.root()),
            next: (vec![idle(install_bundle("4.0.0.twb", "4.0.0"))], good(NEXT)),
            ..story("bundle", vec![(vec![idle(install_bundle("2.0.0.twb", "2.0.0"))], good(V2))])
        },
    ]
});
