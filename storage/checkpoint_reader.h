// Reads checkpoints, which may come from anywhere: every size and name is checked before it is used, and
// every byte before it counts.
//
// Ownership: holds the packs' descriptors. Threads: any, each with a Workspace of its own. Failure: Error;
// kCorrupt names file, offset and tensor; kUsage for what is no checkpoint, or one of a later version.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "storage/checkpoint_format.h"
#include "storage/codec.h"
#include "storage/fault_list.h"
#include "storage/file.h"
#include "storage/layout.h"

namespace headrace::storage {

// The manifest alone: what a checkpoint holds, without looking at its packs.
CheckpointManifest read_manifest(const std::string& checkpoint);
// Whether the packs are there, with the sizes and headers that the manifest says. Throws Error (kCorrupt).
void check_packs(const std::string& checkpoint, const CheckpointManifest& manifest);

class CheckpointReader {
 public:
  // Opens the packs, and reads their tables. With `faults` a pack that is damaged or cannot be read is no
  // end: what is wrong with it is added there, and read() throws for the pieces that are missing.
  explicit CheckpointReader(const std::string& checkpoint, FaultList* faults = nullptr);

  const std::string& path() const { return path_; }
  const CheckpointManifest& manifest() const { return manifest_; }
  const Layout& layout() const { return layout_; }
  bool has_plane(TensorId tensor, uint32_t plane) const;
  // With `faults`, those whose records are sound.
  std::vector<Frame> frames_of(size_t pack, FaultList* faults = nullptr) const;
  uint64_t stored_bytes() const;  // of all packs

  // What one thread needs; keeps the last piece that was read in part.
  class Workspace {
   public:
    Workspace();

   private:
    friend class CheckpointReader;
    Decompressor decompressor_;
    std::vector<std::byte> packed_, piece_;
    uint64_t frame_ = ~uint64_t{0};  // that piece_ holds
  };
  // Values of a plane of a tensor (row-major) from that of element `first_element` on, the first of its
  // group; as many as `values` takes.
  void read(TensorId tensor, uint32_t plane, uint64_t first_element, std::span<std::byte> values,
            Workspace& workspace) const;
  // The end of the piece that holds `element`: an element too.
  uint64_t piece_end(TensorId tensor, uint32_t plane, uint64_t element) const;

 private:
  struct Place {
    uint32_t pack = ~uint32_t{0};
    Frame frame;
  };

  void read_table(uint32_t pack, FaultList* faults);
  void check_frames() const;
  uint64_t frame_index(BlockId block, uint32_t plane, uint32_t piece) const;
  void read_piece(uint64_t index, std::span<std::byte> content, Workspace& workspace) const;
  [[noreturn]] void corrupt(const Place& place, const std::string& why) const;
  [[noreturn]] void missing(const BlockLayout& block, uint32_t plane) const;

  std::string path_;
  CheckpointManifest manifest_;
  std::vector<File> packs_;
  Layout layout_;
  std::vector<uint64_t> first_frame_;  // of each block in frames_
  std::vector<Place> frames_;          // by block, plane, piece
};

}  // namespace headrace::storage
