#include "storage/pack_writer.h"

#include <fcntl.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "storage/error.h"

namespace headrace::storage {
namespace {

constexpr uint64_t kBufferBytes = uint64_t{1} << 20;
constexpr size_t kBuffers = 6;
constexpr uint64_t kCachedBytes = 8 * kBufferBytes;  // of a file without O_DIRECT, before they are flushed

}  // namespace

uint64_t PackWriter::memory_bytes() { return kBuffers * kBufferBytes; }

PackWriter::PackWriter() : memory_(memory_bytes()) {
  for (size_t i = 0; i < kBuffers; i++) free_.push_back(memory_.data() + i * kBufferBytes);
  thread_ = std::thread([this] { work(); });
}

PackWriter::~PackWriter() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

uint32_t PackWriter::open(const std::string& path) {
  BlockFile file = open_for_blocks(path, OpenMode::kCreate);
  const std::lock_guard lock(mutex_);
  files_.push_back({std::move(file)});
  return static_cast<uint32_t>(files_.size() - 1);
}

void PackWriter::throw_fault() const {
  if (fault_) std::rethrow_exception(fault_);
}

std::byte* PackWriter::take_buffer() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return !free_.empty() || fault_; });
  throw_fault();
  std::byte* buffer = free_.back();
  free_.pop_back();
  return buffer;
}

void PackWriter::push(Job job) {
  {
    const std::lock_guard lock(mutex_);
    jobs_.push_back(job);
  }
  changed_.notify_all();
}

uint64_t PackWriter::append(uint32_t index, std::span<const std::byte> data) {
  OpenFile* file = nullptr;
  {
    const std::lock_guard lock(mutex_);
    throw_fault();
    file = &files_.at(index);
  }
  const uint64_t offset = file->bytes;
  while (!data.empty()) {
    if (file->buffer == nullptr) file->buffer = take_buffer();
    const size_t part = std::min<size_t>(data.size(), kBufferBytes - file->buffered);
    std::memcpy(file->buffer + file->buffered, data.data(), part);
    data = data.subspan(part);
    file->buffered += part;
    file->bytes += part;
    if (file->buffered < kBufferBytes) break;
    push({file, std::exchange(file->buffer, nullptr), kBufferBytes, file->bytes - kBufferBytes, false});
    file->buffered = 0;
  }
  return offset;
}

uint64_t PackWriter::bytes(uint32_t file) const {
  const std::lock_guard lock(mutex_);
  return files_.at(file).bytes;
}

void PackWriter::close(uint32_t index) {
  OpenFile* file = nullptr;
  {
    const std::lock_guard lock(mutex_);
    throw_fault();
    file = &files_.at(index);
  }
  push({file, std::exchange(file->buffer, nullptr), file->buffered, file->bytes - file->buffered, true});
}

void PackWriter::wait() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return (jobs_.empty() && !busy_) || fault_; });
  throw_fault();
}

void PackWriter::reset() {
  std::unique_lock lock(mutex_);
  jobs_.clear();
  changed_.wait(lock, [this] { return !busy_; });
  files_.clear();
  free_.clear();
  for (size_t i = 0; i < kBuffers; i++) free_.push_back(memory_.data() + i * kBufferBytes);
  fault_ = nullptr;
}

void PackWriter::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return stopping_ || !jobs_.empty(); });
    if (stopping_) return;
    const Job job = jobs_.front();
    jobs_.pop_front();
    busy_ = true;
    lock.unlock();
    std::exception_ptr fault;
    try {
      write(job);
    } catch (...) {
      fault = std::current_exception();
    }
    lock.lock();
    busy_ = false;
    if (job.buffer != nullptr) free_.push_back(job.buffer);
    if (fault && !fault_) fault_ = fault;
    if (fault_) jobs_.clear();
    changed_.notify_all();
  }
}

void PackWriter::write(const Job& job) {
  const BlockFile& target = job.file->file;
  if (job.bytes > 0) {
    const uint64_t padded = (job.bytes + kPlaneAlignment - 1) / kPlaneAlignment * kPlaneAlignment;
    std::memset(job.buffer + job.bytes, 0, padded - job.bytes);
    target.file.pwrite_all({job.buffer, padded}, job.offset);
  }
  const uint64_t end = job.offset + job.bytes;
  if (job.last) target.file.resize(end);
  if (job.last || (!target.direct && end % kCachedBytes == 0)) target.file.sync();
  if (!target.direct) ::posix_fadvise(target.file.descriptor(), 0, 0, POSIX_FADV_DONTNEED);
}

}  // namespace headrace::storage
