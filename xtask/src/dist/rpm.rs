//! The RPM package.
//!
//! Written with the crate that cargo-generate-rpm is made of: its list of files is then the one of the
//! Debian package, and nothing has to be installed first. rpm and rpmlint judge the result in
//! tests/packages/parts/rpm.

use std::{collections::BTreeSet, path::PathBuf};

use anyhow::{Context as _, bail};
use rpm::{BuildConfig, CompressionWithLevel, Dependency, FileOptions, PackageBuilder};

use super::{
    Release, Target,
    linux::{self, Family, File, Kind, MAINTAINER, NAME, SUMMARY},
};

/// `mcp-bridge-VERSION-REVISION.ARCHITECTURE.rpm`
pub(super) fn make(release: &Release) -> anyhow::Result<Vec<PathBuf>> {
    let architecture = architecture(release.target)?;
    let version = linux::version(release);
    let files = linux::files(release, Family::Rpm)?;
    let epoch = u32::try_from(release.epoch).context("an RPM cannot say a time after 2106")?;
    let script = |name: &str| release.read_text(&format!("installers/rpm/{name}"));

    // Version 4 and gzip: what every rpm that is still in use can read.
    let config = BuildConfig::v4().compression(CompressionWithLevel::Gzip(9)).source_date(epoch);
    let mut builder = PackageBuilder::new(NAME, &version, "MIT OR Apache-2.0", architecture, SUMMARY);
    builder
        .using_config(config)
        .release(release.revision.to_string())
        .description(release.read_text("installers/deb/description")?.trim_end())
        .group("Applications/Internet")
        .packager(MAINTAINER)
        // Where it was built would differ from build to build.
        .build_host("localhost")
        .recommends(Dependency::any("ca-certificates"))
        .suggests(Dependency::any("xdg-utils"))
        .add_changelog_entry(
            format!("{MAINTAINER} - {version}-{}", release.revision),
            format!("- Package of version {}; changelog.gz says what is new.", release.version),
            epoch,
        )
        .post_install_script(script("post")?)
        .pre_uninstall_script(script("preun")?)
        .post_uninstall_script(script("postun")?);
    for folder in own_folders(&files) {
        builder.with_dir_entry(FileOptions::dir(format!("/{folder}")).permissions(0o755))?;
    }
    for file in files {
        let options = FileOptions::new(format!("/{}", file.path)).permissions(file.mode);
        let options = match file.kind {
            Kind::Plain => options,
            Kind::Configuration => options.config().noreplace(),
            Kind::Documentation => options.doc(),
            Kind::Licence => options.license(),
        };
        builder.with_file_contents(file.content, options).with_context(|| format!("cannot pack {}", file.path))?;
    }
    let path = release.output.join(format!("{NAME}-{version}-{}.{architecture}.rpm", release.revision));
    builder.build()?.write_file(&path).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(vec![path])
}

/// RPM's word for the processor.
pub(super) fn architecture(target: Target) -> anyhow::Result<&'static str> {
    match target {
        Target::LinuxX64 => Ok("x86_64"),
        Target::LinuxArm64 => Ok("aarch64"),
        other => bail!("{other} has no RPM packages"),
    }
}

/// Folders that are this package's alone: rpm removes what a package names, and no more.
fn own_folders(files: &[File]) -> BTreeSet<&str> {
    let is_own = |folder: &&str| folder.split('/').any(|part| part == NAME);
    linux::folders(files).into_iter().filter(is_own).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_own_folders_are_named() {
        let files = ["etc/mcp-bridge/bridge.toml", "usr/bin/mcp-bridge", "usr/share/doc/mcp-bridge/examples/a"]
            .map(|path| File::new(path, "", Kind::Plain));
        let folders: Vec<&str> = own_folders(&files).into_iter().collect();
        assert_eq!(folders, ["etc/mcp-bridge", "usr/share/doc/mcp-bridge", "usr/share/doc/mcp-bridge/examples"]);
    }

    #[test]
    fn architectures_have_rpm_names() {
        assert_eq!(architecture(Target::LinuxArm64).expect("is packaged"), "aarch64");
        assert!(architecture(Target::WindowsX64).is_err());
    }
}
