//! `cargo xtask dist …`: what is shipped, made the same way here and in the release workflow.
//!
//! Every artefact is one module with one function `make`. They take what to pack from [`Release`],
//! write under its output folder, and are reproducible: the same commit gives the same bytes, with
//! all times set to the commit's.

use std::{
    env,
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, UNIX_EPOCH},
};

use anyhow::{Context as _, ensure};
use clap::{Args, ValueEnum};

mod archive;
mod build;
mod checksums;
mod deb;
mod documents;
mod image;
mod linux;
mod manifests;
mod mcpb;
mod msi;
mod npm;
mod pkg;
mod pypi;
mod registry;
mod rpm;
mod sbom;
mod scripts;
mod sign;
mod target;

pub(crate) use target::Target;

/// Where the source, the releases and the issues are.
const REPOSITORY: &str = env!("CARGO_PKG_REPOSITORY");

/// Makes what is shipped, for one platform.
#[derive(Debug, Args)]
pub(crate) struct Dist {
    /// What to make; `all` is everything that the platform has
    #[arg(required = true, value_enum)]
    artefacts: Vec<Artefact>,
    /// The platform that it is for
    #[arg(long, value_enum, default_value_t = Target::host())]
    target: Target,
    /// The profile to build with; `release` is quicker to build, and what is shipped is `dist`
    #[arg(long, default_value = "dist")]
    profile: String,
    /// A folder with the two programs, built before, instead of building them
    #[arg(long, value_name = "FOLDER")]
    binaries: Option<PathBuf>,
    /// A folder with the two programs for this machine, built before: they write the manual pages of a
    /// platform whose programs do not run here
    #[arg(long, value_name = "FOLDER")]
    host_binaries: Option<PathBuf>,
    /// Where everything goes
    #[arg(long, value_name = "FOLDER", default_value = "target/dist")]
    output: PathBuf,
    /// Which packaging of this version it is, for package managers
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    revision: u32,
}

/// One kind of thing that is shipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Artefact {
    /// Everything that the platform has
    All,
    /// The two programs by themselves
    Binaries,
    /// The programs, manual pages and completions: .tar.gz, for Windows .zip
    Archive,
    /// A package for Debian, Ubuntu and their kin
    Deb,
    /// A package for Fedora, RHEL, openSUSE and their kin
    Rpm,
    /// A container image for Docker, Podman and Kubernetes: an OCI image layout in a .tar
    Image,
    /// An installer for one user of Windows
    Msi,
    /// An installer for macOS; can be made there only
    Pkg,
    /// The calculator as a bundle for Claude Desktop
    Mcpb,
    /// Packages for npm, with which `npx` starts the programs
    Npm,
    /// Wheels for PyPI, with which `uvx` and `pipx` start the programs
    Pypi,
    /// install.sh and install.ps1, which download the archive
    Scripts,
    /// What the programs are made of, for both one list in the form of CycloneDX
    Sbom,
    /// What package managers and the registry of MCP servers want to know of a release: for Homebrew, winget,
    /// Scoop, and server.json. After everything else, of what is in the output folder
    Manifests,
    /// SHA256SUMS of all that is in the output folder
    Checksums,
}

impl Artefact {
    /// Each of `asked` once, with all that `all` means for `target` in its place.
    fn each(asked: &[Self], target: Target) -> Vec<Self> {
        let mut each = Vec::new();
        for &one in asked {
            let those = if one == Self::All { Self::all(target) } else { vec![one] };
            for one in those {
                if !each.contains(&one) {
                    each.push(one);
                }
            }
        }
        each
    }

    /// Whether it can be made without the programs.
    fn needs_no_programs(self) -> bool {
        matches!(self, Self::Sbom | Self::Manifests | Self::Checksums)
    }

    /// Whether it can be made for `target`, on this machine.
    fn check(self, target: Target) -> anyhow::Result<()> {
        match self {
            Self::Deb => deb::architecture(target).map(drop),
            Self::Rpm => rpm::architecture(target).map(drop),
            Self::Image => image::architecture(target).map(drop),
            Self::Msi => msi::check(target),
            Self::Pkg => pkg::check(target),
            _ => Ok(()),
        }
    }

    fn all(target: Target) -> Vec<Self> {
        let mut all = vec![Self::Archive, Self::Mcpb, Self::Npm, Self::Pypi, Self::Scripts, Self::Sbom];
        match target {
            Target::LinuxX64 | Target::LinuxArm64 => all.extend([Self::Deb, Self::Rpm, Self::Image]),
            Target::WindowsX64 => all.push(Self::Msi),
            Target::Macos => all.push(Self::Pkg),
            Target::WindowsArm64 => {}
        }
        all
    }
}

impl Dist {
    /// Makes everything that was asked for, and prints the path of each file.
    pub(crate) fn make(&self) -> anyhow::Result<()> {
        let artefacts = Artefact::each(&self.artefacts, self.target);
        // Before minutes of building.
        for artefact in &artefacts {
            artefact.check(self.target)?;
        }
        let (mut others, packed): (Vec<_>, Vec<_>) =
            artefacts.into_iter().partition(|artefact| artefact.needs_no_programs());
        let mut made = Vec::new();
        if !packed.is_empty() {
            made.extend(self.pack(packed)?);
        }
        // Manifests are about what was made before them, and checksums about everything.
        others.sort_by_key(|artefact| (*artefact == Artefact::Checksums, *artefact == Artefact::Manifests));
        let root = root()?;
        let output = root.join(&self.output);
        for artefact in others {
            made.extend(match artefact {
                Artefact::Sbom => sbom::make(&root, self.target, epoch(&root)?, &output)?,
                Artefact::Manifests => manifests::make(&root, &output)?,
                _ => checksums::make(&output)?,
            });
        }
        print(&made)
    }

    /// Builds the programs, unless they are there, and packs them.
    fn pack(&self, artefacts: Vec<Artefact>) -> anyhow::Result<Vec<PathBuf>> {
        let release = Release::plan(self)?;
        let mut made = Vec::new();
        for artefact in artefacts {
            made.extend(match artefact {
                Artefact::Binaries => release.binaries.all().map(Path::to_path_buf).to_vec(),
                Artefact::Archive => archive::make(&release)?,
                Artefact::Deb => deb::make(&release)?,
                Artefact::Rpm => rpm::make(&release)?,
                Artefact::Image => image::make(&release)?,
                Artefact::Msi => msi::make(&release)?,
                Artefact::Pkg => pkg::make(&release)?,
                Artefact::Mcpb => mcpb::make(&release)?,
                Artefact::Npm => npm::make(&release)?,
                Artefact::Pypi => pypi::make(&release)?,
                Artefact::Scripts => scripts::make(&release)?,
                Artefact::All | Artefact::Sbom | Artefact::Manifests | Artefact::Checksums => Vec::new(),
            });
        }
        Ok(made)
    }
}

fn print(paths: &[PathBuf]) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    for path in paths {
        writeln!(out, "{}", path.display())?;
    }
    Ok(())
}

/// The repository.
fn root() -> anyhow::Result<PathBuf> {
    Ok(Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the repository has no folder")?.to_path_buf())
}

/// What is packed, for one platform, from one commit.
#[derive(Debug)]
pub(crate) struct Release {
    /// The repository.
    pub(crate) root: PathBuf,
    /// The one version of everything, from the workspace's `Cargo.toml`.
    pub(crate) version: String,
    pub(crate) target: Target,
    pub(crate) binaries: Binaries,
    /// Seconds since 1970 that every packed file carries: `SOURCE_DATE_EPOCH`, or the commit's time.
    pub(crate) epoch: u64,
    /// Where finished files go.
    pub(crate) output: PathBuf,
    /// Which packaging of the version this is.
    pub(crate) revision: u32,
    profile: String,
    /// Where programs are that run on this machine, if that is known.
    host_binaries: Option<PathBuf>,
}

/// The two programs, built for the platform of the release.
#[derive(Debug)]
pub(crate) struct Binaries {
    pub(crate) bridge: PathBuf,
    pub(crate) calculator: PathBuf,
}

impl Binaries {
    pub(crate) fn all(&self) -> [&Path; 2] {
        [&self.bridge, &self.calculator]
    }

    fn within(folder: &Path, target: Target) -> anyhow::Result<Self> {
        let find = |name: &str| {
            let path = folder.join(target.executable(name));
            ensure!(
                path.is_file(),
                "{} is missing; --binaries and --host-binaries name a folder with both programs",
                path.display()
            );
            Ok(path)
        };
        Ok(Self { bridge: find("mcp-bridge")?, calculator: find("mcp-calculator")? })
    }
}

impl Release {
    fn plan(dist: &Dist) -> anyhow::Result<Self> {
        let root = root()?;
        let epoch = epoch(&root)?;
        let folder = match &dist.binaries {
            Some(folder) => folder.clone(),
            None => build::build(&root, dist.target, &dist.profile)?,
        };
        let output = root.join(&dist.output);
        fs::create_dir_all(&output).with_context(|| format!("cannot make {}", output.display()))?;
        Ok(Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            target: dist.target,
            binaries: sign::programs(&root, dist.target, Binaries::within(&folder, dist.target)?)?,
            epoch,
            output,
            revision: dist.revision,
            profile: dist.profile.clone(),
            host_binaries: dist.host_binaries.clone(),
            root,
        })
    }

    /// A file of the repository.
    pub(crate) fn read(&self, path: &str) -> anyhow::Result<Vec<u8>> {
        read(&self.root.join(path))
    }

    /// A text of the repository.
    pub(crate) fn read_text(&self, path: &str) -> anyhow::Result<String> {
        String::from_utf8(self.read(path)?).with_context(|| format!("{path} is not in UTF-8"))
    }

    /// An empty folder of this release to put things together in, under `target/`.
    pub(crate) fn scratch(&self, name: &str) -> anyhow::Result<PathBuf> {
        let folder = self.root.join("target").join("dist-work").join(format!("{name}-{}", self.target));
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot empty {}", folder.display()));
            }
            _ => {}
        }
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(folder)
    }
}

fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}

/// Writes a file, and the folders that it is in, with the time of the release; on Unix with `mode`.
pub(crate) fn put(path: &Path, content: &[u8], mode: u32, epoch: u64) -> anyhow::Result<()> {
    let write = || {
        fs::create_dir_all(path.parent().unwrap_or(path))?;
        fs::write(path, content)?;
        #[cfg(unix)]
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode))?;
        #[cfg(not(unix))]
        let _ = mode;
        File::options().write(true).open(path)?.set_modified(UNIX_EPOCH + Duration::from_secs(epoch))
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// The time of the release in UTC: `2026-11-26T13:20:00Z`.
pub(crate) fn rfc3339(epoch: u64) -> String {
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(epoch)).to_string()
}

/// Two digits a byte, in lower case.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Runs `command` and lets its output through to stderr.
///
/// # Errors
/// It cannot start (`install` says how to get it), or does not end well.
pub(crate) fn run(command: &mut Command, install: &str) -> anyhow::Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    // stdout is the list of files that were made.
    let status = command
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .status()
        .with_context(|| format!("cannot start {name}; {install}"))?;
    ensure!(status.success(), "{name} failed: {status}");
    Ok(())
}

/// Runs `command` and returns what it writes to stdout.
///
/// # Errors
/// It cannot start, does not end well, or does not write text.
pub(crate) fn output(command: &mut Command) -> anyhow::Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start {name}"))?;
    ensure!(output.status.success(), "{name} failed: {}", output.status);
    String::from_utf8(output.stdout).with_context(|| format!("{name} did not write text"))
}

fn epoch(root: &Path) -> anyhow::Result<u64> {
    let text = match env::var("SOURCE_DATE_EPOCH") {
        Ok(text) => text,
        Err(_) => output(Command::new("git").args(["log", "-1", "--format=%ct"]).current_dir(root))
            .context("the time of the commit is unknown; set SOURCE_DATE_EPOCH")?,
    };
    text.trim().parse().with_context(|| format!("not a number of seconds: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_made_once() {
        let each = |asked: &[Artefact]| Artefact::each(asked, Target::LinuxX64);
        let all = each(&[Artefact::All]);
        assert_eq!(each(&[Artefact::All, Artefact::Deb, Artefact::All]), all);
        assert_eq!(each(&[Artefact::Deb, Artefact::Npm, Artefact::Deb]), [Artefact::Deb, Artefact::Npm]);
        assert!(all.contains(&Artefact::Deb) && !all.contains(&Artefact::All) && !all.contains(&Artefact::Msi));
    }

    #[test]
    fn hex_has_two_digits_a_byte() {
        assert_eq!(hex(&[0x00, 0x0f, 0xa0, 0xff]), "000fa0ff");
    }
}
