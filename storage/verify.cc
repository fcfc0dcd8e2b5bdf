#include "storage/verify.h"

#include <algorithm>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <vector>

#include "storage/aligned_memory.h"
#include "storage/checksum.h"
#include "storage/error.h"

namespace headrace::storage {
namespace {

constexpr uint64_t kMaxBuffers = 8;

struct PlaneOfBlock {
  BlockId block = 0;
  uint32_t plane = 0;
};

// Reads and checks planes in a given order, several in flight.
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

  void read(std::span<const PlaneOfBlock> order) {
    arrived_.assign(order.size(), 0);
    size_t begun = 0, done = 0;
    std::exception_ptr failed;
    for (; done < order.size() && !failed; done++) {
      for (; begun < order.size() && begun < done + buffers_; begun++) begin(order[begun], begun);
      failed = wait(done);
      if (failed) break;
      try {
        check(order[done], done);
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
  void check(const PlaneOfBlock& plane, size_t index) const {
    const PlaneRange range{plane.plane, plane.plane + 1};
    const PlaneExtent& extent = store_.layout().block(plane.block).planes[plane.plane];
    store_.verify(plane.block, range, buffer(index), 0, extent.chunks);
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

}  // namespace

void verify_all(const Store& store, BlockIo& io, uint64_t memory_bytes) {
  PlaneReader reader(store, io, memory_bytes);
  std::vector<PlaneOfBlock> order;
  for (const BlockLayout& block : store.layout().blocks()) {
    for (uint32_t plane = 0; plane < block.planes.size(); plane++) order.push_back({block.id, plane});
  }
  reader.read(order);
}

}  // namespace headrace::storage
