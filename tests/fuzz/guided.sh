#!/usr/bin/env bash
# Fuzzes one target with libFuzzer, guided by coverage. Needs a nightly compiler: rustup toolchain install nightly
#
# usage: tests/fuzz/guided.sh TARGET [LIBFUZZER OPTION]...      such as: tests/fuzz/guided.sh node -max_total_time=600
#
# New inputs are kept beside the build, crashes are written to the current directory. Move what is worth keeping to
# tests/fuzz/corpus/TARGET/.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
target=${1:?usage: tests/fuzz/guided.sh TARGET [LIBFUZZER OPTION]...}
shift
[ -d "$here/corpus/$target" ] || { echo "no target '$target'; there are: $(ls "$here/corpus" | xargs)" >&2; exit 2; }
build=$here/../../target/guided
flags="--cfg fuzzing -Cdebug-assertions -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4"
flags+=" -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table"
# With a target named, the flags spare build scripts and macros.
host=$(rustc +nightly -vV | sed -n 's/^host: //p')
RUSTFLAGS=$flags cargo +nightly build --release --target "$host" \
  --manifest-path "$here/guided/Cargo.toml" --target-dir "$build"
mkdir -p "$build/found/$target"
FUZZ_TARGET=$target exec "$build/$host/release/guided" "$build/found/$target" "$here/corpus/$target" "$@"
