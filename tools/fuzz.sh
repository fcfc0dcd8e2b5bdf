#!/bin/bash
# Fuzzes every parser of bytes from outside for MINUTES each, as many at a time as there are cores, and prints
# the executions of each: tools/fuzz.sh [MINUTES] [TARGET...]      (default: 10 minutes, all targets)
# Inputs that reach new code are kept in build/fuzz/corpus/TARGET for the next time; an input that breaks a
# target is left in build/fuzz/found/.
set -euo pipefail
export PATH=/usr/bin:/bin:/usr/sbin:/sbin:$PATH
cd "$(dirname "${BASH_SOURCE[0]}")/.."

minutes=${1:-10}
shift || true
tools/install_packages.sh --checks
cmake --preset fuzz >/dev/null
cmake --build --preset fuzz
build=build/fuzz
if (($#)); then targets=("$@"); else
  mapfile -t targets < <(cd tests/fuzz && ls ./*_fuzz.cc | sed 's|./\(.*\)_fuzz.cc|\1|')
fi
mkdir -p "$build/found"

fuzz_one() {  # fuzz_one TARGET SECONDS
  local target=$1 seconds=$2 build=build/fuzz
  mkdir -p "$build/corpus/$target"
  local status=0
  "$build/tests/fuzz/${target}_fuzz" -max_total_time="$seconds" -print_final_stats=1 -rss_limit_mb=1024 \
    -malloc_limit_mb=128 -timeout=20 -max_len=65536 -artifact_prefix="$build/found/$target-" \
    "$build/corpus/$target" "$build/seeds/$target" >"$build/found/$target.log" 2>&1 || status=$?
  local executions
  executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$build/found/$target.log")
  if ((status)); then
    printf '%-20s %12s executions, BROKEN: see %s\n' "$target" "${executions:-?}" "$build/found/$target.log"
  else
    printf '%-20s %12s executions, nothing found\n' "$target" "$executions"
  fi
  return "$status"
}
export -f fuzz_one
printf '%s\n' "${targets[@]}" | xargs -P "$(nproc)" -I{} bash -c "fuzz_one {} $((minutes * 60))"
