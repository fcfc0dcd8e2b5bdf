#include "storage/checkpoint_writer.h"

#include <fmt/format.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <utility>

#include "storage/catalog_json.h"
#include "storage/checkpoint_dir.h"
#include "storage/checkpoint_reader.h"
#include "storage/checksum.h"
#include "storage/error.h"
#include "storage/file.h"
#include "storage/run_dir.h"

namespace headrace::storage {
namespace {

constexpr uint64_t kPackBytes = uint64_t{1} << 30;  // a pack that has grown to this is closed
constexpr uint64_t kCopyBytes = uint64_t{1} << 20;

double thread_seconds() {
  timespec now{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

PlaneRange planes_of(const TensorSpec& tensor, bool weights_only) {
  PlaneRange range{0, static_cast<uint32_t>(tensor.planes.size())};
  if (weights_only) {
    while (range.last > 0 && !is_weight_plane(tensor.planes[range.last - 1])) range.last--;
  }
  return range;
}

uint32_t pieces_of(const Layout& layout, BlockId id, bool weights_only) {
  const BlockLayout& block = layout.block(id);
  const TensorSpec& tensor = layout.tensor(block.tensor);
  uint32_t count = 0;
  for (uint32_t p = 0; p < planes_of(tensor, weights_only).last; p++)
    count += piece_count(block, tensor.planes[p]);
  return count;
}

void copy_file(const std::string& from, const std::string& to) {
  const File source = File::open(from, OpenMode::kRead), target = File::open(to, OpenMode::kCreate);
  std::vector<std::byte> buffer(kCopyBytes);
  const uint64_t bytes = source.size();
  for (uint64_t at = 0; at < bytes; at += kCopyBytes) {
    const std::span<std::byte> part = std::span(buffer).first(std::min(kCopyBytes, bytes - at));
    source.pread_all(part, at);
    target.pwrite_all(part, at);
  }
  target.sync();
}

// True for a link; false for a copy, which takes space of its own.
bool link_or_copy(const std::string& from, const std::string& to) {
  if (::link(from.c_str(), to.c_str()) == 0) return true;
  copy_file(from, to);  // another file system, one without links, or too many of them
  return false;
}

struct UnchangedPack {
  std::string path;
  PackInfo info;
  std::vector<Frame> frames;
};

std::vector<UnchangedPack> unchanged_packs(const CheckpointTarget& target, const Layout& layout) {
  std::vector<UnchangedPack> packs;
  try {
    const CheckpointReader earlier(target.earlier);
    const CheckpointManifest& manifest = earlier.manifest();
    if (manifest.run_id != target.manifest.run_id || manifest.weights_only != target.manifest.weights_only ||
        tensors_to_json(manifest.tensors) != tensors_to_json(layout.tensors()))
      return {};
    for (size_t i = 0; i < manifest.packs.size(); i++) {
      UnchangedPack pack{target.earlier + "/" + pack_name(i), manifest.packs[i], earlier.frames_of(i)};
      const bool unchanged = std::all_of(pack.frames.begin(), pack.frames.end(), [&](const Frame& frame) {
        return target.written_step(frame.block) == frame.written_step;
      });
      if (unchanged) packs.push_back(std::move(pack));
    }
  } catch (const Error&) {
    return {};  // nothing is taken from a checkpoint that is not whole
  }
  return packs;
}

}  // namespace

CheckpointWriter::CheckpointWriter(const Layout& layout, const CheckpointOptions& options)
    : layout_(layout), options_(options) {
  HEADRACE_CHECK(options_.workers > 0);
  for (uint32_t i = 0; i < options_.workers; i++) compressors_.emplace_back(options_.level, kPieceBytes);
  for (Compressor& compressor : compressors_) idle_.push_back(&compressor);
  missing_.resize(layout_.blocks().size());
}

CheckpointWriter::~CheckpointWriter() {
  try {
    discard();
  } catch (const Error&) {
    // What stays is marked as unfinished, and the next holder of the run's lock removes it.
  }
}

uint64_t CheckpointWriter::memory_bytes(const Layout& layout, const CheckpointOptions& options) {
  uint64_t pieces = 0;
  for (const BlockLayout& block : layout.blocks()) pieces += pieces_of(layout, block.id, false);
  const uint64_t tables = 2 * pieces * kFrameRecordBytes;  // they grow by doubling
  return PackWriter::memory_bytes() + tables +
         options.workers * Compressor(options.level, kPieceBytes).memory_bytes();
}

void CheckpointWriter::at(const char* event) const {
  if (options_.at) options_.at(event);
}

std::string CheckpointWriter::path_of(size_t pack) const { return unfinished_ + "/" + pack_name(pack); }

void CheckpointWriter::begin(CheckpointTarget target) {
  HEADRACE_CHECK(!target_, "a checkpoint begins before the one before it has ended");
  if (file_exists(target.directory)) {
    throw Error(ErrorKind::kUsage, fmt::format("{} is there already", target.directory),
                "Remove it first, or keep it: a step has only one content");
  }
  const std::string parent = std::filesystem::path(target.directory).parent_path().string();
  if (!parent.empty() && parent != durable_parent_) {
    if (!file_exists(parent)) make_directory(parent);
    sync_directory(parent + "/..");  // also where who made it may have died before its name was durable
    durable_parent_ = parent;
  }
  unfinished_ = unfinished_directory(target.directory);
  remove_checkpoint(unfinished_);
  make_directory(unfinished_);
  target_ = std::move(target);
  target_->manifest.tensors.assign(layout_.tensors().begin(), layout_.tensors().end());
  target_->manifest.packs.clear();
  target_->manifest.stored_bytes.assign(layout_.tensors().size(), 0);
  stats_ = {};
  packs_.clear();
  current_ = {};
  for (const BlockLayout& block : layout_.blocks()) {
    const TensorSpec& tensor = layout_.tensor(block.tensor);
    missing_[block.id] = pieces_of(layout_, block.id, target_->manifest.weights_only);
    for (uint32_t p = 0; p < planes_of(tensor, target_->manifest.weights_only).last; p++)
      stats_.content_bytes += tensor.planes[p].values(block.elements) * tensor.planes[p].element_bytes;
  }
  if (!target_->earlier.empty()) link_unchanged(*target_);
  at("begun");
}

// Takes over the packs of which every block still has the content that they hold.
void CheckpointWriter::link_unchanged(const CheckpointTarget& target) {
  for (const UnchangedPack& pack : unchanged_packs(target, layout_)) {
    const bool linked = link_or_copy(pack.path, path_of(packs_.size()));
    packs_.push_back({pack.info, {}, 0});
    stats_.stored_bytes += pack.info.bytes;
    if (linked) stats_.linked_bytes += pack.info.bytes;
    for (const Frame& frame : pack.frames) count_frame(frame);
  }
}

bool CheckpointWriter::needs(BlockId block) const {
  const std::lock_guard lock(mutex_);
  return missing_[block] > 0;
}

PlaneRange CheckpointWriter::planes(BlockId block) const {
  return planes_of(layout_.tensor(layout_.block(block).tensor), target_->manifest.weights_only);
}

uint32_t CheckpointWriter::piece_count(BlockId block) const {
  return pieces_of(layout_, block, target_->manifest.weights_only);
}

CheckpointWriter::PieceOfBlock CheckpointWriter::piece_at(BlockId id, uint32_t index) const {
  const BlockLayout& block = layout_.block(id);
  const TensorSpec& tensor = layout_.tensor(block.tensor);
  for (uint32_t p = 0; p < tensor.planes.size(); p++) {
    const uint32_t count = storage::piece_count(block, tensor.planes[p]);
    if (index < count) return {p, index};
    index -= count;
  }
  HEADRACE_CHECK(false, "a piece beyond its block");
}

Compressor& CheckpointWriter::borrow() {
  std::unique_lock lock(mutex_);
  returned_.wait(lock, [this] { return !idle_.empty(); });
  Compressor* compressor = idle_.back();
  idle_.pop_back();
  return *compressor;
}

void CheckpointWriter::give_back(Compressor& compressor, double seconds) {
  {
    const std::lock_guard lock(mutex_);
    idle_.push_back(&compressor);
    stats_.compress_seconds += seconds;
  }
  returned_.notify_one();
}

void CheckpointWriter::add_pieces(BlockId id, uint32_t first, uint32_t last, const PlaneData& plane_data) {
  const BlockLayout& block = layout_.block(id);
  const TensorSpec& tensor = layout_.tensor(block.tensor);
  Compressor& compressor = borrow();
  const double start = thread_seconds();
  try {
    for (uint32_t i = first; i < last; i++) {
      const PieceOfBlock at = piece_at(id, i);
      const Plane& plane = tensor.planes[at.plane];
      const std::byte* data = plane_data(at.plane) + at.piece * piece_elements(plane) * plane.element_bytes;
      const std::span content(data, piece_bytes(block, plane, at.piece));
      Frame frame;
      frame.block = id;
      frame.plane = at.plane;
      frame.piece = at.piece;
      frame.split = best_split(plane.element_bytes);
      const std::span<const std::byte> packed =
          compressor.compress(frame.split, plane.element_bytes, content);
      frame.packed_bytes = static_cast<uint32_t>(packed.size());
      frame.content_bytes = static_cast<uint32_t>(content.size());
      frame.packed_checksum = checksum_bytes(packed);
      frame.content_checksum = checksum_bytes(content);
      store_piece(frame, packed);
    }
  } catch (...) {
    give_back(compressor, thread_seconds() - start);
    throw;
  }
  give_back(compressor, thread_seconds() - start);
}

void CheckpointWriter::store_piece(Frame frame, std::span<const std::byte> packed) {
  const std::lock_guard lock(mutex_);
  HEADRACE_CHECK(missing_[frame.block] > 0, "more pieces than a block has");
  frame.written_step = target_->written_step(frame.block);
  const bool frozen = layout_.block(frame.block).slots == 1;
  Pack& pack = packs_[pack_for(frozen ? kUnchanged : kChanged)];
  frame.offset = pack_writer_.append(pack.file, packed);
  append_record(frame, pack.table);
  count_frame(frame);
}

void CheckpointWriter::count_frame(const Frame& frame) {
  missing_[frame.block]--;
  target_->manifest.stored_bytes[layout_.block(frame.block).tensor] += frame.packed_bytes;
}

size_t CheckpointWriter::pack_for(Stream stream) {
  std::optional<size_t>& current = current_[stream];
  if (current && pack_writer_.bytes(packs_[*current].file) >= kPackBytes) {
    close_pack(packs_[*current]);
    current.reset();
  }
  if (!current) {
    current = packs_.size();
    Pack pack;
    pack.info.id = new_run_id();
    pack.file = pack_writer_.open(path_of(*current));
    pack_writer_.append(pack.file, encode_pack_header(pack.info.id));
    packs_.push_back(std::move(pack));
  }
  return *current;
}

void CheckpointWriter::close_pack(Pack& pack) {
  pack.info.table_offset = pack_writer_.bytes(pack.file);
  pack.info.table_checksum = checksum_bytes(pack.table);
  pack_writer_.append(pack.file, pack.table);
  pack.info.bytes = pack_writer_.bytes(pack.file);
  stats_.stored_bytes += pack.info.bytes;
  pack_writer_.close(pack.file);
}

void CheckpointWriter::write_manifest() {
  for (const Pack& pack : packs_) target_->manifest.packs.push_back(pack.info);
  const std::string text = encode_manifest(target_->manifest);
  const File file = File::open(manifest_path(unfinished_), OpenMode::kCreate);
  file.pwrite_all(std::as_bytes(std::span(text)), 0);
  file.sync();
}

CheckpointStats CheckpointWriter::publish() {
  HEADRACE_CHECK(target_ && std::all_of(missing_.begin(), missing_.end(), [](uint32_t n) { return n == 0; }),
                 "a checkpoint of which a part is missing");
  const std::lock_guard lock(mutex_);
  for (const std::optional<size_t>& pack : current_) {
    if (pack) close_pack(packs_[*pack]);
  }
  pack_writer_.wait();
  at("packs");
  write_manifest();
  sync_directory(unfinished_);
  at("manifest");
  if (::rename(unfinished_.c_str(), target_->directory.c_str()) != 0) {
    throw Error(ErrorKind::kFailed, fmt::format("cannot rename {} to {}: {}", unfinished_, target_->directory,
                                                system_text(errno)));
  }
  sync_directory(target_->directory + "/..");
  at("published");
  target_.reset();
  pack_writer_.reset();
  return stats_;
}

void CheckpointWriter::discard() {
  if (!target_) return;
  target_.reset();
  pack_writer_.reset();
  remove_checkpoint(unfinished_);
}

}  // namespace headrace::storage
