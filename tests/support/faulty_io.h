// Block I/O that goes wrong as scripted: wraps another back end and spoils chosen requests, as drives,
// kernels and controllers do. Short transfers are not among the faults: back ends continue them, so nobody
// above sees one.
//
// A fault names a request by its kind and its number among the requests of that kind, counted from 0 in the
// order of submission. Threads: as BlockIo. Completions come on a thread of FaultyIo, one at a time.
#pragma once

#include <array>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "storage/block_io.h"

namespace headrace::testing {

enum class FaultAction : uint8_t {
  kFail,           // completes with `error_number`, nothing is moved or synced
  kFlipBit,        // a read: bit `bit` of what it returns is inverted
  kLoseWrite,      // a write: reported as done, never made
  kTearWrite,      // a write: reported as done, but only its first `bytes` were made
  kMisplaceWrite,  // a write: made `displacement` bytes further on, reported as done where it should be
  kDelay,          // completes only after `completions` later ones, or when no other is outstanding
};

struct Fault {
  storage::IoKind kind = storage::IoKind::kRead;
  uint64_t number = 0;
  FaultAction action = FaultAction::kFail;
  int error_number = 5;  // EIO
  uint64_t bit = 0;      // of the request's data
  uint64_t bytes = 0;
  int64_t displacement = 0;  // bytes
  uint32_t completions = 1;
};

class FaultyIo final : public storage::BlockIo {
 public:
  // `inner` must outlive this. With a `shuffle_seed`, completions are delivered in a random order.
  explicit FaultyIo(storage::BlockIo& inner, std::vector<Fault> faults = {},
                    std::optional<uint64_t> shuffle_seed = std::nullopt);
  ~FaultyIo() override;  // waits for what is outstanding
  FaultyIo(const FaultyIo&) = delete;
  FaultyIo& operator=(const FaultyIo&) = delete;

  void add_fault(const Fault& fault);
  uint64_t faults_met() const;                     // a script that never met its request proves nothing
  uint64_t submitted(storage::IoKind kind) const;  // requests so far: the number of the next

  storage::FileIndex add_file(const storage::IoFile& file) override { return inner_.add_file(file); }
  void register_memory(std::span<std::byte> memory) override { inner_.register_memory(memory); }
  void submit(std::span<const storage::IoRequest> requests) override;
  storage::IoCounters counters() const override { return inner_.counters(); }
  std::string description() const override { return "faulty " + inner_.description(); }

 private:
  struct Pending {
    storage::IoRequest request;  // as the caller made it
    std::optional<Fault> fault;
    std::exception_ptr error;
    uint32_t wait_for = 0;  // completions to let pass first
  };
  class InnerListener final : public storage::IoListener {
   public:
    explicit InnerListener(FaultyIo& owner) : owner_(owner) {}
    void io_done(uint64_t tag, std::exception_ptr error) override;

   private:
    FaultyIo& owner_;
  };

  std::optional<Fault> take_fault(storage::IoKind kind);
  std::optional<storage::IoRequest> spoil(Pending& pending, uint64_t tag);
  void finished(uint64_t tag, std::exception_ptr error);
  void deliver();
  std::optional<size_t> choose();

  storage::BlockIo& inner_;
  InnerListener listener_{*this};
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Fault> faults_;
  std::array<uint64_t, 3> submitted_{};  // by IoKind
  uint64_t faults_met_ = 0;
  std::deque<Pending> slots_;  // by tag; addresses stay
  std::vector<uint64_t> free_tags_;
  std::vector<uint64_t> finished_;  // tags to be delivered
  size_t outstanding_ = 0;          // submitted and not delivered
  std::optional<std::mt19937_64> shuffle_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace headrace::testing
