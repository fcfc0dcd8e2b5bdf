// What a checkpoint's files hold: a manifest, and packs of compressed pieces of planes. Encoding, and parsing
// of what may come from anywhere: every function here that takes bytes takes any bytes. docs/formats.md has
// the description.
//
// Pure functions for any thread. Failure: Error; kCorrupt for bytes that are not what was written, kUsage for
// a checkpoint of a later version. `path` is for messages.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "storage/codec.h"
#include "storage/layout.h"

namespace headrace::storage {

inline constexpr uint64_t kPieceBytes = uint64_t{1} << 20;  // most content of a piece
inline constexpr uint64_t kMostManifestBytes = uint64_t{16} << 20;
inline constexpr uint32_t kMostPacks = 1 << 20;
inline constexpr uint64_t kMostFrames = uint64_t{1} << 22;  // of a checkpoint

// A pack: one file of a checkpoint.
struct PackInfo {
  std::string id;               // 32 hexadecimal digits, also in its header
  uint64_t bytes = 0;           // of the file
  uint64_t table_offset = 0;    // where the frames end and their table begins
  uint64_t table_checksum = 0;  // XXH3
};
std::string pack_name(size_t pack);  // "pack-00000": the file of packs[0]

struct CheckpointManifest {
  std::string run_id;  // of the run that was saved
  uint64_t step = 0;
  bool weights_only = false;  // only planes "weight.*"
  bool automatic = false;     // taken by the training: --keep may remove it
  std::string model_json, cursor_json;
  std::string configuration;  // the run's options, as text that this room does not understand
  std::vector<TensorSpec> tensors;
  std::vector<uint64_t> stored_bytes;  // of each tensor's frames in the packs
  std::vector<PackInfo> packs;
};

// "manifest.json", with a checksum over itself. Throws Error (kUsage) for names that are not text, and for
// more tensors than a manifest has room for.
std::string encode_manifest(const CheckpointManifest& manifest);
CheckpointManifest parse_manifest(std::string_view text, const std::string& path);
// The layout of its tensors; kCorrupt where that makes no sense or has more blocks than the packs have
// frames. The packs' sizes should have been compared with the files first.
Layout layout_of(const CheckpointManifest& manifest, const std::string& path);

// The first bytes of a pack.
inline constexpr size_t kPackHeaderBytes = 64;
using PackHeader = std::array<std::byte, kPackHeaderBytes>;
PackHeader encode_pack_header(std::string_view id);
void check_pack_header(std::span<const std::byte> bytes, const PackInfo& pack, const std::string& path);

// A piece of a plane, compressed on its own.
struct Frame {
  BlockId block = 0;
  uint32_t plane = 0, piece = 0;
  Split split = Split::kNone;
  uint64_t offset = 0;                                 // in the pack
  uint32_t packed_bytes = 0, content_bytes = 0;        // equal: not compressed
  uint64_t packed_checksum = 0, content_checksum = 0;  // XXH3
  uint64_t written_step = 0;                           // that gave the block this content
};
inline constexpr size_t kFrameRecordBytes = 64;
void append_record(const Frame& frame, std::vector<std::byte>& table);
// A record of a table, checked on its own and against the layout and the pack.
Frame parse_record(std::span<const std::byte> record, const Layout& layout, const PackInfo& pack,
                   const std::string& path, uint64_t offset_in_file);

bool is_weight_plane(const Plane& plane);
bool holds_plane(const CheckpointManifest& manifest, const Plane& plane);

// How a plane of a block is cut into pieces.
uint64_t piece_elements(const Plane& plane);  // values; of all but the last
uint32_t piece_count(const BlockLayout& block, const Plane& plane);
uint64_t piece_bytes(const BlockLayout& block, const Plane& plane, uint32_t piece);

}  // namespace headrace::storage
