#!/bin/bash
# Checks the layout of all sources, and that every header compiles alone. --fix lays the sources out.
set -euo pipefail
export PATH=/usr/bin:/bin:$PATH
cd "$(dirname "${BASH_SOURCE[0]}")/.."

mapfile -t sources < <(git ls-files -- '*.cc' '*.h')
if [[ ${1:-} == --fix ]]; then
  exec clang-format-14 -i "${sources[@]}"
fi
clang-format-14 --dry-run -Werror "${sources[@]}"

# Highway's -inl.h are compiled as part of a file, once for each target.
mapfile -t headers < <(git ls-files -- '*.h' | grep -v -- '-inl\.h$')
printf '%s\0' "${headers[@]}" | xargs -0 -P "$(nproc)" -I{} \
  g++ -std=c++20 -fsyntax-only -Wall -Wextra -I. -include {} -x c++ /dev/null
echo "${#sources[@]} files are laid out as they should; ${#headers[@]} headers compile alone"
