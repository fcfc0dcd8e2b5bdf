// Checks an LMDB data file before LMDB maps it, with pread only. LMDB trusts its file: flipped bits kill the
// process by signal, or silently open an older state. A file that passes has two sane meta pages at most one
// transaction apart; every page is reached exactly once, from the tree, from the tree of free pages or from a
// list of free pages; every node, key and overflow run lies within its bounds; keys are in order.
//
// Only environments as this project writes them pass: LMDB 0.9's data version 1, one unnamed database, no
// duplicates. Memory is bounded by the file's length (a bit a page and 32 pages). Works on a file that nobody
// writes; for any thread. Throws Error: kCorrupt naming file and offset, kFailed when a read fails.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "storage/file.h"

namespace headrace::storage {

struct LmdbFile {
  uint32_t page_bytes = 0;
  uint64_t transaction = 0;  // the newest
  uint64_t last_page = 0;
  uint64_t file_bytes = 0;
  uint64_t entries = 0;
  std::string structure;  // XXH3-128 of every byte read, as hexadecimal digits; overflow runs count with
                          // their first page alone
};

// A value as the walk meets it, in the order of keys. Views are valid during the call only.
struct LmdbValue {
  std::string_view key;
  uint64_t bytes = 0;
  uint64_t page = 0;                  // first page of its overflow run; 0: it lies within a leaf
  std::span<const std::byte> prefix;  // of the value: all of it, or what lies on the first page of its run
};
using LmdbVisitor = std::function<void(const LmdbValue&)>;

// `exact_length`: the file ends with its last page, as a shard's does. Otherwise free pages at the end may
// never have been written, and the file may be longer.
LmdbFile check_lmdb_file(const File& file, bool exact_length, const LmdbVisitor& visitor = nullptr);

}  // namespace headrace::storage
