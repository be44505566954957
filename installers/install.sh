#!/bin/sh
# Installs mcp-bridge and mcp-calculator for the user who runs it, on Linux and macOS. Needs no root.
#
#   curl -fsSL https://github.com/OWNER/mcp-bridge/releases/latest/download/install.sh | sh
#   sh install.sh [--version VERSION] [--to FOLDER] [--from URL]
#   sh install.sh --uninstall [--to FOLDER]
#
# The archive must have the checksum that SHA256SUMS beside it says, or nothing is installed. That finds what
# was damaged on its way; who has made the release is told by its attestations, which `gh attestation verify`
# checks.
#
# All of it is in functions, and the last line calls them: a script that was cut off does nothing.

set -eu

# As in Cargo.toml.
repository=https://github.com/OWNER/mcp-bridge

usage() {
  cat <<'TEXT'
Installs mcp-bridge and mcp-calculator for this user, or removes them.

Usage: install.sh [OPTIONS]

Options:
  --version VERSION  This version instead of the newest
  --to FOLDER        Where the programs go [default: ~/.local/bin]
  --from URL         A folder with SHA256SUMS and the archives [default: the releases of the repository]
  --uninstall        Remove the programs from where --to says
  --help             Print this

Environment:
  MCP_INSTALL_URL  As --from

Exit codes: 0 done, 1 nothing was installed, 2 wrong command line
TEXT
}

say() { printf '%s\n' "$*"; }

fail() {
  printf 'install.sh: %s\n' "$*" >&2
  exit 1
}

misuse() {
  printf 'install.sh: %s; --help shows what there is\n' "$*" >&2
  exit 2
}

has() { command -v "$1" >/dev/null 2>&1; }

# The name of this platform in the names of archives.
platform() {
  system=$(uname -s)
  machine=$(uname -m)
  case $system in
    Linux)
      case $machine in
        x86_64 | amd64) say linux-x64 ;;
        aarch64 | arm64) say linux-arm64 ;;
        *) fail "there is no program for Linux on $machine; build it from the source at $repository" ;;
      esac
      ;;
    Darwin) say macos ;;
    MINGW* | MSYS* | CYGWIN*) fail 'this is Windows: use install.ps1, in PowerShell' ;;
    *) fail "there is no program for $system; build it from the source at $repository" ;;
  esac
}

# Whether what comes from the URL $1 cannot be changed on its way.
is_safe() {
  case $1 in
    https://* | http://127.0.0.1[:/]* | http://localhost[:/]* | http://\[::1\][:/]*) return 0 ;;
    *) return 1 ;;
  esac
}

# Writes what is at the URL $1 to the file $2.
download() {
  if has curl; then
    # No redirection leads from https to something else.
    case $1 in https://*) protocols='=https' ;; *) protocols='=http,https' ;; esac
    curl --fail --silent --show-error --location --proto "$protocols" --retry 2 --connect-timeout 30 --max-time 900 \
      --output "$2" "$1"
  elif has wget; then
    # No other options: the wget of busybox knows few, and that of Debian crashes when it has a deadline.
    wget -q -O "$2" "$1" 2>"$work/wget" || {
      cat "$work/wget" >&2
      return 1
    }
    # Some builds of busybox say so, and go on.
    case $(cat "$work/wget") in
      *'certificate validation not implemented'*) fail 'this wget does not check whom it talks to; install curl' ;;
    esac
  else
    fail 'neither curl nor wget is here; install one of them'
  fi
}

# The SHA-256 of the file $1.
checksum() {
  if has sha256sum; then
    sum=$(sha256sum "$1")
  elif has shasum; then
    sum=$(shasum -a 256 "$1")
  elif has openssl; then
    sum=$(openssl dgst -sha256 -r "$1")
  else
    fail 'nothing here computes a checksum; install sha256sum, shasum or openssl'
  fi
  say "${sum%% *}"
}

# Sets `archive` and `expected`: the archive for the platform $1 in the list $2, and its checksum.
choose() {
  archive='' expected=''
  while read -r sum name || [ -n "${sum:-}" ]; do
    name=${name#\*}
    case $name in
      */*) continue ;;
      "mcp-bridge-${version:-}"*"-$1.tar.gz") ;;
      *) continue ;;
    esac
    if [ -n "$version" ] && [ "$name" != "mcp-bridge-$version-$1.tar.gz" ]; then continue; fi
    [ -z "$archive" ] || fail "SHA256SUMS at $from names several versions; choose one with --version"
    archive=$name expected=$sum
  done <"$2"
  [ -n "$archive" ] || fail "there is no ${version:-archive} for $1 at $from: SHA256SUMS there names none"
  case $expected in
    *[!0-9a-f]* | '') fail "SHA256SUMS at $from has no checksum for $archive; nothing was installed" ;;
  esac
  [ "${#expected}" -eq 64 ] || fail "SHA256SUMS at $from has no checksum for $archive; nothing was installed"
}

clean() {
  [ -z "${work:-}" ] || rm -rf "$work"
  [ -z "${stage:-}" ] || rm -rf "$stage"
}

install() {
  case $from in
    # Spelled so that it stays when the owner is filled in.
    */OWN[E]R/*) fail 'this copy does not know where releases are; say it with --from URL' ;;
  esac
  is_safe "$from" || fail "$from can be changed on its way; use https"
  platform=$(platform)
  has tar || fail 'tar is missing; install it'

  trap clean EXIT
  trap 'exit 1' HUP INT TERM
  work=$(mktemp -d "${TMPDIR:-/tmp}/mcp-bridge.XXXXXX") || fail 'no folder for temporary files; set TMPDIR'
  download "$from/SHA256SUMS" "$work/SHA256SUMS" || fail "cannot download $from/SHA256SUMS; nothing was installed"
  choose "$platform" "$work/SHA256SUMS"
  say "Downloading $archive"
  download "$from/$archive" "$work/archive" || fail "cannot download $from/$archive; nothing was installed"
  actual=$(checksum "$work/archive")
  [ "$actual" = "$expected" ] \
    || fail "$archive has the checksum $actual instead of $expected; it is damaged or forged, and nothing was installed"

  name=${archive%.tar.gz}
  tar -xzf "$work/archive" -C "$work" "$name/mcp-bridge" "$name/mcp-calculator" \
    || fail "$archive lacks a program; nothing was installed"
  mkdir -p "$to" || fail "cannot make $to; choose another folder with --to"
  # In the same folder, so that a program is the old one or the new one at every moment.
  stage=$(mktemp -d "$to/.mcp-bridge.XXXXXX") || fail "cannot write to $to; choose another folder with --to"
  for program in mcp-bridge mcp-calculator; do
    cp "$work/$name/$program" "$stage/$program"
    chmod 755 "$stage/$program"
    "$stage/$program" --version >"$work/$program.version" 2>&1 \
      || fail "$program does not run here: $(cat "$work/$program.version"); nothing was installed"
  done
  for program in mcp-bridge mcp-calculator; do
    [ ! -d "$to/$program" ] || fail "$to/$program is a folder; choose another one with --to"
  done
  for program in mcp-bridge mcp-calculator; do
    mv -f "$stage/$program" "$to/$program"
  done

  say "Installed $(cat "$work/mcp-bridge.version") and $(cat "$work/mcp-calculator.version") in $to"
  case ":${PATH:-}:" in
    *":$to:"*)
      found=$(command -v mcp-bridge || true)
      [ "$found" = "$to/mcp-bridge" ] || say "Another one comes before it in your PATH: $found"
      ;;
    *)
      say
      say "$to is not in your PATH. Add this line to the file that your shell reads at its start, such as ~/.profile:"
      say "  export PATH=\"$to:\$PATH\""
      ;;
  esac
  say
  say 'Next:'
  say '  mcp-calculator install --client claude-desktop   the calculator in a desktop client'
  say '  mcp-bridge serve                                 a server on the network, with a sign-in'
}

uninstall() {
  removed=''
  for program in mcp-bridge mcp-calculator; do
    if [ -f "$to/$program" ] || [ -h "$to/$program" ]; then
      rm -f "$to/$program" || fail "cannot remove $to/$program"
      removed="$removed $program"
    fi
  done
  if [ -z "$removed" ]; then
    say "There is nothing to remove in $to"
    return
  fi
  say "Removed from $to:$removed"
  say 'Sign-ins, entries in desktop clients, and the state of a bridge stay where they are: README.md says how to'
  say 'remove them, before or after.'
}

main() {
  version='' to='' from=${MCP_INSTALL_URL:-} action=install
  while [ $# -gt 0 ]; do
    case $1 in
      --version | --to | --from)
        [ -n "${2:-}" ] || misuse "$1 needs a value"
        case $1 in
          --version) version=${2#v} ;;
          --to) to=$2 ;;
          --from) from=$2 ;;
        esac
        shift
        ;;
      --uninstall) action=uninstall ;;
      --help | -h)
        usage
        return
        ;;
      *) misuse "$1 is unknown" ;;
    esac
    shift
  done
  case $version in
    *[!0-9A-Za-z.+-]*) misuse "$version is no version" ;;
  esac
  if [ -z "$to" ]; then
    [ -n "${HOME:-}" ] || misuse 'HOME is not set; say where the programs go with --to'
    to=$HOME/.local/bin
  fi
  # `mkdir` and PATH want a whole path, also when the folder is named like an option.
  case $to in /*) ;; *) to=$PWD/$to ;; esac
  [ "$to" = / ] || to=${to%/}
  from=${from%/}
  if [ -z "$from" ] && [ -n "$version" ]; then
    from=$repository/releases/download/v$version
  elif [ -z "$from" ]; then
    from=$repository/releases/latest/download
  fi
  $action
}

{ main "$@"; }
