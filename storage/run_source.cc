#include "storage/run_source.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "storage/aligned_memory.h"
#include "storage/checksum.h"
#include "storage/error.h"
#include "storage/run_description.h"

namespace headrace::storage {
namespace {

constexpr uint64_t kBatchBytes = uint64_t{8} << 20;  // read at once

// Of the elements from `first` on of a tensor as it is stored.
SourcePlane plane_of(const Plane& plane, uint64_t first) {
  ElementType type = ElementType::kOther;
  if (plane.name == "weight.high" && plane.element_bytes == 2) type = ElementType::kBF16;
  if (plane.name == "weight.float32" && plane.element_bytes == 4) type = ElementType::kF32;  // frozen
  if (plane.name.starts_with("moment") && plane.element_bytes == 4) type = ElementType::kF32;
  if (plane.name == "moment1.code" && plane.element_bytes == 1) type = ElementType::kI8;
  if (plane.name == "moment2.code" && plane.element_bytes == 1) type = ElementType::kU8;
  return {plane.name, type, plane.element_bytes, plane.group, static_cast<uint32_t>(first % plane.group)};
}

// Reads and verifies parts of planes of a store's blocks: whole chunks, as only these have a checksum.
class BlockReader {
 public:
  BlockReader(const Store& store, BlockIo& io) : store_(store), io_(io), buffer_(kBatchBytes) {}

  // Bytes [first, first + to.size()) of a plane of a tensor as it is stored, without padding.
  void read(TensorId tensor, uint32_t plane, uint64_t first, std::span<std::byte> to) {
    const uint64_t block_bytes = bytes_of_blocks(tensor, plane);
    while (!to.empty()) {
      const auto index = static_cast<BlockId>(first / block_bytes);
      const BlockLayout& block = store_.layout().block(store_.layout().first_block(tensor) + index);
      const uint64_t begin = first - index * block_bytes;
      const uint64_t end = std::min(block.planes[plane].bytes, begin + to.size());
      const uint64_t taken = add(block, plane, begin, end, to);
      to = to.subspan(taken);
      first += taken;
    }
    flush();
  }

  // Where the chunk that holds byte `first` of a plane ends.
  uint64_t chunk_end(TensorId tensor, uint32_t plane, uint64_t first) const {
    const uint64_t block_bytes = bytes_of_blocks(tensor, plane), in_block = first % block_bytes;
    const uint64_t end = (in_block / kChecksumChunk + 1) * kChecksumChunk;
    return first - in_block + std::min(end, block_bytes);
  }

 private:
  // Of all blocks of a tensor but the last, which may be smaller.
  uint64_t bytes_of_blocks(TensorId tensor, uint32_t plane) const {
    const TensorSpec& spec = store_.layout().tensor(tensor);
    const Plane& values = spec.planes[plane];
    return values.values(std::min(spec.block_rows, spec.rows) * spec.columns) * values.element_bytes;
  }

  struct Part {
    BlockId block = 0;
    uint32_t plane = 0, first_chunk = 0, chunks = 0;
    uint64_t in_buffer = 0;  // where its first chunk is read to
    uint64_t skipped = 0;    // bytes of the first chunk before those wanted
    std::span<std::byte> to;
  };

  // Asks for bytes [begin, end) of a block's plane, or as many as still fit; returns how many.
  uint64_t add(const BlockLayout& block, uint32_t plane, uint64_t begin, uint64_t end,
               std::span<std::byte> to) {
    if (kBatchBytes - used_ < 2 * kChecksumChunk) flush();
    const PlaneExtent& extent = block.planes[plane];
    const uint64_t from = begin / kChecksumChunk * kChecksumChunk;
    end = std::min(end, from + (kBatchBytes - used_) / kChecksumChunk * kChecksumChunk);
    const uint64_t chunks_end =
        std::min(extent.padded_bytes, (end + kChecksumChunk - 1) / kChecksumChunk * kChecksumChunk);
    IoRequest request = store_.read_request(block.id, {plane, plane + 1}, buffer_.data() + used_);
    request.offset += from;
    request.bytes = chunks_end - from;
    requests_.push_back(request);
    added_.push_back({block.id, plane, static_cast<uint32_t>(from / kChecksumChunk),
                      static_cast<uint32_t>((chunks_end - from + kChecksumChunk - 1) / kChecksumChunk), used_,
                      begin - from, to.first(end - begin)});
    used_ += chunks_end - from;
    return end - begin;
  }

  void flush() {
    std::vector<IoRequest> requests = std::exchange(requests_, {});
    const std::vector<Part> added = std::exchange(added_, {});
    used_ = 0;
    transfer_and_wait(io_, requests);
    for (const Part& part : added) {
      const std::byte* data = buffer_.data() + part.in_buffer;
      // verify() counts from the plane's beginning, which was not read.
      const auto beginning = reinterpret_cast<uintptr_t>(data) - part.first_chunk * kChecksumChunk;
      store_.verify(part.block, {part.plane, part.plane + 1}, reinterpret_cast<const std::byte*>(beginning),
                    part.first_chunk, part.chunks);
      std::memcpy(part.to.data(), data + part.skipped, part.to.size());
    }
  }

  const Store& store_;
  BlockIo& io_;
  AlignedMemory buffer_;
  uint64_t used_ = 0;
  std::vector<IoRequest> requests_;
  std::vector<Part> added_;
};

class RunSource final : public TensorSource {
 public:
  RunSource(SourceInfo info, const Layout& layout) : info_(std::move(info)), tensors_(tensors_of(layout)) {
    info_.kind = "run";
    info_.has_checksums = true;
    for (TensorId id = 0; id < layout.tensors().size(); id++) {
      for (const TensorPart& part : layout.tensor(id).parts) places_.push_back({id, part.first_element});
    }
  }
  // Takes what it reads from, and its owners if it shall.
  void read_from(const Store& store, BlockIo& io) { reader_ = std::make_unique<BlockReader>(store, io); }
  void own(std::unique_ptr<BlockIo> io, std::unique_ptr<Store> store) {
    io_ = std::move(io);
    store_ = std::move(store);
  }

  const SourceInfo& info() const override { return info_; }
  std::span<const SourceTensor> tensors() const override { return tensors_; }
  void read(size_t tensor, uint32_t plane, uint64_t first_value, std::span<std::byte> to) override {
    HEADRACE_CHECK(reader_ != nullptr, "the source was opened for listing");
    const SourcePlane& entry = tensors_[tensor].planes[plane];
    const uint64_t unit = entry.element_bytes;
    HEADRACE_CHECK(first_value * unit + to.size() <= value_count(tensors_[tensor], entry) * unit);
    const uint64_t first = places_[tensor].first_element / entry.group + first_value;
    reader_->read(places_[tensor].tensor, plane, first * unit, to);
  }
  uint64_t checked_with(size_t tensor, uint32_t plane, uint64_t value) const override {
    const SourcePlane& entry = tensors_[tensor].planes[plane];
    const uint64_t before = places_[tensor].first_element / entry.group, unit = entry.element_bytes;
    const uint64_t end = reader_->chunk_end(places_[tensor].tensor, plane, (before + value) * unit);
    return (end + unit - 1) / unit - before;
  }

 private:
  struct PartPlace {
    TensorId tensor = 0;
    uint64_t first_element = 0;
  };

  SourceInfo info_;
  std::vector<SourceTensor> tensors_;
  std::vector<PartPlace> places_;
  std::unique_ptr<BlockIo> io_;
  std::unique_ptr<Store> store_;
  std::unique_ptr<BlockReader> reader_;
};

}  // namespace

std::vector<SourceTensor> tensors_of(const Layout& layout) {
  std::vector<SourceTensor> tensors;
  for (const TensorSpec& spec : layout.tensors()) {
    for (const TensorPart& part : spec.parts) {
      uint64_t elements = 1;
      for (const uint64_t length : part.shape) elements *= length;
      SourceTensor tensor{part.name, part.shape, elements, 0, 0, {}};
      for (const Plane& plane : spec.planes) {
        tensor.planes.push_back(plane_of(plane, part.first_element));
        tensor.bytes += value_count(tensor, tensor.planes.back()) * plane.element_bytes;
      }
      tensor.stored_bytes = tensor.bytes;
      tensors.push_back(std::move(tensor));
    }
  }
  return tensors;
}

std::unique_ptr<TensorSource> source_of(const Store& store, BlockIo& io) {
  SourceInfo info;
  info.step = store.step();
  info.model_json = store.model_json();
  auto source = std::make_unique<RunSource>(std::move(info), store.layout());
  source->read_from(store, io);
  return source;
}

std::unique_ptr<TensorSource> open_run(const std::string& run_dir, const SourceOptions& options) {
  SourceInfo info;
  info.path = run_dir;
  if (options.use == SourceUse::kList) {
    RunDescription run = describe_run(run_dir);
    info.step = run.step;
    info.model_json = std::move(run.model_json);
    return std::make_unique<RunSource>(std::move(info), run.layout);
  }
  auto io = make_block_io({});
  auto store = Store::open(run_dir, options.shard_dirs, *io);
  info.step = store->step();
  info.model_json = store->model_json();
  info.notes = store->notes();
  auto source = std::make_unique<RunSource>(std::move(info), store->layout());
  source->read_from(*store, *io);
  source->own(std::move(io), std::move(store));
  return source;
}

}  // namespace headrace::storage
