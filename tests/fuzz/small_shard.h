// A shard of a few small blocks, and where its records' headers lie.
#pragma once

#include <cstring>
#include <string>
#include <vector>

#include "storage/file.h"
#include "storage/layout.h"
#include "storage/shard.h"
#include "storage/shard_format.h"

namespace headrace::fuzz {

class SmallShard {
 public:
  static storage::ShardIdentity identity() { return {std::string(32, 'a'), 0, 1}; }

  explicit SmallShard(const std::string& directory) {
    const storage::Layout layout({{"t", 5, 100, 2, 2, {{"weight.high", 2}}, {{"t", {5, 100}, 0}}}});
    std::vector<const storage::BlockLayout*> blocks;
    for (const storage::BlockLayout& block : layout.blocks()) blocks.push_back(&block);
    storage::lay_out_shard(directory, identity(), blocks);
    file_ = storage::File::open(directory + "/data.mdb", storage::OpenMode::kReadWrite);
    std::string bytes(file_.size(), '\0');
    file_.pread_all(std::as_writable_bytes(std::span(bytes)), 0);
    for (const char* magic : {"headrshd", "headrblk"}) {
      for (size_t at = bytes.find(magic); at != std::string::npos; at = bytes.find(magic, at + 1)) {
        header_offsets_.push_back(at);
        std::memcpy(&headers_.emplace_back(), bytes.data() + at, sizeof(storage::BlockHeader));
      }
    }
  }

  const storage::File& file() const { return file_; }
  const std::vector<uint64_t>& header_offsets() const { return header_offsets_; }
  const storage::BlockHeader& header(size_t i) const { return headers_[i]; }

 private:
  storage::File file_;
  std::vector<uint64_t> header_offsets_;
  std::vector<storage::BlockHeader> headers_;
};

}  // namespace headrace::fuzz
