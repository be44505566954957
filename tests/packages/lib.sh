# What the parts of tests/packages/run share. Sourced by each of them, from the repository's root.
set -euo pipefail

say() { printf '  %s\n' "$*" >&2; }
fail() { printf 'tests/packages: FAILED: %s\n' "$*" >&2; exit 1; }

# Installs the Debian packages that are missing.
need() {
  local missing=() package
  for package; do
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || missing+=("$package")
  done
  ((${#missing[@]} == 0)) && return
  say "installing ${missing[*]}"
  [[ -n ${apt_updated:-} ]] || { apt-get update -q >/dev/null; apt_updated=1; }
  DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "${missing[@]}" >/dev/null
}

# Makes artefacts from the programs that tests/packages/run has built, and prints their paths.
dist() {
  cargo xtask dist "$@" --profile "$PACKAGES_PROFILE" --binaries "$PACKAGES_BINARIES" --output "$PACKAGES_OUTPUT"
}

# A folder that is gone when the part ends.
scratch=$(mktemp -d "${TMPDIR:-/tmp}/packages.XXXXXX")
trap 'rm -rf --one-file-system "$scratch"' EXIT

# Two calls to the calculator at "$@" over stdio: its two protocol eras.
calculates() {
  local answer
  answer=$(printf '%s\n' \
    '{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"test","version":"1"}}}' \
    '{"jsonrpc":"2.0","method":"notifications/initialized"}' \
    '{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"calculator","arguments":{"operation":"add","a":6,"b":7}}}' \
    | timeout 60 "$@") || fail "$* ended with $?"
  grep -q '"text":"13"' <<<"$answer" || fail "$* did not add: $answer"
}
