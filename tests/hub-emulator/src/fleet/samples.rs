//! Images to try a fleet with.

use crate::device::Recipe;

/// A sample image.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The name of its file.
    pub name: &'static str,
    /// The version that it holds.
    pub version: &'static str,
    /// What it is, in a few words.
    pub what: &'static str,
    /// Its bytes: a squashfs.
    pub bytes: Vec<u8>,
}

/// What devices leave the factory with, a good successor, one whose application is ill, and one that does not boot.
pub fn samples() -> Vec<Sample> {
    const KIB: usize = 1 << 10;
    let sample = |name, version, what, recipe: Recipe| Sample { name, version, what, bytes: recipe.make() };
    vec![
        sample(
            "gateway-1.0.0.squashfs",
            "1.0.0",
            "what devices begin with",
            Recipe::good("1.0.0", 128 * KIB),
        ),
        sample("gateway-2.0.0.squashfs", "2.0.0", "good", Recipe::good("2.0.0", 512 * KIB)),
        sample(
            "gateway-3.0.0-ill.squashfs",
            "3.0.0",
            "boots, and its application does not work: rolled back",
            Recipe::unhealthy("3.0.0", 256 * KIB),
        ),
        sample(
            "gateway-4.0.0-unbootable.squashfs",
            "4.0.0",
            "does not boot: the loader falls back",
            Recipe::unbootable("4.0.0", 256 * KIB),
        ),
    ]
}
