#!/bin/bash
# Installs what building, testing and the demo need, on Debian 12. Does nothing, fast, when all is there.
# The one list of packages; tools/demo.sh, tools/test.sh and .ci/run call this.
set -euo pipefail

packages=(
  g++ cmake ninja-build pkg-config
  libtbb-dev liburing-dev liblmdb-dev libxxhash-dev libzstd-dev zlib1g-dev libhwy-dev
  libcli11-dev libtomlplusplus-dev nlohmann-json3-dev libfmt-dev
  libjs-chart.js
  libgtest-dev libgmock-dev e2fsprogs mount
  bible-kjv bible-kjv-text dataset-fashion-mnist
)
if [[ " $* " == *" --checks "* ]]; then
  packages+=(clang-14 clang-format-14 clang-tidy-14 libclang-rt-14-dev)
fi

missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f '${Status}\n' "$package" 2>/dev/null | grep -q '^install ok installed$' || missing+=("$package")
done
if ((${#missing[@]} == 0)); then exit 0; fi

as_root=()
if ((EUID != 0)); then
  command -v sudo >/dev/null || {
    echo "missing packages: ${missing[*]}" >&2
    echo "what to do: install them as root (apt-get install ${missing[*]}), then start this again" >&2
    exit 1
  }
  as_root=(sudo)
fi
echo "installing ${missing[*]}" >&2
export DEBIAN_FRONTEND=noninteractive
install=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}")
# Package lists that are missing or old make the first try fail.
"${install[@]}" >&2 || { "${as_root[@]}" apt-get update >&2 && "${install[@]}" >&2; }
