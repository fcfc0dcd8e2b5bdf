#include "storage/digest.h"

#include <algorithm>
#include <condition_variable>
#include <exception>
#include <functional>
#include <mutex>
#include <vector>

#include "storage/aligned_memory.h"
#include "storage/checksum.h"
#include "storage/error.h"
#include "storage/hasher.h"

namespace headrace::storage {
namespace {

constexpr uint64_t kDigestVersion = 1;
constexpr uint64_t kMaxBuffers = 8;

struct PlaneOfBlock {
  BlockId block = 0;
  uint32_t plane = 0;
};

// Reads planes in a given order, several in flight, and hands each over in that order.
class PlaneReader final : public IoListener {
 public:
  PlaneReader(const Store& store, BlockIo& io, uint64_t memory_bytes) : store_(store), io_(io) {
    for (const BlockLayout& block : store.layout().blocks()) {
      for (const PlaneExtent& plane : block.planes)
        buffer_bytes_ = std::max(buffer_bytes_, plane.padded_bytes);
    }
    buffers_ = std::clamp<uint64_t>(memory_bytes / buffer_bytes_, 2, kMaxBuffers);
    memory_ = AlignedMemory(buffers_ * buffer_bytes_);
  }

  using Visit = std::function<void(const PlaneOfBlock&, std::span<const std::byte>)>;
  void read(std::span<const PlaneOfBlock> order, const Visit& visit) {
    arrived_.assign(order.size(), 0);
    size_t begun = 0, done = 0;
    std::exception_ptr failed;
    for (; done < order.size() && !failed; done++) {
      for (; begun < order.size() && begun < done + buffers_; begun++) begin(order[begun], begun);
      failed = wait(done);
      if (failed) break;
      try {
        take(order[done], done, visit);
      } catch (...) {
        failed = std::current_exception();
      }
    }
    for (size_t i = done; i < begun; i++) wait(i);  // their memory must outlive them
    if (failed) std::rethrow_exception(failed);
  }

  void io_done(uint64_t tag, std::exception_ptr error) override {
    const std::lock_guard lock(mutex_);
    if (error && !error_) error_ = error;
    arrived_[tag] = 1;
    changed_.notify_all();
  }

 private:
  std::byte* buffer(size_t index) const { return memory_.data() + index % buffers_ * buffer_bytes_; }

  void begin(const PlaneOfBlock& plane, size_t index) {
    IoRequest request = store_.read_request(plane.block, {plane.plane, plane.plane + 1}, buffer(index));
    request.listener = this;
    request.tag = index;
    io_.submit({&request, 1});
  }
  std::exception_ptr wait(size_t index) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return arrived_[index] != 0; });
    return error_;
  }
  void take(const PlaneOfBlock& plane, size_t index, const Visit& visit) const {
    const PlaneRange range{plane.plane, plane.plane + 1};
    const PlaneExtent& extent = store_.layout().block(plane.block).planes[plane.plane];
    store_.verify(plane.block, range, buffer(index), 0, extent.chunks);
    visit(plane, {buffer(index), extent.bytes});
  }

  const Store& store_;
  BlockIo& io_;
  uint64_t buffer_bytes_ = kPlaneAlignment, buffers_ = 2;
  AlignedMemory memory_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<char> arrived_;
  std::exception_ptr error_;
};

struct NamedPart {
  TensorId tensor = 0;
  const TensorPart* part = nullptr;
  uint64_t end_element = 0;
};

std::vector<NamedPart> parts_by_name(const Layout& layout) {
  std::vector<NamedPart> parts;
  for (TensorId id = 0; id < layout.tensors().size(); id++) {
    for (const TensorPart& part : layout.tensor(id).parts) {
      uint64_t elements = 1;
      for (uint64_t size : part.shape) elements *= size;
      parts.push_back({id, &part, part.first_element + elements});
    }
  }
  std::sort(parts.begin(), parts.end(),
            [](const NamedPart& a, const NamedPart& b) { return a.part->name < b.part->name; });
  return parts;
}

// The blocks that hold elements of the part, in order.
std::vector<BlockId> blocks_of(const Layout& layout, const NamedPart& part) {
  std::vector<BlockId> blocks;
  const uint64_t columns = layout.tensor(part.tensor).columns;
  const BlockId first = layout.first_block(part.tensor);
  for (BlockId id = first; id < first + layout.block_count(part.tensor); id++) {
    const uint64_t begin = layout.block(id).first_row * columns;
    if (begin < part.end_element && begin + layout.block(id).elements > part.part->first_element) {
      blocks.push_back(id);
    }
  }
  return blocks;
}

void add_part(Hasher& hasher, const Layout& layout, const NamedPart& part, PlaneReader& reader) {
  const TensorSpec& tensor = layout.tensor(part.tensor);
  hasher.add_text(part.part->name);
  hasher.add_number(part.part->shape.size());
  for (uint64_t size : part.part->shape) hasher.add_number(size);
  hasher.add_number(tensor.planes.size());
  std::vector<PlaneOfBlock> order;
  const std::vector<BlockId> blocks = blocks_of(layout, part);
  for (uint32_t plane = 0; plane < tensor.planes.size(); plane++) {
    for (BlockId block : blocks) order.push_back({block, plane});
  }
  uint32_t described = 0;  // planes whose name went in
  reader.read(order, [&](const PlaneOfBlock& at, std::span<const std::byte> bytes) {
    const Plane& plane = tensor.planes[at.plane];
    if (at.plane == described) {
      hasher.add_text(plane.name);
      hasher.add_number(plane.element_bytes);
      described++;
    }
    const BlockLayout& block = layout.block(at.block);
    const uint64_t begin = block.first_row * tensor.columns;
    const uint64_t from = std::max(begin, part.part->first_element) - begin;
    const uint64_t to = std::min(begin + block.elements, part.end_element) - begin;
    hasher.add(bytes.subspan(from * plane.element_bytes, (to - from) * plane.element_bytes));
  });
}

}  // namespace

std::string digest(const Store& store, BlockIo& io, uint64_t memory_bytes) {
  const std::vector<NamedPart> parts = parts_by_name(store.layout());
  PlaneReader reader(store, io, memory_bytes);
  Hasher hasher;
  hasher.add_number(kDigestVersion);
  hasher.add_number(store.step());
  hasher.add_number(parts.size());
  for (const NamedPart& part : parts) add_part(hasher, store.layout(), part, reader);
  return hasher.hex();
}

void verify_all(const Store& store, BlockIo& io, uint64_t memory_bytes) {
  PlaneReader reader(store, io, memory_bytes);
  std::vector<PlaneOfBlock> order;
  for (const BlockLayout& block : store.layout().blocks()) {
    for (uint32_t plane = 0; plane < block.planes.size(); plane++) order.push_back({block.id, plane});
  }
  reader.read(order, [](const PlaneOfBlock&, std::span<const std::byte>) {});
}

}  // namespace headrace::storage
