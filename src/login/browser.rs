//! Opening the user's browser, without giving anybody a shell (CVE-2025-6514).

use std::io::IsTerminal as _;

use url::Url;

use crate::login::address;

/// Whether to open one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BrowserMode {
    /// The browser of the user's desktop, or the one that `BROWSER` names.
    #[default]
    Open,
    /// None: the user opens the URL, here or on another machine.
    ShowOnly,
}

/// Opens `url` in the user's browser; the error says why there is none.
///
/// Whatever it was made from, the URL is serialised by the `url` crate: it begins with `https://`, or with
/// `http://` and a name of this machine, and has no spaces, quotes or control characters. It is handed to
/// a program or to the system as one argument.
pub(crate) async fn open(url: &Url) -> Result<(), String> {
    check(url)?;
    if let Some(reason) = no_browser(|name| std::env::var(name).ok(), std::io::stdout().is_terminal()) {
        return Err(reason.to_owned());
    }
    let url = url.as_str().to_owned();
    let opened = tokio::task::spawn_blocking(move || {
        let mut options = webbrowser::BrowserOptions::new();
        // A browser's chatter must not end up among the messages of a protocol on stdout.
        options.with_suppress_output(true);
        webbrowser::open_browser_with_options(webbrowser::Browser::Default, &url, &options)
    });
    match opened.await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) | Err(_) => Err("no browser was found; BROWSER may name one".to_owned()),
    }
}

/// What may be opened at all; the sign-in has stricter rules of its own.
fn check(url: &Url) -> Result<(), String> {
    let fits = match url.scheme() {
        "https" => address::has_plain_host(url),
        "http" => address::is_loopback(url),
        _ => false,
    };
    let plain = url.as_str().bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'<' | b'>'));
    if fits && plain { Ok(()) } else { Err("the URL is not one for a browser".to_owned()) }
}

/// Says why nobody would see a browser that is opened here.
fn no_browser(variable: impl Fn(&str) -> Option<String>, on_terminal: bool) -> Option<&'static str> {
    let set = |name: &str| variable(name).is_some_and(|value| !value.is_empty());
    if let Some(named) = variable("BROWSER").filter(|named| !named.is_empty()) {
        // It would read from the terminal and write to it, or to the client that reads from us.
        return (!on_terminal && named.split(':').any(is_text_browser)).then_some("BROWSER names one for a terminal");
    }
    if cfg!(windows) {
        return None;
    }
    if cfg!(target_os = "macos") {
        return set("SSH_CONNECTION").then_some("this is an SSH session");
    }
    let display = set("DISPLAY") || set("WAYLAND_DISPLAY") || set("WSL_DISTRO_NAME");
    if display {
        None
    } else if set("SSH_CONNECTION") {
        Some("this is an SSH session")
    } else {
        Some("there is no display")
    }
}

fn is_text_browser(command: &str) -> bool {
    let program = command.split_ascii_whitespace().next().unwrap_or_default();
    let name = program.rsplit('/').next().unwrap_or_default();
    matches!(
        name,
        "lynx"
            | "links"
            | "links2"
            | "elinks"
            | "w3m"
            | "eww"
            | "netrik"
            | "retawq"
            | "curl"
            | "browsh"
            | "www-browser"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_a_web_page_is_opened() {
        for (url, expected) in [
            ("https://auth.example.com/authorize?x=y", true),
            ("http://127.0.0.1:8080/authorize", true),
            ("http://localhost/authorize", true),
            ("http://auth.example.com/authorize", false),
            ("javascript:alert(1)", false),
            ("data:text/html,<script>alert(1)</script>", false),
            ("file:///Applications/Calculator.app", false),
            ("file:/etc/passwd", false),
            ("ms-settings:x", false),
            ("--remote-debugging-port=1://x", false),
        ] {
            let Ok(url) = Url::parse(url) else {
                assert!(!expected, "{url} is no URL");
                continue;
            };
            assert_eq!(check(&url).is_ok(), expected, "{url}");
        }
    }

    /// The payloads of CVE-2025-6514 and its relatives: what is opened is one word without quotes.
    #[test]
    fn shell_syntax_in_an_endpoint_stays_part_of_the_url() {
        for url in [
            "https://auth.example.com/$(calc.exe)?a=\"&calc&\"",
            "https://auth.example.com/a b;touch /tmp/x",
            "https://auth.example.com/`id`",
            "https://auth.example.com/?x='|calc|'<>\n\t",
        ] {
            let url = Url::parse(url).expect(url);
            if check(&url).is_ok() {
                assert!(url.as_str().starts_with("https://auth.example.com/"), "{url}");
                assert!(!url.as_str().contains([' ', '"', '<', '>', '\n', '\t']), "{url}");
            }
        }
        for host in ["$(calc.exe)", "www.$(calc.exe).com", "`id`", "a&calc", "a;calc", "-flag"] {
            if let Ok(url) = Url::parse(&format!("https://{host}/")) {
                assert!(check(&url).is_err(), "{host}");
            }
        }
    }

    /// Everything that a shell would act on, and that a URL may hold.
    #[cfg(unix)]
    const SHELL_SYNTAX: &str =
        "https://auth.example.com/a;touch$IFS'pwned'?b=$(touch%20pwned)&c=`touch%20pwned`|d&--e=*#%s";

    #[cfg(unix)]
    #[test]
    fn shell_syntax_reaches_the_browser_as_one_argument() {
        use std::{os::unix::fs::PermissionsExt as _, process::Command, time::Instant};

        let folder = tempfile::tempdir().expect("a folder");
        let (browser, seen) = (folder.path().join("browser"), folder.path().join("seen"));
        let script =
            "#!/bin/sh\nprintf '%s\\n' \"$#\" \"$@\" >\"$0.new\" && mv \"$0.new\" \"$(dirname \"$0\")/seen\"\n";
        std::fs::write(&browser, script).expect("a script");
        std::fs::set_permissions(&browser, std::fs::Permissions::from_mode(0o755)).expect("an executable");
        let child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "login::browser::tests::child_opens_the_url", "--ignored"])
            .env_clear()
            .envs([("PATH", "/usr/bin:/bin"), ("BROWSER", browser.to_str().expect("UTF-8"))])
            .current_dir(folder.path())
            .output();
        let child = child.expect("this program runs");
        assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
        // The browser runs on its own.
        let deadline = Instant::now() + std::time::Duration::from_secs(10);
        while !seen.exists() {
            assert!(Instant::now() < deadline, "the browser was not started");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        let url = Url::parse(SHELL_SYNTAX).expect("a URL");
        assert_eq!(std::fs::read_to_string(&seen).expect("what it saw"), format!("1\n{url}\n"));
        let files = std::fs::read_dir(folder.path()).expect("a folder").count();
        assert_eq!(files, 2, "nothing else was run there");
    }

    #[cfg(unix)]
    #[tokio::test]
    #[ignore = "run by the test above, in an environment of its own"]
    async fn child_opens_the_url() {
        open(&Url::parse(SHELL_SYNTAX).expect("a URL")).await.expect("opened");
    }

    #[test]
    fn machine_without_a_display_is_told_from_one_with() {
        let reason = |variables: &[(&str, &str)], on_terminal| {
            let find =
                |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
            no_browser(find, on_terminal)
        };
        assert_eq!(reason(&[("BROWSER", "firefox")], false), None);
        assert!(reason(&[("BROWSER", "/usr/bin/lynx -x %s:firefox")], false).is_some());
        assert_eq!(reason(&[("BROWSER", "w3m")], true), None);
        #[cfg(target_os = "linux")]
        {
            assert_eq!(reason(&[("DISPLAY", ":0")], false), None);
            assert_eq!(reason(&[("WAYLAND_DISPLAY", "wayland-0"), ("BROWSER", "")], false), None);
            assert_eq!(reason(&[], false), Some("there is no display"));
            assert_eq!(reason(&[("DISPLAY", ""), ("SSH_CONNECTION", "a b")], false), Some("this is an SSH session"));
        }
    }
}
