//! Signatures that Windows and macOS look for, where the environment names a key; elsewhere none.
//!
//! No secret is an argument or an environment variable: keys are in a token, in a store of the system,
//! or in a file whose passphrase is in another file.
//!
//! | variable | what it is |
//! |---|---|
//! | `WINDOWS_SIGN_THUMBPRINT` | the certificate in Windows' store, for `signtool`; or one of the next two |
//! | `WINDOWS_SIGN_PKCS12` | a file with certificate and key, for `osslsigncode` |
//! | `WINDOWS_SIGN_PKCS11_MODULE`, `WINDOWS_SIGN_CERTIFICATE`, `WINDOWS_SIGN_KEY` | the library of a token and its two URIs, for `osslsigncode` |
//! | `WINDOWS_SIGN_PASSWORD_FILE` | the file with the passphrase or PIN, for `osslsigncode` |
//! | `WINDOWS_SIGN_TIMESTAMP_URL` | who confirms the time (RFC 3161), or `none` |
//! | `MACOS_SIGN_APPLICATION` | the identity in the keychain that signs programs: "Developer ID Application: …" |
//! | `MACOS_SIGN_INSTALLER` | the one that signs packages: "Developer ID Installer: …" |
//! | `MACOS_NOTARY_PROFILE` | the profile that `xcrun notarytool store-credentials` has put into the keychain |

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail, ensure};

use super::{Binaries, Target, run};

/// The programs, signed as their platform wants it; the given files stay as they are.
pub(super) fn programs(root: &Path, target: Target, binaries: Binaries) -> anyhow::Result<Binaries> {
    let sign = match target {
        Target::LinuxX64 | Target::LinuxArm64 => return Ok(binaries),
        Target::WindowsX64 | Target::WindowsArm64 => windows,
        Target::Macos => macos,
    };
    let is_asked = match target {
        Target::Macos => variable("MACOS_SIGN_APPLICATION")?.is_some(),
        _ => WindowsKey::named()?.is_some(),
    };
    if !is_asked {
        return Ok(binaries);
    }
    let folder = root.join("target").join("dist-work").join(format!("signed-{target}"));
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for program in binaries.all() {
        let copy = folder.join(program.file_name().context("a program has a name")?);
        fs::copy(program, &copy).with_context(|| format!("cannot write {}", copy.display()))?;
        sign(&copy)?;
    }
    Binaries::within(&folder, target)
}

/// Where the key for Windows is.
enum WindowsKey {
    Store { thumbprint: String },
    File { pkcs12: String },
    Token { module: String, certificate: String, key: String },
}

impl WindowsKey {
    fn named() -> anyhow::Result<Option<Self>> {
        let thumbprint = variable("WINDOWS_SIGN_THUMBPRINT")?.map(|thumbprint| Self::Store { thumbprint });
        let file = variable("WINDOWS_SIGN_PKCS12")?.map(|pkcs12| Self::File { pkcs12 });
        let token = match variable("WINDOWS_SIGN_PKCS11_MODULE")? {
            Some(module) => Some(Self::Token {
                module,
                certificate: needed("WINDOWS_SIGN_CERTIFICATE")?,
                key: needed("WINDOWS_SIGN_KEY")?,
            }),
            None => None,
        };
        let mut keys = [thumbprint, file, token].into_iter().flatten();
        let key = keys.next();
        ensure!(
            keys.next().is_none(),
            "more than one key is named for Windows; set one of WINDOWS_SIGN_THUMBPRINT, WINDOWS_SIGN_PKCS12 and \
             WINDOWS_SIGN_PKCS11_MODULE"
        );
        Ok(key)
    }
}

/// Signs a program or an installer for Windows, if a key is named.
pub(super) fn windows(file: &Path) -> anyhow::Result<()> {
    let Some(key) = WindowsKey::named()? else { return Ok(()) };
    // Without the time, a signature ends with its certificate.
    let timestamp = Some(needed("WINDOWS_SIGN_TIMESTAMP_URL")?).filter(|url| url != "none");
    if let WindowsKey::Store { thumbprint } = &key {
        let mut signtool = Command::new("signtool");
        signtool.args(["sign", "/sha1", thumbprint, "/fd", "sha256", "/d", "mcp-bridge"]);
        if let Some(url) = &timestamp {
            signtool.args(["/tr", url, "/td", "sha256"]);
        }
        return run(signtool.arg(file), "it comes with the Windows SDK");
    }
    let mut osslsigncode = Command::new("osslsigncode");
    osslsigncode.arg("sign");
    match &key {
        WindowsKey::Store { .. } => bail!("a key in the store is signtool's"),
        WindowsKey::File { pkcs12 } => osslsigncode.args(["-pkcs12", pkcs12]),
        WindowsKey::Token { module, certificate, key } => {
            osslsigncode.args(["-pkcs11module", module, "-pkcs11cert", certificate, "-key", key])
        }
    };
    if let Some(file) = variable("WINDOWS_SIGN_PASSWORD_FILE")? {
        osslsigncode.args(["-readpass", &file]);
    }
    osslsigncode.args(["-h", "sha256", "-n", "mcp-bridge"]);
    if let Some(url) = &timestamp {
        osslsigncode.args(["-ts", url]);
    }
    let mut signed = file.as_os_str().to_owned();
    signed.push(".signed");
    let signed = PathBuf::from(signed);
    // It writes into no file that is there.
    match fs::remove_file(&signed) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot remove {}", signed.display()));
        }
        _ => {}
    }
    run(osslsigncode.arg("-in").arg(file).arg("-out").arg(&signed), "install osslsigncode")?;
    fs::rename(&signed, file).with_context(|| format!("cannot replace {}", file.display()))
}

/// Signs a program for macOS, if an identity is named: hardened, as notarization wants it.
fn macos(program: &Path) -> anyhow::Result<()> {
    let Some(identity) = variable("MACOS_SIGN_APPLICATION")? else { return Ok(()) };
    let mut codesign = Command::new("codesign");
    codesign.args(["--force", "--options", "runtime", "--timestamp", "--sign", &identity]).arg(program);
    run(&mut codesign, "it comes with macOS")?;
    run(Command::new("codesign").args(["--verify", "--strict"]).arg(program), "it comes with macOS")
}

/// Has Apple look at a signed package and puts the answer into it, if a profile is named.
pub(super) fn notarize(package: &Path) -> anyhow::Result<()> {
    let Some(profile) = variable("MACOS_NOTARY_PROFILE")? else { return Ok(()) };
    let xcode = "install Xcode's command line tools";
    let mut submit = Command::new("xcrun");
    // Mostly minutes; Apple promises nothing.
    submit.args(["notarytool", "submit", "--keychain-profile", &profile, "--wait", "--timeout", "1h"]).arg(package);
    run(&mut submit, xcode)?;
    // `submit --wait` also ends well for what was refused. Only what was accepted has a ticket to staple.
    run(Command::new("xcrun").args(["stapler", "staple"]).arg(package), xcode)
        .context("Apple did not accept it; see `xcrun notarytool log`")?;
    run(Command::new("xcrun").args(["stapler", "validate"]).arg(package), xcode)
}

/// The environment variable of that name, if it is set to something.
pub(super) fn variable(name: &str) -> anyhow::Result<Option<String>> {
    let Some(value) = env::var_os(name).filter(|value| !value.is_empty()) else { return Ok(None) };
    match value.into_string() {
        Ok(value) => Ok(Some(value)),
        Err(_) => bail!("{name} is not Unicode"),
    }
}

fn needed(name: &str) -> anyhow::Result<String> {
    variable(name)?.with_context(|| format!("{name} is not set"))
}
