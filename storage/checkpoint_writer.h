// Writes a checkpoint: takes the content of blocks as it is at hand, in any order and from several threads,
// and makes it appear as a whole, or not at all. Packs whose blocks have not changed since an earlier
// checkpoint of the same run become hard links into that one (copies where links fail).
//
// Ownership: holds its memory for as long as it lives; the layout must outlive it. Threads: needs() and
// add_pieces() from any, for different pieces; the rest from one at a time. Failure: Error (IoError for a
// full disk); then discard().
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "storage/checkpoint_format.h"
#include "storage/codec.h"
#include "storage/layout.h"
#include "storage/pack_writer.h"

namespace headrace::storage {

struct CheckpointOptions {
  int level = 1;         // of zstd
  uint32_t workers = 1;  // pieces that may be compressed at a time; more callers wait
  // Told what has just happened, for tests: "begun", "packs", "manifest", "published".
  std::function<void(const char* event)> at;
};

struct CheckpointTarget {
  std::string directory;        // that will appear; its parent may be missing
  CheckpointManifest manifest;  // without tensors and packs
  std::string earlier;          // a checkpoint of the same run, or empty
  // The step that gave a block the content to be saved. Within a run, block and step say what the content is.
  std::function<uint64_t(BlockId block)> written_step;
};

struct CheckpointStats {
  uint64_t content_bytes = 0;   // of all blocks' planes
  uint64_t stored_bytes = 0;    // of all packs
  uint64_t linked_bytes = 0;    // of those, in packs that an earlier checkpoint holds too
  double compress_seconds = 0;  // of all threads' processor time
};

class CheckpointWriter {
 public:
  CheckpointWriter(const Layout& layout, const CheckpointOptions& options);
  ~CheckpointWriter();  // discards what is unfinished
  // What one takes of memory, frames of its largest checkpoint included.
  static uint64_t memory_bytes(const Layout& layout, const CheckpointOptions& options);

  void begin(CheckpointTarget target);
  bool active() const { return target_.has_value(); }
  // Whether all content of the block is still to be added.
  bool needs(BlockId block) const;
  // The block's planes that this checkpoint holds: a contiguous range.
  PlaneRange planes(BlockId block) const;
  uint32_t piece_count(BlockId block) const;
  // Compresses pieces [first, last) of a block. `plane_data` gives a plane's content by its index.
  using PlaneData = std::function<const std::byte*(uint32_t plane)>;
  void add_pieces(BlockId block, uint32_t first, uint32_t last, const PlaneData& plane_data);

  // All blocks have been added: makes everything durable and lets the checkpoint appear.
  CheckpointStats publish();
  void discard();

 private:
  // Blocks that changed since the earlier checkpoint and those that did not go to packs of their own.
  enum Stream : uint32_t { kChanged, kUnchanged, kStreams };
  struct Pack {
    PackInfo info;
    std::vector<std::byte> table;
    uint32_t file = 0;  // of pack_writer_
  };
  struct PieceOfBlock {
    uint32_t plane = 0, piece = 0;
  };

  PieceOfBlock piece_at(BlockId block, uint32_t index) const;
  Compressor& borrow();
  void give_back(Compressor& compressor, double seconds);
  void store_piece(Frame frame, std::span<const std::byte> packed);
  void count_frame(const Frame& frame);
  std::string path_of(size_t pack) const;
  void link_unchanged(const CheckpointTarget& target);
  size_t pack_for(Stream stream);
  void close_pack(Pack& pack);
  void write_manifest();
  void at(const char* event) const;

  const Layout& layout_;
  CheckpointOptions options_;
  std::vector<Compressor> compressors_;
  PackWriter pack_writer_;

  std::optional<CheckpointTarget> target_;
  std::string unfinished_;
  std::string durable_parent_;  // of targets: its name is on disk
  mutable std::mutex mutex_;
  std::condition_variable returned_;
  std::vector<Compressor*> idle_;
  std::vector<Pack> packs_;
  std::array<std::optional<size_t>, kStreams> current_;
  std::vector<uint32_t> missing_;  // pieces of each block still to be added
  CheckpointStats stats_;
};

}  // namespace headrace::storage
