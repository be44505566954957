#!/bin/sh
# Installs mcp-bridge and mcp-calculator for this user, without root:
#
#   sh install.sh [--from URL] [--to DIR] [--uninstall]
#
# URL is a folder of a release, with SHA256SUMS in it; the environment variable MCP_INSTALL_FROM
# is another way to say it. DIR is ~/.local/bin without --to. Nothing is installed whose checksum is not
# the one of that list. The list comes from the same place: it finds a download that was broken or
# exchanged on the way, and not a place that somebody else has taken over.
set -eu

say() { printf 'mcp-bridge: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }
usage() { sed -n '2,10s/^# \{0,1\}//p' "$0"; }
has() { command -v "$1" >/dev/null 2>&1; }

platform() {
  case $(uname -s) in
    Linux) system=linux ;;
    Darwin) echo macos; return ;;
    *) fail "there is no package for $(uname -s); on Windows use the .msi" ;;
  esac
  case $(uname -m) in
    x86_64 | amd64) echo "$system-x64" ;;
    aarch64 | arm64) echo "$system-arm64" ;;
    *) fail "there is no package for a processor of the kind $(uname -m)" ;;
  esac
}

# The file $1 of the release, into $2.
download() {
  case $from in
    https://* | http://127.0.0.1:* | http://localhost:*) ;;
    *) fail "a release is fetched over https only, and not from $from" ;;
  esac
  if has curl; then
    curl --fail --silent --show-error --location --proto-redir '=https' --max-time 600 --output "$2" "$from/$1"
  elif has wget; then
    wget --quiet --timeout=60 --output-document="$2" "$from/$1"
  else
    fail 'curl or wget is needed; install one of them'
  fi || fail "cannot download $from/$1"
}

sha256() {
  if has sha256sum; then sha256sum <"$1"
  elif has shasum; then shasum -a 256 <"$1"
  elif has openssl; then openssl dgst -sha256 -r <"$1"
  else fail 'sha256sum, shasum or openssl is needed to check the download; install one of them'
  fi | cut -d ' ' -f 1
}

install_it() {
  [ -n "$from" ] || fail 'say where the release is: --from URL, or MCP_INSTALL_FROM'
  from=${from%/}
  target=$(platform)
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  trap 'exit 1' HUP INT TERM
  download SHA256SUMS "$work/sums"
  line=$(grep -E "^[0-9a-f]{64} [ *]mcp-bridge-[0-9A-Za-z.+-]+-$target\.tar\.gz\$" "$work/sums") \
    || fail "the release has nothing for $target"
  [ "$(printf '%s\n' "$line" | wc -l)" -eq 1 ] || fail "the release has more than one archive for $target"
  expected=${line%% *}
  name=${line##*[ *]}
  download "$name" "$work/archive"
  found=$(sha256 "$work/archive")
  [ "$found" = "$expected" ] || fail "$name is not what the release says: its checksum is $found and not $expected; \
nothing was installed"
  mkdir "$work/unpacked"
  tar -xzf "$work/archive" -C "$work/unpacked"
  mkdir -p "$to" || fail "cannot make the folder $to"
  for program in $programs; do
    # Renamed within the folder: whoever runs the old one keeps it, and nobody sees half of the new one.
    cp "$work/unpacked/${name%.tar.gz}/$program" "$to/.$program.new" || fail "cannot write to $to"
    chmod 755 "$to/.$program.new"
  done
  for program in $programs; do mv -f "$to/.$program.new" "$to/$program"; done
  say "$("$to/mcp-bridge" --version) and $("$to/mcp-calculator" --version) are in $to"
  case :$PATH: in
    *":$to:"*) ;;
    *) say "that folder is not in your PATH; add it there, or use the programs by their full names" ;;
  esac
  say 'next: mcp-calculator install --client NAME, or mcp-bridge serve'
}

uninstall() {
  for program in $programs; do
    if [ -e "$to/$program" ]; then
      rm -f "$to/$program"
      say "removed $to/$program"
    fi
  done
  say 'entries in desktop clients, sign-ins and the state of a server stay; see the README'
}

# Everything is in a function, so that half a download of this script does nothing.
main() {
  programs='mcp-bridge mcp-calculator'
  from=${MCP_INSTALL_FROM:-}
  to=
  action=install_it
  while [ $# -gt 0 ]; do
    case $1 in
      --from) from=${2:?--from needs a URL}; shift ;;
      --to) to=${2:?--to needs a folder}; shift ;;
      --uninstall) action=uninstall ;;
      -h | --help) usage; return ;;
      *) usage; fail "what is $1?" ;;
    esac
    shift
  done
  [ -n "$to" ] || to=${HOME:?is not set}/.local/bin
  "$action"
}

main "$@"
