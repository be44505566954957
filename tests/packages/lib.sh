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

# A Debian system with systemd in the folder $1, as it is after its installation. Kept as an archive
# in target/tools: making it takes a minute.
debian_root() {
  need debootstrap debian-archive-keyring zstd
  # Besides systemd: the shells whose completions are tried, a runtime that compiles while it runs, and
  # the other package manager.
  local packages=systemd,systemd-sysv,libnss-systemd,dbus,man-db,bash-completion,zsh,fish,ca-certificates,nodejs,rpm
  local archive
  archive=$PWD/target/tools/debian-bookworm-$(sha256sum <<<"$packages" | cut -c1-12).tar.zst
  if [[ ! -s $archive ]]; then
    say 'making a Debian root'
    mkdir -p target/tools
    debootstrap --variant=minbase --include="$packages" bookworm "$scratch/debian" >"$scratch/debootstrap.log" 2>&1 \
      || { tail -20 "$scratch/debootstrap.log" >&2; fail 'debootstrap cannot make a Debian root'; }
    rm -rf "$scratch"/debian/var/cache/apt/archives/*.deb
    tar -C "$scratch/debian" --zstd --numeric-owner -cf "$archive.part" .
    mv "$archive.part" "$archive"
    rm -rf --one-file-system "$scratch/debian"
  fi
  mkdir -p "$1"
  tar -C "$1" --numeric-owner -xpf "$archive"
}

# What is in the root $1: every path, and a checksum of each file in /etc. Leaves out what package
# managers and their triggers write for themselves.
inventory() {
  (cd "$1" && find . -xdev \( -path ./proc -o -path ./sys -o -path ./dev -o -path ./run -o -path ./tmp \
    -o -path ./var/lib/dpkg -o -path ./var/lib/rpm -o -path ./var/cache -o -path ./var/log/dpkg.log \) -prune \
    -o -print | sort && find ./etc -type f -print0 | sort -z | xargs -0 sha256sum)
}

# Makes the package $1 again as an older one: with the version $2, and other words in its settings.
older_deb() {
  local tree=$scratch/older-tree package=$scratch/older.deb
  rm -rf "$tree"
  dpkg-deb --raw-extract "$1" "$tree"
  sed -i "s/^Version: .*/Version: $2/" "$tree/DEBIAN/control"
  echo '# An older version said this.' >>"$tree/etc/mcp-bridge/bridge.toml"
  dpkg-deb --root-owner-group -Zgzip -z1 --build "$tree" "$package" >/dev/null
  printf '%s\n' "$package"
}

# Installs what the folder $1 names, unless it is there; its programs are in $node_bin then.
node_packages() {
  local made_from=$1/node_modules/.made-from
  node_bin=$PWD/$1/node_modules/.bin
  cmp -s "$made_from" <(sha256sum "$1/package.json" "$1/package-lock.json") && return
  say "installing the Node packages of $1"
  npm ci --prefix "$1" --loglevel=error >&2 || fail "the Node packages of $1 cannot be installed"
  sha256sum "$1/package.json" "$1/package-lock.json" >"$made_from"
}

# Installs what tests/packages/python names, unless it is there; its programs are in $python_bin then.
python_packages() {
  local requirements=tests/packages/python/requirements.txt venv=target/tools/python
  python_bin=$PWD/$venv/bin
  cmp -s "$venv/.made-from" <(sha256sum "$requirements") && return
  say 'installing Python packages'
  mkdir -p target/tools
  python3 -m venv --clear "$venv"
  "$python_bin/python" -m pip install --quiet --disable-pip-version-check --no-deps -r "$requirements" >&2 \
    || fail 'Python packages cannot be installed'
  "$python_bin/python" -m pip --disable-pip-version-check check >/dev/null || fail 'a Python package is missing'
  sha256sum "$requirements" >"$venv/.made-from"
}

# Waits until the file $1 has a line like $2, while the process $3 lives; a minute at most.
awaits_line() {
  local _
  for _ in {1..600}; do
    ! grep -q -- "$2" "$1" 2>/dev/null || return 0
    [[ -d /proc/$3 ]] || break
    sleep 0.1
  done
  fail "no line like $2: $(cat "$1")"
}

# Waits until the process $1, which this shell has started, is over, a minute at most; sets `code` to its exit code.
waits_for() {
  local _
  for _ in {1..600}; do
    if [[ $(ps -o stat= -p "$1") != [!Z]* ]]; then
      code=0
      wait "$1" 2>/dev/null || code=$?
      return 0
    fi
    sleep 0.1
  done
  fail "process $1 does not end: $(ps -o args= -p "$1")"
}

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
