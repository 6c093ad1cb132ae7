#!/usr/bin/env bash
# Does the workspace still compile for Windows, macOS and ARM Linux?
#
# Runs `cargo check` of every production crate for the targets below, with warnings denied. Nothing is linked and
# nothing is run. A rustup toolchain carries the standard library of its own host only, so the compiler, cargo and the
# library's source come from Debian's `rustc-web` packages (unpacked into a cache, not installed) and `-Zbuild-std`
# makes the library for each target. C code in dependencies (ring, SQLite) is compiled by zig, a wheel on PyPI.
#
# usage: scripts/cross-check.sh [TARGET]...          default: all three
set -euo pipefail
cd "$(dirname "$0")/.."

ALL_TARGETS=(x86_64-pc-windows-gnu aarch64-apple-darwin aarch64-unknown-linux-musl)
ZIG_VERSION=0.17.0
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/meshd-cross
WORKSPACE=${CROSS_CHECK_WORKSPACE:-$PWD}

main() {
  local targets=("$@") target failed=()
  [ ${#targets[@]} -gt 0 ] || targets=("${ALL_TARGETS[@]}")
  for target in "${targets[@]}"; do zig_target "$target" >/dev/null; done
  mkdir -p "$CACHE"
  fetch_rust
  fetch_zig
  for target in "${targets[@]}"; do
    check "$target" || failed+=("$target")
  done
  [ ${#failed[@]} -eq 0 ] || die "does not compile for: ${failed[*]}"
}

die() {
  echo "cross-check: $*" >&2
  exit 1
}

# Checks all workspace members outside tests/ for one target.
check() {
  local target=$1 start=$SECONDS manifest name id args=(--workspace)
  for manifest in "$WORKSPACE"/tests/*/Cargo.toml; do
    [ -f "$manifest" ] || continue
    name=$(sed -n 's/^name = "\(.*\)"$/\1/p' "$manifest" | head -n 1)
    args+=(--exclude "$name")
  done
  id=${target//-/_}
  echo "--- cargo check for $target"
  # The build runs in a clean compiler environment: the outer cargo's variables name another toolchain.
  # Optimising build scripts and macros costs more than it saves when nothing is code-generated for the target.
  env -u CARGO -u RUSTDOC -u RUSTUP_TOOLCHAIN -u CARGO_ENCODED_RUSTFLAGS \
    PATH="$RUST/usr/bin:$CACHE/bin:$PATH" RUSTC="$RUST/usr/bin/rustc" RUSTC_BOOTSTRAP=1 \
    LD_LIBRARY_PATH="$(library_path)" RUSTFLAGS="-D warnings" CARGO_INCREMENTAL=0 \
    CARGO_TARGET_DIR="$WORKSPACE/target/cross" \
    "CC_$id=$(compiler_wrapper "$target")" "AR_$id=$CACHE/bin/zig-ar" \
    "$RUST/usr/bin/cargo" check -Zbuild-std=std,panic_abort -Zbuild-std-features= --target "$target" \
    --manifest-path "$WORKSPACE/Cargo.toml" --config 'profile.dev.package."*".opt-level=0' \
    --keep-going "${args[@]}" || return 1
  echo "--- $target: pass, $((SECONDS - start)) s"
}

# Prints zig's name for a Rust target.
zig_target() {
  case $1 in
    x86_64-pc-windows-gnu) echo x86_64-windows-gnu ;;
    aarch64-apple-darwin) echo aarch64-macos ;;
    aarch64-unknown-linux-musl) echo aarch64-linux-musl ;;
    *) die "unknown target $1; known: ${ALL_TARGETS[*]}" ;;
  esac
}

# Unpacks Debian's compiler, cargo and library source, with what they need and the system lacks. Sets RUST.
fetch_rust() {
  local version wanted
  command -v apt-get >/dev/null && command -v dpkg >/dev/null ||
    die "needs the packages rustc-web, cargo-web and rust-web-src of Debian 12 or later; this system has no apt-get"
  version=$(candidate rustc-web)
  if [ -z "$version" ]; then
    as_root apt-get update -q >/dev/null
    version=$(candidate rustc-web)
  fi
  [ -n "$version" ] ||
    die "apt has no package rustc-web; add Debian's 'bookworm-security' (or a later release) to the apt sources"
  wanted=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' "$WORKSPACE/Cargo.toml" | head -n 1)
  dpkg --compare-versions "$version" ge "${wanted:-0}" ||
    die "apt offers rustc-web $version, the workspace needs $wanted; enable Debian's security archive and run 'apt-get update'"
  RUST=$CACHE/rust-$version
  [ ! -e "$RUST/complete" ] || return 0
  echo "--- unpacking rustc-web $version into $CACHE (once)"
  rm -rf "$RUST"
  mkdir -p "$RUST/debs"
  download_rust "$RUST/debs"
  local deb
  for deb in "$RUST"/debs/*.deb; do dpkg -x "$deb" "$RUST"; done
  rm -rf "$RUST/debs"
  LD_LIBRARY_PATH=$(library_path) "$RUST/usr/bin/rustc" --version
  touch "$RUST/complete"
}

# Downloads the three packages and those of their dependencies that are not installed here.
download_rust() {
  local dir=$1 list
  list=$(apt-get install --print-uris -qq -y --no-install-recommends rustc-web cargo-web rust-web-src) ||
    die "apt cannot resolve rustc-web, cargo-web and rust-web-src"
  # Each line is: 'URI' file size checksum. File names are package_version_architecture.deb, with ':' written as %3a.
  list=$(sed -n "s/^'[^']*' \([^_ ]*\)_\([^_ ]*\)_.*/\1=\2/p" <<<"$list" | sed 's/%3a/:/g')
  # shellcheck disable=SC2086 # a list of words
  (cd "$dir" && apt-get download -q $list) || die "cannot download: $list"
}

candidate() {
  apt-cache policy "$1" 2>/dev/null | sed -n 's/^ *Candidate: \([0-9].*\)$/\1/p'
}

library_path() {
  printf '%s:' "$RUST"/usr/lib/*-linux-gnu "$RUST/usr/lib"
}

# Installs zig from PyPI into the cache and writes the archiver wrapper. Sets ZIG.
fetch_zig() {
  local venv=$CACHE/zig-$ZIG_VERSION
  if [ ! -e "$venv/complete" ]; then
    echo "--- installing zig $ZIG_VERSION into $CACHE (once)"
    python3 -c 'import venv, ensurepip' 2>/dev/null ||
      { as_root apt-get update -q && as_root apt-get install -qq -y python3-venv; } >/dev/null ||
      die "cannot install python3-venv"
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check "ziglang==$ZIG_VERSION" ||
      die "cannot install ziglang $ZIG_VERSION from PyPI"
    touch "$venv/complete"
  fi
  ZIG=$(echo "$venv"/lib/python3*/site-packages/ziglang/zig)
  [ -x "$ZIG" ] || die "no zig program in $venv; remove that directory and try again"
  mkdir -p "$CACHE/bin"
  write_script "$CACHE/bin/zig-ar" <<<"exec '$ZIG' ar \"\$@\""
  # rustc calls this program by name to make the import libraries of Windows' system calls.
  write_script "$CACHE/bin/x86_64-w64-mingw32-dlltool" <<<"exec '$ZIG' dlltool \"\$@\""
}

# Writes the C compiler for a target and prints its path. The build scripts' own target flags are in clang's
# spelling, which zig does not know; the wrapper drops them and gives zig's. The sanitizer that zig adds to unoptimised
# code makes SQLite take three times as long, for a program that is never run.
compiler_wrapper() {
  local path=$CACHE/bin/zig-cc-$1
  write_script "$path" <<END
args=()
while [ \$# -gt 0 ]; do
  case \$1 in
    --target=* | -mmacosx-version-min=*) ;;
    -arch) shift ;;
    *) args+=("\$1") ;;
  esac
  shift
done
exec '$ZIG' cc -target $(zig_target "$1") -fno-sanitize=undefined "\${args[@]}"
END
  echo "$path"
}

# Puts standard input behind a shebang into an executable file, in one step for runs side by side.
write_script() {
  { echo '#!/usr/bin/env bash'; cat; } >"$1.$$"
  chmod +x "$1.$$"
  mv -f "$1.$$" "$1"
}

as_root() {
  if [ "$(id -u)" = 0 ]; then
    DEBIAN_FRONTEND=noninteractive "$@"
  else
    sudo DEBIAN_FRONTEND=noninteractive "$@"
  fi
}

main "$@"
