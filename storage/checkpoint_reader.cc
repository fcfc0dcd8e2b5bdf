#include "storage/checkpoint_reader.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <utility>

#include "storage/checkpoint_dir.h"
#include "storage/checksum.h"
#include "storage/error.h"
#include "storage/text.h"

namespace headrace::storage {
namespace {

constexpr const char* kAdvice = "Take another checkpoint, or another copy of this one";

[[noreturn]] void damaged(const std::string& path, const std::string& why) {
  throw Error(ErrorKind::kCorrupt, fmt::format("{}: {}", path, why), kAdvice);
}

// A file of a checkpoint: no link that leads elsewhere, and nothing that opening or reading could wait for.
File open_inside(const std::string& path) {
  File file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK), path);
  if (!file.is_open()) {
    if (errno == ENOENT || errno == ELOOP)
      damaged(path, errno == ELOOP ? "it is a symbolic link" : "it is missing");
    throw Error(ErrorKind::kFailed, fmt::format("cannot open {}: {}", path, system_text(errno)));
  }
  struct stat status {};
  if (::fstat(file.descriptor(), &status) != 0 || !S_ISREG(status.st_mode)) damaged(path, "it is no file");
  return file;
}

// Pickles are programs: whoever loads one runs what its author wrote.
bool looks_like_pickle(std::span<const std::byte> start) {
  const auto byte = [&](size_t i) { return i < start.size() ? std::to_integer<int>(start[i]) : -1; };
  const bool pickle = byte(0) == 0x80 && byte(1) >= 2 && byte(1) <= 5;
  const bool zip = byte(0) == 'P' && byte(1) == 'K' && byte(2) == 3 && byte(3) == 4;
  return pickle || zip;
}

[[noreturn]] void refuse_file(const std::string& path) {
  const File file = open_inside(path);
  std::vector<std::byte> start(std::min<uint64_t>(file.size(), 4));
  file.pread_all(start, 0);
  if (looks_like_pickle(start)) {
    throw Error(
        ErrorKind::kUsage,
        fmt::format("{} is a pickle of PyTorch's, which is a program as much as data: it is not opened",
                    path),
        "Convert it to safetensors where you trust it");
  }
  throw Error(ErrorKind::kUsage, fmt::format("{} is a file, and a checkpoint is a directory", path),
              "Name a directory such as RUN/checkpoints/step-000400");
}

File open_pack(const std::string& checkpoint, size_t index, const PackInfo& pack) {
  const std::string path = checkpoint + "/" + pack_name(index);
  File file = open_inside(path);
  if (file.size() != pack.bytes)
    damaged(path, fmt::format("it has {} bytes, and {} were written", file.size(), pack.bytes));
  PackHeader header{};
  file.pread_all(header, 0);
  check_pack_header(header, pack, path);
  return file;
}

// What `check` finds wrong is thrown, or with `faults` added to them.
template <typename Check>
void tolerate(FaultList* faults, const Check& check) {
  try {
    check();
  } catch (const Error& error) {
    if (faults == nullptr) throw;
    faults->add(error.what());
  }
}

}  // namespace

void check_packs(const std::string& checkpoint, const CheckpointManifest& manifest) {
  for (size_t i = 0; i < manifest.packs.size(); i++) open_pack(checkpoint, i, manifest.packs[i]);
}

CheckpointManifest read_manifest(const std::string& checkpoint) {
  struct stat status {};
  if (::stat(checkpoint.c_str(), &status) != 0)
    throw Error(ErrorKind::kUsage, fmt::format("cannot open {}: {}", checkpoint, system_text(errno)),
                "Name the directory of a checkpoint");
  if (S_ISREG(status.st_mode)) refuse_file(checkpoint);
  const std::string path = manifest_path(checkpoint);
  if (::lstat(path.c_str(), &status) != 0)
    throw Error(ErrorKind::kUsage, fmt::format("{} holds no checkpoint: it has no manifest.json", checkpoint),
                "Name a directory such as RUN/checkpoints/step-000400");
  const File file = open_inside(path);
  const uint64_t bytes = file.size();
  if (bytes > kMostManifestBytes) damaged(path, fmt::format("{} bytes are too many for a manifest", bytes));
  std::string text(bytes, '\0');
  file.pread_all(std::as_writable_bytes(std::span(text)), 0);
  if (looks_like_pickle(std::as_bytes(std::span(text)))) refuse_file(path);
  return parse_manifest(text, path);
}

CheckpointReader::Workspace::Workspace()
    : decompressor_(kPieceBytes), packed_(kPieceBytes), piece_(kPieceBytes) {}

CheckpointReader::CheckpointReader(const std::string& checkpoint, FaultList* faults)
    : path_(checkpoint), manifest_(read_manifest(checkpoint)), packs_(manifest_.packs.size()) {
  for (size_t i = 0; i < packs_.size(); i++)
    tolerate(faults, [&] { packs_[i] = open_pack(path_, i, manifest_.packs[i]); });
  layout_ = layout_of(manifest_, manifest_path(path_));
  uint64_t frames = 0;
  for (const BlockLayout& block : layout_.blocks()) {
    first_frame_.push_back(frames);
    for (const Plane& plane : layout_.tensor(block.tensor).planes) frames += piece_count(block, plane);
    if (frames > kMostFrames) damaged(manifest_path(path_), "its tensors have too many pieces");
  }
  frames_.resize(frames);
  for (uint32_t i = 0; i < packs_.size(); i++)
    if (packs_[i].is_open()) read_table(i, faults);
  if (faults == nullptr || faults->empty()) tolerate(faults, [&] { check_frames(); });
}

// Each piece of each plane is in a pack, and they take what the manifest says.
void CheckpointReader::check_frames() const {
  const std::string path = manifest_path(path_);
  std::vector<uint64_t> stored(layout_.tensors().size());
  for (const BlockLayout& block : layout_.blocks()) {
    const TensorSpec& tensor = layout_.tensor(block.tensor);
    for (uint32_t p = 0; p < tensor.planes.size(); p++) {
      for (uint32_t i = 0; has_plane(block.tensor, p) && i < piece_count(block, tensor.planes[p]); i++) {
        const Place& place = frames_[frame_index(block.id, p, i)];
        if (place.pack >= packs_.size()) missing(block, p);
        stored[block.tensor] += place.frame.packed_bytes;
      }
    }
  }
  for (TensorId id = 0; id < stored.size(); id++) {
    if (stored[id] != manifest_.stored_bytes[id])
      damaged(path, fmt::format("tensor '{}' takes {} bytes, and not {}", printable(layout_.tensor(id).name),
                                stored[id], manifest_.stored_bytes[id]));
  }
}

void CheckpointReader::read_table(uint32_t pack, FaultList* faults) {
  for (const Frame& frame : frames_of(pack, faults)) {
    tolerate(faults, [&] {
      Place& place = frames_[frame_index(frame.block, frame.plane, frame.piece)];
      if (place.pack < packs_.size() || !has_plane(layout_.block(frame.block).tensor, frame.plane))
        damaged(packs_[pack].path(),
                fmt::format("the table at offset {} holds a piece that belongs elsewhere",
                            manifest_.packs[pack].table_offset));
      place = {pack, frame};
    });
  }
}

std::vector<Frame> CheckpointReader::frames_of(size_t index, FaultList* faults) const {
  const PackInfo& pack = manifest_.packs[index];
  const File& file = packs_[index];
  std::vector<std::byte> table(pack.bytes - pack.table_offset);
  tolerate(faults, [&] {
    file.pread_all(table, pack.table_offset);
    if (checksum_bytes(table) != pack.table_checksum)
      damaged(file.path(), fmt::format("the {} bytes at offset {} are not what was written", table.size(),
                                       pack.table_offset));
  });
  std::vector<Frame> frames;
  // Frames lie one behind the other: no byte between them that nobody checks.
  std::optional<uint64_t> next = kPackHeaderBytes;  // nothing behind a record that is not sound
  for (size_t at = 0; at < table.size(); at += kFrameRecordBytes) {
    const std::optional<uint64_t> expected = std::exchange(next, std::nullopt);
    tolerate(faults, [&] {
      const Frame frame = parse_record(std::span(table).subspan(at, kFrameRecordBytes), layout_, pack,
                                       file.path(), pack.table_offset + at);
      if (expected && frame.offset != *expected)
        damaged(file.path(), fmt::format("the record at offset {} leaves a gap", pack.table_offset + at));
      next = frame.offset + frame.packed_bytes;
      frames.push_back(frame);
    });
  }
  tolerate(faults, [&] {
    if (next && *next != pack.table_offset)
      damaged(file.path(),
              fmt::format("the {} bytes at offset {} belong to nothing", pack.table_offset - *next, *next));
  });
  return frames;
}

uint64_t CheckpointReader::stored_bytes() const {
  uint64_t bytes = 0;
  for (const PackInfo& pack : manifest_.packs) bytes += pack.bytes;
  return bytes;
}

bool CheckpointReader::has_plane(TensorId tensor, uint32_t plane) const {
  const TensorSpec& spec = layout_.tensor(tensor);
  return plane < spec.planes.size() && holds_plane(manifest_, spec.planes[plane]);
}

uint64_t CheckpointReader::frame_index(BlockId id, uint32_t plane, uint32_t piece) const {
  const BlockLayout& block = layout_.block(id);
  const TensorSpec& tensor = layout_.tensor(block.tensor);
  uint64_t index = first_frame_[id] + piece;
  for (uint32_t p = 0; p < plane; p++) index += piece_count(block, tensor.planes[p]);
  return index;
}

void CheckpointReader::corrupt(const Place& place, const std::string& why) const {
  const TensorSpec& tensor = layout_.tensor(layout_.block(place.frame.block).tensor);
  damaged(packs_[place.pack].path(),
          fmt::format(
              "the {} bytes at offset {} are not what was written: {} (tensor '{}', plane '{}', block {})",
              place.frame.packed_bytes, place.frame.offset, why, printable(tensor.name),
              printable(tensor.planes[place.frame.plane].name), place.frame.block));
}

void CheckpointReader::missing(const BlockLayout& block, uint32_t plane) const {
  const TensorSpec& tensor = layout_.tensor(block.tensor);
  damaged(manifest_path(path_),
          fmt::format("a part of tensor '{}' (plane '{}', block {}) is in no pack", printable(tensor.name),
                      printable(tensor.planes[plane].name), block.id));
}

void CheckpointReader::read_piece(uint64_t index, std::span<std::byte> content, Workspace& workspace) const {
  const Place& place = frames_[index];
  const Frame& frame = place.frame;
  const BlockLayout& block = layout_.block(frame.block);
  const Plane& plane = layout_.tensor(block.tensor).planes[frame.plane];
  const std::span<std::byte> packed = std::span(workspace.packed_).first(frame.packed_bytes);
  const File& file = packs_[place.pack];
  file.pread_all(packed, frame.offset);
  ::posix_fadvise(file.descriptor(), static_cast<off_t>(frame.offset), frame.packed_bytes,
                  POSIX_FADV_DONTNEED);
  if (checksum_bytes(packed) != frame.packed_checksum) corrupt(place, "their checksum is another");
  try {
    workspace.decompressor_.decompress(frame.split, plane.element_bytes, packed, content);
  } catch (const CodecError& error) {
    corrupt(place, error.what());
  }
  if (checksum_bytes(content) != frame.content_checksum) corrupt(place, "they hold another content");
}

void CheckpointReader::read(TensorId tensor, uint32_t plane_index, uint64_t first_element,
                            std::span<std::byte> values, Workspace& workspace) const {
  HEADRACE_CHECK(has_plane(tensor, plane_index), "a plane that the checkpoint does not hold");
  const TensorSpec& spec = layout_.tensor(tensor);
  const Plane& plane = spec.planes[plane_index];
  const uint64_t piece = piece_elements(plane);
  while (!values.empty()) {
    const uint64_t row = first_element / spec.columns;
    const BlockLayout& block =
        layout_.block(layout_.first_block(tensor) + static_cast<BlockId>(row / spec.block_rows));
    const uint64_t in_block = (first_element - block.first_row * spec.columns) / plane.group;  // values
    const auto number = static_cast<uint32_t>(in_block / piece);
    const uint64_t index = frame_index(block.id, plane_index, number);
    if (frames_[index].pack >= packs_.size()) missing(block, plane_index);
    const uint64_t bytes = piece_bytes(block, plane, number);
    const uint64_t skip = (in_block - number * piece) * plane.element_bytes;
    const uint64_t part = std::min<uint64_t>(bytes - skip, values.size());
    if (part == bytes) {
      read_piece(index, values.first(part), workspace);
    } else {
      const std::span<std::byte> kept = std::span(workspace.piece_).first(bytes);
      if (workspace.frame_ != index) {
        workspace.frame_ = ~uint64_t{0};
        read_piece(index, kept, workspace);
        workspace.frame_ = index;
      }
      std::copy_n(kept.begin() + static_cast<ptrdiff_t>(skip), part, values.begin());
    }
    values = values.subspan(part);
    first_element += part / plane.element_bytes * plane.group;
  }
}

uint64_t CheckpointReader::piece_end(TensorId tensor, uint32_t plane_index, uint64_t element) const {
  const TensorSpec& spec = layout_.tensor(tensor);
  const Plane& plane = spec.planes[plane_index];
  const uint64_t block_elements = std::min(spec.block_rows, spec.rows) * spec.columns;
  const uint64_t in_block = element % block_elements, piece = piece_elements(plane) * plane.group;
  return element - in_block + std::min((in_block / piece + 1) * piece, block_elements);
}

}  // namespace headrace::storage
