#include "tests/support/faulty_io.h"

#include <algorithm>
#include <utility>

namespace headrace::testing {

using storage::IoError;
using storage::IoKind;
using storage::IoRequest;

FaultyIo::FaultyIo(storage::BlockIo& inner, std::vector<Fault> faults, std::optional<uint64_t> shuffle_seed)
    : inner_(inner), faults_(std::move(faults)) {
  if (shuffle_seed) shuffle_.emplace(*shuffle_seed);
  thread_ = std::thread([this] { deliver(); });
}

FaultyIo::~FaultyIo() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    changed_.notify_one();
  }
  thread_.join();
}

void FaultyIo::add_fault(const Fault& fault) {
  const std::lock_guard lock(mutex_);
  faults_.push_back(fault);
}

uint64_t FaultyIo::faults_met() const {
  const std::lock_guard lock(mutex_);
  return faults_met_;
}

uint64_t FaultyIo::submitted(IoKind kind) const {
  const std::lock_guard lock(mutex_);
  return submitted_[static_cast<size_t>(kind)];
}

void FaultyIo::submit(std::span<const IoRequest> requests) {
  std::vector<IoRequest> to_inner;
  {
    const std::lock_guard lock(mutex_);
    for (const IoRequest& request : requests) {
      uint64_t tag = slots_.size();
      if (free_tags_.empty()) {
        slots_.emplace_back();
      } else {
        tag = free_tags_.back();
        free_tags_.pop_back();
      }
      Pending& pending = slots_[tag];
      pending = {};
      pending.request = request;
      pending.fault = take_fault(request.kind);
      ++outstanding_;
      if (std::optional<IoRequest> spoiled = spoil(pending, tag))
        to_inner.push_back(*spoiled);
      else
        finished_.push_back(tag);
    }
    changed_.notify_one();
  }
  if (!to_inner.empty()) inner_.submit(to_inner);
}

std::optional<Fault> FaultyIo::take_fault(IoKind kind) {
  const uint64_t number = submitted_[static_cast<size_t>(kind)]++;
  const auto found = std::find_if(faults_.begin(), faults_.end(), [&](const Fault& fault) {
    return fault.kind == kind && fault.number == number;
  });
  if (found == faults_.end()) return std::nullopt;
  ++faults_met_;
  return *found;
}

// The request to make in place of the caller's; nothing when it is over already.
std::optional<IoRequest> FaultyIo::spoil(Pending& pending, uint64_t tag) {
  IoRequest request = pending.request;
  request.listener = &listener_;
  request.tag = tag;
  if (!pending.fault) return request;
  const Fault& fault = *pending.fault;
  switch (fault.action) {
    case FaultAction::kFail:
      pending.error = std::make_exception_ptr(IoError(ErrorKind::kFailed, fault.error_number,
                                                      "scripted fault: " + system_text(fault.error_number)));
      return std::nullopt;
    case FaultAction::kLoseWrite:
      return std::nullopt;
    case FaultAction::kTearWrite:
      request.bytes = std::min(request.bytes, fault.bytes);
      return request;
    case FaultAction::kMisplaceWrite:
      request.offset += static_cast<uint64_t>(fault.displacement);
      return request;
    case FaultAction::kDelay:
      pending.wait_for = fault.completions;
      return request;
    case FaultAction::kFlipBit:
      return request;
  }
  return request;
}

void FaultyIo::InnerListener::io_done(uint64_t tag, std::exception_ptr error) {
  owner_.finished(tag, std::move(error));
}

void FaultyIo::finished(uint64_t tag, std::exception_ptr error) {
  const std::lock_guard lock(mutex_);
  Pending& pending = slots_[tag];
  pending.error = std::move(error);
  if (!pending.error && pending.fault && pending.fault->action == FaultAction::kFlipBit) {
    const uint64_t bit = pending.fault->bit;
    HEADRACE_CHECK(bit / 8 < pending.request.bytes, "the fault's bit lies in the request");
    pending.request.data[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
  }
  finished_.push_back(tag);
  changed_.notify_one();
}

// The next of finished_ to deliver. A delayed one goes when nothing else could ever overtake it.
std::optional<size_t> FaultyIo::choose() {
  std::vector<size_t> ready;
  for (size_t i = 0; i < finished_.size(); ++i)
    if (slots_[finished_[i]].wait_for == 0) ready.push_back(i);
  if (ready.empty()) {
    if (finished_.empty() || finished_.size() < outstanding_) return std::nullopt;
    return 0;
  }
  return shuffle_ ? ready[(*shuffle_)() % ready.size()] : ready.front();
}

void FaultyIo::deliver() {
  std::unique_lock lock(mutex_);
  for (;;) {
    const std::optional<size_t> chosen = choose();
    if (!chosen) {
      if (stopping_ && outstanding_ == 0) return;
      changed_.wait(lock);
      continue;
    }
    const uint64_t tag = finished_[*chosen];
    finished_.erase(finished_.begin() + static_cast<std::ptrdiff_t>(*chosen));
    Pending over = std::exchange(slots_[tag], {});
    free_tags_.push_back(tag);
    for (const uint64_t other : finished_)
      if (slots_[other].wait_for > 0) --slots_[other].wait_for;
    --outstanding_;
    lock.unlock();
    over.request.listener->io_done(over.request.tag, std::move(over.error));
    lock.lock();
  }
}

}  // namespace headrace::testing
