# Building for other platforms than this one, and trying what was built. Sourced after lib.sh.
#
# The compilers are in a Debian root of their own: the Rust of its web browsers comes with the standard
# library for 64-bit ARM, and with its source, which cargo builds for Windows. Its wine runs what was built
# for Windows; the one of Debian 12 lacks a library that Rust's programs need.
#
# Everything runs on this machine's kernel and network; the root's mounts end with each command.

cross_suite=trixie
cross_packages=(
  ca-certificates cargo-web gcc libc6-dev make perl rust-web-src rustc-web
  gcc-mingw-w64-x86-64-win32 wine wine64
  gcc-aarch64-linux-gnu libc6-dev-arm64-cross
)
# Unpacked, and not installed: what it depends on is for running compilers on ARM.
cross_unpacked=libstd-rust-web-dev:arm64

# Makes the root, unless it is there: a minute.
cross_root() {
  need debootstrap debian-archive-keyring
  cross=$PWD/target/tools/cross-$cross_suite-$(sha256sum <<<"${cross_packages[*]} $cross_unpacked" | cut -c1-12)
  cross_enter
  [[ ! -d $cross ]] || return 0
  say "making a Debian $cross_suite root with compilers"
  local new=$cross.part log=$scratch/cross.log mirror _
  rm -rf --one-file-system "$new"
  mkdir -p "$new"
  {
    debootstrap --variant=minbase "$cross_suite" "$new"
    printf 'path-exclude=/usr/share/%s/*\n' doc locale man >"$new/etc/dpkg/dpkg.cfg.d/small"
    # From where debootstrap took it.
    read -r _ mirror _ <"$new/etc/apt/sources.list"
    printf 'deb %s %s main\n' "$mirror" "$cross_suite" "$mirror" "$cross_suite-updates" \
      "$mirror-security" "$cross_suite-security" >"$new/etc/apt/sources.list"
    cp /etc/resolv.conf "$new/etc/resolv.conf"
    chroot "$new" dpkg --add-architecture arm64
    chroot "$new" apt-get update -q
    chroot "$new" env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "${cross_packages[@]}"
    chroot "$new" bash -euc 'cd /tmp && apt-get download -q "$1" && dpkg-deb -x ./*.deb / && rm ./*.deb' _ "$cross_unpacked"
    rm -rf "$new"/var/cache/apt/archives/*.deb "$new"/var/lib/apt/lists/*
    mkdir -p "$new/source" "$new/scratch" "$new/cargo/registry"
  } >"$log" 2>&1 || { tail -20 "$log" >&2; fail 'the root with compilers cannot be made'; }
  mv "$new" "$cross"
}

# Sets `inside` to what comes before a command that is to run in the root. There the repository is /source,
# and $scratch is /scratch. A process that is started so is the command itself in the end.
cross_enter() {
  local registry=${CARGO_HOME:-$HOME/.cargo}/registry
  mkdir -p "$registry"
  # shellcheck disable=SC2016 # The inner shell's variables.
  inside=(unshare --mount --propagation private bash -euc '
    root=$1 scratch=$2 registry=$3
    shift 3
    mount --bind "$PWD" "$root/source"
    mount --bind "$scratch" "$root/scratch"
    mount --bind "$registry" "$root/cargo/registry"
    mount --rbind /dev "$root/dev"
    mount -t proc proc "$root/proc"
    # Who the machine trusts and asks for names, as its own cargo does.
    mount --bind /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
    mount --bind /etc/resolv.conf "$root/etc/resolv.conf"
    exec chroot "$root" env --ignore-environment PATH=/usr/bin:/bin LANG=C.UTF-8 HOME=/scratch "$@"
  ' inside "$cross" "$scratch" "$registry")
}

# Builds for the triple $1 what the arguments after it name, and sets `built` to the folder with it.
#
# Not optimised, but with the compiler's checks of arithmetic: what is tried is whether it compiles, links and
# runs. Warnings in our own packages are errors.
cross_build() {
  local triple=$1
  shift
  say "building for $triple"
  local standard_library=()
  # Without backtraces, which are half of its size.
  [[ $triple != *-windows-* ]] \
    || standard_library=(CARGO_UNSTABLE_BUILD_STD=std,panic_abort CARGO_UNSTABLE_BUILD_STD_FEATURES=panic-unwind)
  "${inside[@]}" "${standard_library[@]}" \
    CARGO_HOME=/cargo CARGO_TARGET_DIR=/source/target/cross CARGO_INCREMENTAL=0 CARGO_TERM_COLOR=never \
    RUSTC_BOOTSTRAP=1 CARGO_UNSTABLE_WARNINGS=true CARGO_BUILD_WARNINGS=deny \
    CARGO_PROFILE_DEV_DEBUG=none CARGO_PROFILE_DEV_STRIP=symbols RUSTFLAGS=-Ctarget-feature=+crt-static \
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
    cargo build --quiet --locked --manifest-path /source/Cargo.toml --target "$triple" "$@"
  built=$PWD/target/cross/$triple/debug
}

# Makes artefacts for the target $1 from the programs in `built`, and prints their paths.
cross_dist() {
  local target=$1
  shift
  cargo xtask dist "$@" --target "$target" --profile "$PACKAGES_PROFILE" --binaries "$built" \
    --host-binaries "$PACKAGES_BINARIES" --output "$PACKAGES_OUTPUT"
}

# One call in the modern era: without a session, with everything in it.
modern_call='{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"_meta":{
  "io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},
  "io.modelcontextprotocol/clientInfo":{"name":"test","version":"1"}},
  "name":"calculator","arguments":{"operation":"multiply","a":6,"b":7}}}'

# A modern call to the calculator at "$@" over stdio.
calculates_modern() {
  local answer
  answer=$(printf '%s\n' "${modern_call//$'\n'/}" | timeout 60 "$@") || fail "$* ended with $?"
  grep -q '"text":"42"' <<<"$answer" || fail "$* did not multiply: $answer"
}

# Waits until the file $1 has the line $2, at most a minute; fails when the process $3 ends before.
awaits() {
  local _
  for _ in {1..600}; do
    ! grep -Eq "$2" "$1" || return 0
    [[ -d /proc/$3 ]] || break
    sleep 0.1
  done
  cat "$1" >&2
  fail "nothing like '$2' was said"
}

# Waits until the process $1 is over, at most a minute, and returns its exit code.
ends() {
  local _
  for _ in {1..600}; do
    [[ $(ps -o stat= -p "$1") == [!Z]* ]] || { wait "$1" 2>/dev/null; return; }
    sleep 0.1
  done
  kill -KILL "$1"
  fail 'the bridge does not end'
}

# How a bridge is started that anybody on this machine may call.
serve=(serve --auth none --listen 127.0.0.1:0)

# Starts the bridge by "$@"; sets `bridge` to its process and `url`.
serves() {
  : >"$scratch/serve.log"
  "$@" 2>"$scratch/serve.log" &
  bridge=$!
  awaits "$scratch/serve.log" 'listening on http' "$bridge"
  url=$(grep -Eo 'http://127\.0\.0\.1:[0-9]+/[^[:space:]]*' "$scratch/serve.log" | head -n 1)
}

# A modern call over HTTP to `url`.
calls() {
  local answer
  answer=$(curl --silent --show-error --noproxy '*' --max-time 60 "$url" \
    -H 'Content-Type: application/json' -H 'Accept: application/json, text/event-stream' \
    -H 'MCP-Protocol-Version: 2026-07-28' -H 'Mcp-Method: tools/call' -H 'Mcp-Name: calculator' \
    -d "$modern_call") || { cat "$scratch/serve.log" >&2; fail "no answer from $url"; }
  grep -q '"text":"42"' <<<"$answer" || { cat "$scratch/serve.log" >&2; fail "a wrong answer: $answer"; }
}
