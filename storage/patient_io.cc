#include "storage/patient_io.h"

#include <fmt/format.h>

#include <cerrno>
#include <filesystem>
#include <utility>

#include "storage/io_thread.h"

namespace headrace::storage {
namespace {

// ENOSPC or EDQUOT; 0: the disk is not full.
int full_disk(const std::exception_ptr& error) {
  if (!error) return 0;
  try {
    std::rethrow_exception(error);
  } catch (const IoError& io_error) {
    const int number = io_error.error_number();
    return number == ENOSPC || number == EDQUOT ? number : 0;
  } catch (...) {
    return 0;
  }
}

}  // namespace

PatientIo::PatientIo(BlockIo& inner, SpaceWaiter& waiter)
    : inner_(inner), waiter_(waiter), thread_(start_io_thread([this] { work(); })) {}

PatientIo::~PatientIo() {
  {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return free_.size() == writes_.size(); });
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

FileIndex PatientIo::add_file(const IoFile& file) {
  const std::lock_guard lock(mutex_);
  const FileIndex index = inner_.add_file(file);
  if (index >= paths_.size()) paths_.resize(index + 1);
  paths_[index] = file.path;
  return index;
}

IoRequest PatientIo::watched(uint32_t index) {
  IoRequest request = writes_[index].request;
  request.listener = this;
  request.tag = index;
  return request;
}

void PatientIo::submit(std::span<const IoRequest> requests) {
  constexpr size_t kTogether = 16;
  IoRequest batch[kTogether];
  while (!requests.empty()) {
    const size_t count = std::min(requests.size(), kTogether);
    {
      const std::lock_guard lock(mutex_);
      for (size_t i = 0; i < count; i++) {
        batch[i] = requests[i];
        if (requests[i].kind != IoKind::kWrite) continue;
        if (free_.empty()) {
          free_.push_back(static_cast<uint32_t>(writes_.size()));
          writes_.emplace_back();
        }
        const uint32_t index = free_.back();
        free_.pop_back();
        writes_[index] = {requests[i]};
        batch[i] = watched(index);
      }
    }
    inner_.submit({batch, count});
    requests = requests.subspan(count);
  }
}

void PatientIo::io_done(uint64_t tag, std::exception_ptr error) {
  const auto index = static_cast<uint32_t>(tag);
  const int full = full_disk(error);
  bool over = false;
  {
    const std::lock_guard lock(mutex_);
    if (writes_[index].retried) {
      retries_--;
      over = full == 0 && retries_ == 0 && held_.empty();
    }
    if (full != 0) {
      error_number_ = full;
      held_.push_back(index);
      changed_.notify_all();
      return;
    }
  }
  if (over) waiter_.over();
  complete(index, std::move(error));
}

void PatientIo::complete(uint32_t index, std::exception_ptr error) {
  IoRequest request;
  {
    const std::lock_guard lock(mutex_);
    request = writes_[index].request;
  }
  request.listener->io_done(request.tag, std::move(error));
  const std::lock_guard lock(mutex_);
  free_.push_back(index);
  changed_.notify_all();
}

SpaceError PatientIo::what_is_needed() const {
  uint64_t bytes = 0;
  for (const uint32_t index : held_) bytes += writes_[index].request.bytes;
  const std::string& path = paths_[writes_[held_.front()].request.file];
  return SpaceError(std::filesystem::path(path).parent_path().string(), bytes,
                    fmt::format("blocks to be written to {}", path), error_number_);
}

// All that is held back, once what was tried before has come back.
void PatientIo::try_again(std::unique_lock<std::mutex>& lock) {
  const SpaceError needed = what_is_needed();
  std::exception_ptr gave_up;
  lock.unlock();
  try {
    waiter_.wait(needed);
  } catch (...) {
    gave_up = std::current_exception();
  }
  lock.lock();
  const std::vector<uint32_t> held = std::exchange(held_, {});
  std::vector<IoRequest> requests;
  for (const uint32_t index : held) {
    writes_[index].retried = true;
    requests.push_back(watched(index));
  }
  if (!gave_up) retries_ += static_cast<uint32_t>(requests.size());
  lock.unlock();
  if (gave_up) {
    for (const uint32_t index : held) complete(index, gave_up);
  } else {
    inner_.submit(requests);
  }
  lock.lock();
}

void PatientIo::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return stopping_ || (!held_.empty() && retries_ == 0); });
    if (stopping_) return;
    try_again(lock);
  }
}

}  // namespace headrace::storage
