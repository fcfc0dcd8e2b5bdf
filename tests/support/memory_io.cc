#include "tests/support/memory_io.h"

#include <algorithm>
#include <cstring>

#include "storage/thread_io.h"

namespace headrace::testing {

using storage::BlockIo;
using storage::FileIndex;
using storage::IoCounters;
using storage::IoFile;
using storage::IoOptions;
using storage::IoRequest;
using storage::TransferCalls;

// Gives each file the number that stands for its descriptor.
class MemoryIo final : public BlockIo {
 public:
  MemoryIo(MemoryFiles& files, const IoOptions& options)
      : files_(files), inner_(storage::make_thread_io(options, calls(), "memory")) {}

  FileIndex add_file(const IoFile& file) override {
    IoFile numbered = file;
    numbered.descriptor = files_.number_of(file.path);
    return inner_->add_file(numbered);
  }
  void register_memory(std::span<std::byte>) override {}
  void submit(std::span<const IoRequest> requests) override { inner_->submit(requests); }
  IoCounters counters() const override { return inner_->counters(); }
  std::string description() const override { return inner_->description(); }

 private:
  TransferCalls calls() {
    TransferCalls calls;
    calls.read = [this](int number, std::byte* data, uint64_t bytes, uint64_t offset) {
      MemoryFiles::File& file = files_.file(number);
      const std::lock_guard lock(file.mutex);
      if (offset >= file.bytes.size()) return int64_t{0};
      const uint64_t there = std::min(bytes, file.bytes.size() - offset);
      std::memcpy(data, file.bytes.data() + offset, there);
      return static_cast<int64_t>(there);
    };
    calls.write = [this](int number, const std::byte* data, uint64_t bytes, uint64_t offset) {
      MemoryFiles::File& file = files_.file(number);
      const std::lock_guard lock(file.mutex);
      if (offset + bytes > file.bytes.size()) file.bytes.resize(offset + bytes);
      std::memcpy(file.bytes.data() + offset, data, bytes);
      return static_cast<int64_t>(bytes);
    };
    calls.sync = [](int) { return int64_t{0}; };
    calls.flush = [](int, uint64_t, uint64_t) { return int64_t{0}; };
    calls.drop = [](int, uint64_t, uint64_t) { return int64_t{0}; };
    return calls;
  }

  MemoryFiles& files_;
  std::unique_ptr<BlockIo> inner_;
};

std::unique_ptr<BlockIo> MemoryFiles::make_io(const IoOptions& options) {
  return std::make_unique<MemoryIo>(*this, options);
}

std::vector<std::byte>& MemoryFiles::content(const std::string& path) { return file(number_of(path)).bytes; }

MemoryFiles::File& MemoryFiles::file(int number) {
  const std::lock_guard lock(mutex_);
  return files_[static_cast<size_t>(number)];
}

int MemoryFiles::number_of(const std::string& path) {
  const std::lock_guard lock(mutex_);
  const auto known =
      std::find_if(files_.begin(), files_.end(), [&](const File& file) { return file.path == path; });
  const auto number = static_cast<int>(known - files_.begin());
  if (known == files_.end()) files_.emplace_back().path = path;
  return number;
}

}  // namespace headrace::testing
