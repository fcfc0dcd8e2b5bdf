#include "storage/checkpoint_save.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "storage/aligned_memory.h"
#include "storage/checkpoint_dir.h"
#include "storage/checkpoint_reader.h"
#include "storage/error.h"

namespace headrace::storage {
namespace {

class Saver {
 public:
  Saver(CheckpointWriter& writer, const Store& store, BlockIo& io,
        const std::function<void(double)>& progress)
      : writer_(writer), store_(store), io_(io), progress_(progress) {
    for (const BlockLayout& block : store.layout().blocks()) {
      if (!writer.needs(block.id)) continue;
      const PlaneRange planes = writer.planes(block.id);
      for (uint32_t p = planes.first; p < planes.last; p++) {
        due_.push_back({block.id, p});
        buffer_bytes_ = std::max(buffer_bytes_, block.planes[p].padded_bytes);
      }
    }
  }

  uint64_t run(uint32_t threads) {
    if (due_.empty()) return 0;
    std::vector<std::thread> workers;
    try {
      for (uint32_t i = 0; i < std::max(threads, 1u); i++) workers.emplace_back([this] { work(); });
    } catch (...) {
      note_error(std::current_exception());
    }
    for (std::thread& worker : workers) worker.join();
    if (error_) std::rethrow_exception(error_);
    return read_bytes_;
  }

 private:
  struct PlaneOfBlock {
    BlockId block = 0;
    uint32_t plane = 0;
  };

  void note_error(std::exception_ptr error) {
    const std::lock_guard lock(mutex_);
    if (!error_) error_ = std::move(error);
    stop_ = true;
  }

  void work() {
    try {
      const AlignedMemory memory(buffer_bytes_);
      while (!stop_) {
        const size_t next = next_++;
        if (next >= due_.size()) break;
        save(due_[next], memory.data());
        const std::lock_guard lock(mutex_);
        if (progress_) progress_(double(++done_) / double(due_.size()));
      }
    } catch (...) {
      note_error(std::current_exception());
    }
  }

  void save(const PlaneOfBlock& due, std::byte* buffer) {
    const BlockLayout& block = store_.layout().block(due.block);
    const TensorSpec& tensor = store_.layout().tensor(block.tensor);
    const PlaneRange range{due.plane, due.plane + 1};
    IoRequest request = store_.read_request(due.block, range, buffer);
    transfer_and_wait(io_, {&request, 1});
    store_.verify(due.block, range, buffer, 0, block.planes[due.plane].chunks);
    read_bytes_ += block.planes[due.plane].padded_bytes;
    uint32_t first = 0;
    for (uint32_t p = 0; p < due.plane; p++) first += piece_count(block, tensor.planes[p]);
    writer_.add_pieces(due.block, first, first + piece_count(block, tensor.planes[due.plane]),
                       [buffer](uint32_t) { return buffer; });
  }

  CheckpointWriter& writer_;
  const Store& store_;
  BlockIo& io_;
  const std::function<void(double)>& progress_;
  std::vector<PlaneOfBlock> due_;
  uint64_t buffer_bytes_ = 0;
  std::atomic<size_t> next_{0};
  std::atomic<uint64_t> read_bytes_{0};
  std::atomic<bool> stop_{false};
  std::mutex mutex_;
  size_t done_ = 0;
  std::exception_ptr error_;
};

}  // namespace

uint64_t save_missing(CheckpointWriter& writer, const Store& store, BlockIo& io, uint32_t threads,
                      const std::function<void(double)>& progress) {
  return Saver(writer, store, io, progress).run(threads);
}

std::string earlier_checkpoint(const std::string& run_dir, bool weights_only) {
  const std::vector<std::string> all = list_checkpoints(run_dir);
  for (auto path = all.rbegin(); path != all.rend(); ++path) {
    try {
      if (read_manifest(*path).weights_only == weights_only) return *path;
    } catch (const Error&) {
      // A damaged one is no help.
    }
  }
  return "";
}

}  // namespace headrace::storage
