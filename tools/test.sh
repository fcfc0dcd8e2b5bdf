#!/bin/bash
# Installs what is missing, builds, and runs all tests: tools/test.sh [PRESET] [ctest arguments...]
# PRESET: release (default), debug; asan+ubsan, tsan, clang, fuzz (tools/install_packages.sh --checks). The build goes to build/PRESET.
set -euo pipefail
export PATH=/usr/bin:/bin:/usr/sbin:/sbin:$PATH  # Debian's cmake, whatever else is installed
cd "$(dirname "${BASH_SOURCE[0]}")/.."

preset=${1:-release}
shift || true
tools/install_packages.sh
cmake --preset "$preset"
cmake --build "build/$preset"
ctest --preset "$preset" --parallel "$(nproc)" "$@"
