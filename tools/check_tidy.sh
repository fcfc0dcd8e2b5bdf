#!/bin/bash
# Runs clang-tidy over all sources, or those given: minutes a core. Needs build/clang/compile_commands.json.
set -euo pipefail
export PATH=/usr/bin:/bin:$PATH
cd "$(dirname "${BASH_SOURCE[0]}")/.."

tools/install_packages.sh --checks
[[ -f build/clang/compile_commands.json ]] || cmake --preset clang >/dev/null
if (($#)); then sources=("$@"); else mapfile -t sources < <(git ls-files -- 'storage/*.cc' 'engine/*.cc' 'models/*.cc' 'tools/*.cc'); fi
printf '%s\0' "${sources[@]}" | xargs -0 -P "$(nproc)" -n 1 clang-tidy-14 --quiet -p build/clang
