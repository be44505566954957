//! The platforms that something is shipped for, and each registry's word for them.

use std::fmt;

use clap::ValueEnum;

/// A platform that something is shipped for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Target {
    /// Linux on x86-64, static
    LinuxX64,
    /// Linux on 64-bit ARM, static
    LinuxArm64,
    /// macOS on Intel and Apple silicon, one program for both
    Macos,
    /// Windows on x86-64
    WindowsX64,
    /// Windows on 64-bit ARM
    WindowsArm64,
}

impl Target {
    /// The platform that this runs on.
    pub(crate) fn host() -> Self {
        match (std::env::consts::OS, std::env::consts::ARCH) {
            ("macos", _) => Self::Macos,
            ("windows", "aarch64") => Self::WindowsArm64,
            ("windows", _) => Self::WindowsX64,
            (_, "aarch64") => Self::LinuxArm64,
            _ => Self::LinuxX64,
        }
    }

    /// The compiler's names for it; more than one are joined into one program.
    pub(crate) fn triples(self) -> &'static [&'static str] {
        match self {
            Self::LinuxX64 => &["x86_64-unknown-linux-gnu"],
            Self::LinuxArm64 => &["aarch64-unknown-linux-gnu"],
            Self::Macos => &["aarch64-apple-darwin", "x86_64-apple-darwin"],
            // The ABI of Debian's cross compiler, so that it can be built and tried on Linux.
            Self::WindowsX64 => &["x86_64-pc-windows-gnu"],
            Self::WindowsArm64 => &["aarch64-pc-windows-msvc"],
        }
    }

    /// Whether programs for it run on this machine as they are.
    pub(crate) fn runs_here(self) -> bool {
        self == Self::host()
    }

    pub(crate) fn is_windows(self) -> bool {
        matches!(self, Self::WindowsX64 | Self::WindowsArm64)
    }

    /// The name of the program `name` as a file.
    pub(crate) fn executable(self, name: &str) -> String {
        if self.is_windows() { format!("{name}.exe") } else { name.to_owned() }
    }
}

/// As in the names of files: `linux-x64`.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LinuxX64 => "linux-x64",
            Self::LinuxArm64 => "linux-arm64",
            Self::Macos => "macos",
            Self::WindowsX64 => "windows-x64",
            Self::WindowsArm64 => "windows-arm64",
        })
    }
}
