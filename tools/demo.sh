#!/bin/bash
# Trains GPT-2 (124 million parameters, 1.4 GiB of parameters and optimizer state) on the King James Bible in
# 256 MiB of memory: installs what is missing, builds, prepares the text, trains for a few minutes.
# Everything it makes lies in build/. Start it again to go on from where it was stopped.
#   tools/demo.sh [STEPS]      (default 30)
set -euo pipefail
export PATH=/usr/bin:/bin:/usr/sbin:/sbin:/usr/games:$PATH  # Debian's cmake, whatever else is installed
cd "$(dirname "${BASH_SOURCE[0]}")/.."

steps=${1:-30}
folder=build/demo
text=$folder/bible.txt
run=$folder/run

tools/install_packages.sh
mkdir -p build
cmake --preset release -DHEADRACE_TESTS=OFF -B build/demo-release >"build/demo-configure.log" 2>&1 || {
  cat build/demo-configure.log >&2
  exit 1
}
echo "building headrace ..."
cmake --build build/demo-release --target headrace -- --quiet

mkdir -p "$folder"
if [[ ! -s $text ]]; then
  # One verse a line: "Ge1:1 In the beginning God created the heaven and the earth."
  bible -f 'gen1:1-rev22:21' </dev/null >"$text.new"
  [[ $(wc -c <"$text.new") -gt 4000000 ]] || {
    echo "the Bible's text came out too short; is the package bible-kjv-text installed?" >&2
    exit 1
  }
  mv "$text.new" "$text"
fi
echo "training on $text: $(wc -c <"$text") bytes"
echo
exec build/demo-release/headrace train "$run" --model gpt2 --data "$text" --memory 256MiB --steps "$steps" \
  --batch 4 --seq 256 --lr 6e-4 --warmup 5
