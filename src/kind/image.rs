//! Our own image: the running executable and nothing else.
//!
//! A static executable is alone in it. A dynamic one brings the libraries that it is linked to, each at its path, as `ldd` tells them. The image is
//! named after its content, so nothing is built or loaded twice, and a changed program is never taken for the old one.

use std::{
    env, fs,
    io::{self, Read as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use sha2::{Digest as _, Sha256};

use super::{
    docker::{Docker, DockerServer},
    tool::{Missing, Tool, ToolError},
};

/// The label by which we know our images again.
pub const LABEL: &str = "dev.comeback.image=program";
/// How many images of earlier programs are kept on this machine, besides the present one.
const KEPT: usize = 2;
/// `ldd` only reads.
const LDD_DEADLINE: Duration = Duration::from_secs(20);

/// What is written into the image beside the files. `/tmp` is there for a program that wants one; on a file system that can only be read it is of
/// no use, and no harm.
const DOCKERFILE: &str = "FROM scratch\nCOPY root/ /\nUSER 10001:10001\nENTRYPOINT [\"/comeback\"]\n";

/// The image could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// A file could not be read or copied.
    #[error("could not {what} `{}` for our own image", path.display())]
    Io {
        /// What was being done.
        what: &'static str,
        /// To what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The nodes could not run this program.
    #[error(
        "this program is built for `linux/{ours}`, and docker runs `{os}/{arch}`: its nodes cannot run it (hint: `--image` names an image of \
         comeback for them)"
    )]
    Foreign {
        /// What this program is built for, in docker's words.
        ours: &'static str,
        /// What docker runs on.
        os: String,
        /// What docker runs on.
        arch: String,
    },
    /// The libraries of a dynamic executable cannot be found out.
    #[error("this program is linked to libraries, and {why} (hint: a static build needs none; or `--image` names an image of comeback)")]
    Libraries {
        /// Why not.
        why: String,
    },
    /// `ldd` is not there.
    #[error(transparent)]
    Missing(#[from] Missing),
    /// A command failed.
    #[error(transparent)]
    Tool(#[from] ToolError),
}

/// What goes into the image: where it lies here, where it lies there.
#[derive(Debug, PartialEq, Eq)]
struct Content {
    program: PathBuf,
    /// Each at the same path in the image.
    libraries: Vec<PathBuf>,
}

/// Refuses nodes that could not run this program.
pub fn check(server: &DockerServer) -> Result<(), ImageError> {
    let ours = match env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    if server.os == "linux" && server.arch == ours {
        return Ok(());
    }
    Err(ImageError::Foreign { ours, os: server.os.clone(), arch: server.arch.clone() })
}

/// Builds the image of this program, unless it is there already, and returns its name.
pub async fn build(docker: &Docker, program: &Path) -> Result<String, ImageError> {
    let content = content(program).await?;
    let image = name(&content)?;
    if !docker.has_image(&image).await? {
        let folder = Scratch::new()?;
        lay_out(&content, &folder.0)?;
        docker.build(&image, LABEL, &folder.0.display().to_string()).await?;
    }
    // Those of programs that are gone. That one cannot be removed hurts nobody.
    if let Ok(all) = docker.labelled(LABEL).await {
        for old in all.iter().filter(|name| **name != image).skip(KEPT) {
            let _ = docker.remove_image(old).await;
        }
    }
    Ok(image)
}

async fn content(program: &Path) -> Result<Content, ImageError> {
    let program = program.canonicalize().map_err(io_error("find", program))?;
    let libraries = if is_dynamic(&program)? {
        let ldd = Tool::find("ldd", "it comes with the C library; a static build of comeback needs none")?;
        let what = "find the libraries of our own program";
        libraries(&ldd.call(what, LDD_DEADLINE, [program.as_os_str()]).run().await?).map_err(|why| ImageError::Libraries { why })?
    } else {
        Vec::new()
    };
    Ok(Content { program, libraries })
}

/// Whether an executable asks for a loader (ELF's `PT_INTERP`), so that it cannot be alone.
fn is_dynamic(program: &Path) -> Result<bool, ImageError> {
    const HEADERS: u64 = 64 * 1024;
    let mut start = Vec::new();
    let file = fs::File::open(program).map_err(io_error("read", program))?;
    file.take(HEADERS).read_to_end(&mut start).map_err(io_error("read", program))?;
    has_loader(&start).ok_or_else(|| ImageError::Libraries { why: "it is no 64-bit ELF executable".to_owned() })
}

/// `None` for what is no 64-bit little-endian ELF file.
fn has_loader(start: &[u8]) -> Option<bool> {
    const PT_INTERP: u32 = 3;
    if !start.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let number = |at: usize, width: usize| {
        let bytes = start.get(at..at.checked_add(width)?)?;
        Some(bytes.iter().rev().fold(0_u64, |number, byte| number << 8 | u64::from(*byte)))
    };
    let headers = usize::try_from(number(32, 8)?).ok()?;
    let (size, count) = (usize::try_from(number(54, 2)?).ok()?, usize::try_from(number(56, 2)?).ok()?);
    let mut found = false;
    for n in 0..count {
        found |= number(headers.checked_add(n * size)?, 4)? == u64::from(PT_INTERP);
    }
    Some(found)
}

/// The files in the answer of `ldd`: `libc.so.6 => /lib/…/libc.so.6 (0x…)`, `/lib64/ld-linux-x86-64.so.2 (0x…)`.
fn libraries(answer: &str) -> Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    for line in answer.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let path = line.split_once(" => ").map_or(line, |(_, path)| path);
        if path == "not found" {
            return Err(format!("`ldd` says: {line}"));
        }
        let path = path.split(" (").next().unwrap_or_default();
        // The kernel's own (`linux-vdso.so.1`) is no file.
        if path.starts_with('/') {
            found.push(PathBuf::from(path));
        }
    }
    found.sort();
    found.dedup();
    if found.is_empty() { Err("`ldd` names none".to_owned()) } else { Ok(found) }
}

/// The name of an image with this content.
fn name(content: &Content) -> Result<String, ImageError> {
    let mut hash = Sha256::new();
    hash.update(DOCKERFILE);
    for file in std::iter::once(&content.program).chain(&content.libraries) {
        // The program has the same place in the image wherever it lies here.
        let place = if *file == content.program { Path::new("/comeback") } else { file };
        hash.update(place.as_os_str().as_encoded_bytes());
        hash.update([0]);
        let mut opened = fs::File::open(file).map_err(io_error("read", file))?;
        io::copy(&mut opened, &mut HashWriter(&mut hash)).map_err(io_error("read", file))?;
    }
    let hash = hash.finalize().iter().take(6).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    Ok(format!("comeback:{}-{hash:012x}", env!("CARGO_PKG_VERSION")))
}

struct HashWriter<'a>(&'a mut Sha256);

impl io::Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Lays out what the build needs.
fn lay_out(content: &Content, folder: &Path) -> Result<(), ImageError> {
    let dockerfile = folder.join("Dockerfile");
    fs::write(&dockerfile, DOCKERFILE).map_err(io_error("write", &dockerfile))?;
    let root = folder.join("root");
    let tmp = root.join("tmp");
    fs::create_dir_all(&tmp).map_err(io_error("make", &tmp))?;
    fs::set_permissions(&tmp, fs::Permissions::from_mode(0o1777)).map_err(io_error("set the permissions of", &tmp))?;
    let place = |file: &Path, at: &Path| {
        let to = root.join(at.strip_prefix("/").expect("paths in the image begin at its root"));
        let parent = to.parent().expect("it is below the root");
        fs::create_dir_all(parent).map_err(io_error("make", parent))?;
        fs::copy(file, &to).map_err(io_error("copy", file))?;
        fs::set_permissions(&to, fs::Permissions::from_mode(0o755)).map_err(io_error("set the permissions of", &to))
    };
    place(&content.program, Path::new("/comeback"))?;
    content.libraries.iter().try_for_each(|library| place(library, library))
}

fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ImageError {
    let path = path.to_owned();
    move |source| ImageError::Io { what, path, source }
}

/// A folder that goes away.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self, ImageError> {
        let path = env::temp_dir().join(format!("comeback-image-{}", uuid::Uuid::new_v4().simple()));
        fs::create_dir(&path).map_err(io_error("make", &path))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays is in the folder for what may go.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const LDD: &str = "\tlinux-vdso.so.1 (0x00007ffe)\n\tlibgcc_s.so.1 => /lib/x86_64-linux-gnu/libgcc_s.so.1 (0x00007f)\n\
                       \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";

    #[test]
    fn the_libraries_are_the_files_that_ldd_names() {
        let expected = ["/lib/x86_64-linux-gnu/libc.so.6", "/lib/x86_64-linux-gnu/libgcc_s.so.1", "/lib64/ld-linux-x86-64.so.2"];
        assert_eq!(libraries(LDD).unwrap(), expected.map(PathBuf::from));
    }

    #[rstest]
    #[case::one_that_is_missing("\tlibx.so => not found\n", "libx.so")]
    #[case::nothing_at_all("\tstatically linked\n", "names none")]
    fn what_cannot_run_is_not_built(#[case] answer: &str, #[case] expected: &str) {
        let error = libraries(answer).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn a_loader_is_found_in_the_headers() {
        let header = |kinds: &[u32]| {
            let mut file = b"\x7fELF\x02\x01".to_vec();
            file.resize(64, 0);
            file[32] = 64;
            file[54] = 56;
            file[56] = u8::try_from(kinds.len()).unwrap();
            for kind in kinds {
                let mut entry = kind.to_le_bytes().to_vec();
                entry.resize(56, 0);
                file.extend(entry);
            }
            file
        };
        assert_eq!(has_loader(&header(&[6, 3, 1])), Some(true));
        assert_eq!(has_loader(&header(&[6, 1, 2])), Some(false));
        assert_eq!(has_loader(&header(&[6, 1])[..100]), None, "cut off");
        assert_eq!(has_loader(b"#!/bin/sh"), None);
    }

    #[tokio::test]
    async fn the_image_is_named_after_what_is_in_it_and_holds_it() {
        let place = tempfile::tempdir().unwrap();
        let content = |text: &str| {
            let program = place.path().join("comeback");
            fs::write(&program, text).unwrap();
            Content { program, libraries: Vec::new() }
        };
        let (one, other) = (name(&content("one")).unwrap(), name(&content("other")).unwrap());
        assert_ne!(one, other);
        assert_eq!(one, name(&content("one")).unwrap());
        assert!(one.starts_with(concat!("comeback:", env!("CARGO_PKG_VERSION"), "-")), "{one}");

        let own = super::content(&env::current_exe().unwrap()).await.unwrap();
        let folder = Scratch::new().unwrap();
        lay_out(&own, &folder.0).unwrap();
        let program = folder.0.join("root/comeback");
        assert_eq!(program.metadata().unwrap().permissions().mode() & 0o7777, 0o755);
        for library in &own.libraries {
            assert!(folder.0.join("root").join(library.strip_prefix("/").unwrap()).is_file(), "{}", library.display());
        }
        let path = folder.0.clone();
        drop(folder);
        assert!(!path.exists());
    }

    #[test]
    fn nodes_of_another_kind_are_refused() {
        let server = |os: &str, arch: &str| DockerServer { os: os.into(), arch: arch.into(), version: "28".into() };
        let ours = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
        check(&server("linux", ours)).unwrap();
        let error = check(&server("windows", ours)).unwrap_err().to_string();
        assert!(error.contains("--image"), "{error}");
        assert!(check(&server("linux", "s390x")).is_err());
    }
}
