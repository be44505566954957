//! The installer for Windows, made by wixl, which runs on Linux.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, ensure};
use sha2::{Digest as _, Sha256};

use super::{Release, Target, documents, hex, output, read, rfc3339, run, sign};

const INSTALL: &str = "install msitools and wixl";

/// The texts that `installers/windows/mcp-bridge.wxs` names.
const TEXTS: [&str; 6] = [
    "README.md",
    "CHANGELOG.md",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "completions/mcp-bridge.ps1",
    "completions/mcp-calculator.ps1",
];

/// `mcp-bridge-VERSION-TARGET.msi`
pub(super) fn make(release: &Release) -> anyhow::Result<Vec<PathBuf>> {
    let work = release.scratch("msi")?;
    let mut package_code = Sha256::new();
    let mut put = |path: &str, content: &[u8]| {
        package_code.update(path.as_bytes());
        package_code.update(content);
        // The cabinet keeps the time.
        super::put(&work.join("files").join(path), content, 0o644, release.epoch)
    };
    for program in release.binaries.all() {
        let name = program.file_name().context("a program has a name")?.to_string_lossy();
        put(&name, &read(program)?)?;
    }
    let documents = documents::all(release)?;
    for path in TEXTS {
        let text = documents.iter().find(|document| document.path == path);
        put(path, &text.with_context(|| format!("there is no {path}"))?.content)?;
    }
    for source in ["mcp-bridge.wxs", "Environment.idt"] {
        put(&format!("../{source}"), &release.read(&format!("installers/windows/{source}"))?)?;
    }

    // Windows Installer compares three numbers: a candidate for a release has those of the release.
    let version = release.version.split(['-', '+']).next().unwrap_or_default();
    let product_code = product_code(&release.version, release.target);
    let built = work.join("built.msi");
    let mut wixl = Command::new("wixl");
    // What it does not understand is a warning otherwise, and left out. It takes no absolute paths.
    wixl.env("G_DEBUG", "fatal-warnings").current_dir(&work).args(["--arch", "x64", "--define", "Source=files"]);
    wixl.args(["--define", &format!("Version={version}")]);
    wixl.args(["--define", &format!("ProductCode={product_code}")]);
    wixl.args(["--output", "built.msi", "mcp-bridge.wxs"]);
    run(&mut wixl, INSTALL)?;

    import(&built, &work.join("Environment.idt"))?;
    edit(&built, &work, "Upgrade", inclusive)?;
    let package_code = guid(package_code);
    edit(&built, &work, "_SummaryInformation", |table| reproducible(table, &package_code, release.epoch))?;

    let finished = release.output.join(format!("mcp-bridge-{}-{}.msi", release.version, release.target));
    fs::copy(&built, &finished).with_context(|| format!("cannot write {}", finished.display()))?;
    sign::windows(&finished)?;
    Ok(vec![finished])
}

/// By what Windows knows this version of the product, without braces.
pub(super) fn product_code(version: &str, target: Target) -> String {
    guid(Sha256::new_with_prefix(format!("product of mcp-bridge {version} {target}")))
}

fn import(package: &Path, table: &Path) -> anyhow::Result<()> {
    run(Command::new("msibuild").arg(package).arg("-i").arg(table), INSTALL)
}

/// Whether it can be made at all, for `target`.
///
/// # Errors
/// Says for what it can.
pub(super) fn check(target: Target) -> anyhow::Result<()> {
    ensure!(target == Target::WindowsX64, "an .msi is made for windows-x64 only: wixl knows no 64-bit ARM");
    Ok(())
}

/// Replaces the table `name` of `package`.
fn edit(
    package: &Path,
    work: &Path,
    name: &str,
    change: impl FnOnce(&str) -> anyhow::Result<String>,
) -> anyhow::Result<()> {
    let table = output(Command::new("msiinfo").arg("export").arg(package).arg(name))?;
    let file = work.join(format!("{name}.idt"));
    fs::write(&file, change(&table)?).with_context(|| format!("cannot write {}", file.display()))?;
    import(package, &file)
}

/// What an upgrade removes, the highest version included, which wixl before 0.102 forgets.
fn inclusive(table: &str) -> anyhow::Result<String> {
    // The attributes are msidbUpgradeAttributesVersionMinInclusive, then …VersionMaxInclusive too.
    let changed = table.replace("\t256\t\tOLDERVERSION", "\t768\t\tOLDERVERSION");
    ensure!(changed.contains("\t768\t\tOLDERVERSION"), "wixl's table of upgrades is not as expected: {table}");
    Ok(changed)
}

/// The summary with the code of this package, which wixl makes up, and the time of the release.
///
/// Two packages with one code must be the same, byte for byte; so it depends on all that is packed.
fn reproducible(table: &str, package_code: &str, epoch: u64) -> anyhow::Result<String> {
    let time = rfc3339(epoch);
    let time = time.trim_end_matches('Z').replace('-', "/").replace('T', " ");
    let mut replaced = 0;
    let mut lines = String::new();
    for line in table.lines() {
        // PID_REVNUMBER, PID_CREATE_DTM, PID_LASTSAVE_DTM
        let replacement = match line.split('\t').next() {
            Some("9") => Some(format!("9\t{{{package_code}}}")),
            Some(number @ ("12" | "13")) => Some(format!("{number}\t{time}")),
            _ => None,
        };
        replaced += usize::from(replacement.is_some());
        lines.push_str(replacement.as_deref().unwrap_or(line));
        lines.push_str("\r\n");
    }
    ensure!(replaced == 3, "wixl's summary is not as expected: {table}");
    Ok(lines)
}

/// The first bits of a hash in the form of a GUID made from a name (RFC 9562 §5.8).
pub(super) fn guid(hash: Sha256) -> String {
    let hash = hash.finalize();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash[..16]);
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = hex(&bytes).to_uppercase();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_code_is_made_from_a_name() {
        let guid = guid(Sha256::new_with_prefix("a name"));
        assert_eq!(guid.len(), 36);
        assert_eq!((&guid[14..15], guid[19..20].find(['8', '9', 'A', 'B'])), ("8", Some(0)));
    }

    #[test]
    fn a_summary_has_the_code_and_the_time_of_the_release() {
        let table =
            "PropertyId\tValue\r\n7\tx64;1033\r\n9\t{RANDOM}\r\n12\t2030/01/01 00:00:00\r\n13\t2030/01/01 00:00:00\r\n";
        let expected =
            "PropertyId\tValue\r\n7\tx64;1033\r\n9\t{CODE}\r\n12\t1970/01/02 00:00:00\r\n13\t1970/01/02 00:00:00\r\n";
        assert_eq!(reproducible(table, "CODE", 86_400).expect("a summary"), expected);
        assert!(reproducible("PropertyId\tValue\r\n", "CODE", 0).is_err());
    }

    #[test]
    fn an_upgrade_removes_its_own_version_too() {
        let table = "{CODE}\t0.0.0\t0.1.0\t\t256\t\tOLDERVERSION\r\n";
        assert_eq!(inclusive(table).expect("a table"), "{CODE}\t0.0.0\t0.1.0\t\t768\t\tOLDERVERSION\r\n");
        let right = "{CODE}\t0.0.0\t0.1.0\t\t768\t\tOLDERVERSION\r\n";
        assert_eq!(inclusive(right).expect("a table"), right);
        assert!(inclusive("{CODE}\t0.0.0\t0.1.0\t\t0\t\tOLDERVERSION\r\n").is_err());
    }
}
