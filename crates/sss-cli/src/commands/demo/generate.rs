//! A tree of files that depends on nothing but a seed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Error, Exit};
use crate::interrupt;
use crate::transfer::io_pool;

/// Files in the tree.
const FILES: usize = 400;
/// Bytes in all.
const TOTAL: u64 = 64 << 20;
/// Bytes of the largest file.
const LARGEST: u64 = 8 << 20;
/// Directories that the files are spread over.
const DIRECTORIES: usize = 20;

/// A generated file.
#[derive(Clone, Debug)]
pub(crate) struct Generated {
    path: String,
    size: u64,
    hash: blake3::Hash,
}

/// A generated tree.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    pub(crate) files: Vec<Generated>,
}

impl Tree {
    /// Writes the tree of a seed to `dir`, which is made.
    pub(crate) fn generate(dir: &Path, seed: u64) -> io::Result<Self> {
        let mut files = Vec::with_capacity(FILES);
        fs::create_dir(dir)?;
        for (number, size) in sizes(seed).into_iter().enumerate() {
            let path = format!(
                "d{:02}/{}file-{number:03}",
                number % DIRECTORIES,
                if number % 3 == 0 { "deep/" } else { "" }
            );
            let to = dir.join(&path);
            if interrupt::is_requested() {
                return Err(io::ErrorKind::Interrupted.into());
            }
            make_directories(dir, &path)?;
            let content = content(seed, number as u64, size);
            fs::write(&to, &content)?;
            let hash = blake3::hash(&content);
            files.push(Generated { path, size, hash });
        }
        Ok(Self { files })
    }

    /// The sum of all sizes.
    pub(crate) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }

    /// The largest size.
    pub(crate) fn largest(&self) -> u64 {
        self.files.iter().map(|file| file.size).max().unwrap_or(0)
    }

    /// Reads the copy and compares it with what was generated.
    ///
    /// # Errors
    /// Names the first file that differs.
    pub(crate) async fn compare(&self, copy: PathBuf) -> Result<(), Error> {
        let files = self.files.clone();
        io_pool::run(move || files.iter().try_for_each(|file| file.compare(&copy))).await
    }
}

/// Makes the directories above a path below `dir`, but not `dir`: it may have been removed meanwhile, by whoever was
/// interrupted.
fn make_directories(dir: &Path, path: &str) -> io::Result<()> {
    for (slash, _) in path.match_indices('/') {
        match fs::create_dir(dir.join(path.get(..slash).unwrap_or_default())) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

impl Generated {
    fn compare(&self, copy: &Path) -> Result<(), Error> {
        let path = copy.join(&self.path);
        let content = fs::read(&path).map_err(|error| Error::local(&path, "read", &error))?;
        if blake3::hash(&content) == self.hash {
            return Ok(());
        }
        let what = format!("{} is not what was generated", self.path);
        Err(Error::new(
            Exit::Corrupt,
            what,
            "report this as a defect, with the seed",
        ))
    }
}

/// Sizes from nothing to the largest, few of them large, with the same sum for every seed.
fn sizes(seed: u64) -> Vec<u64> {
    let mut numbers = blake3::Hasher::new();
    let mut numbers = numbers.update(b"sizes").update(&seed.to_be_bytes()).finalize_xof();
    let mut sizes = vec![0, LARGEST, LARGEST / 2];
    let mut left = TOTAL.saturating_sub(sizes.iter().sum());
    let weights: Vec<u64> = (sizes.len()..FILES)
        .map(|_| {
            let mut bytes = [0; 2];
            numbers.fill(&mut bytes);
            // Each of twelve magnitudes is as likely as the others.
            let [magnitude, fraction] = bytes;
            (256 + u64::from(fraction)) << (magnitude % 12)
        })
        .collect();
    let sum: u64 = weights.iter().sum();
    let share = left / sum.max(1);
    for weight in &weights {
        sizes.push(weight.saturating_mul(share).min(LARGEST));
    }
    left = TOTAL.saturating_sub(sizes.iter().sum());
    for size in sizes.iter_mut().skip(3) {
        let more = left.min(LARGEST.saturating_sub(*size)).min(1 << 20);
        *size = size.saturating_add(more);
        left = left.saturating_sub(more);
    }
    sizes
}

fn content(seed: u64, number: u64, size: u64) -> Vec<u8> {
    let mut content = vec![0; usize::try_from(size).unwrap_or(0)];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_be_bytes()).update(&number.to_be_bytes());
    hasher.finalize_xof().fill(&mut content);
    content
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees_have_the_promised_sizes() {
        for seed in 0..50 {
            let sizes = sizes(seed);
            assert_eq!(sizes.len(), FILES, "seed {seed}");
            assert_eq!(sizes.iter().sum::<u64>(), TOTAL, "seed {seed}");
            assert_eq!(sizes.iter().max(), Some(&LARGEST), "seed {seed}");
            assert!(sizes.contains(&0), "seed {seed}");
            assert!(sizes.iter().filter(|s| **s < 64 << 10).count() > 50, "seed {seed}");
        }
    }

    #[test]
    fn content_depends_on_seed_and_file_only() {
        assert_eq!(content(1, 2, 100), content(1, 2, 100));
        assert_ne!(content(1, 2, 100), content(1, 3, 100));
        assert_ne!(content(1, 2, 100), content(2, 2, 100));
    }
}
