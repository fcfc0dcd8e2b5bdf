// Block I/O for which a full disk is a pause: wraps a back end, and holds back each write that met one
// (ENOSPC, EDQUOT), its buffer untouched, until there is room. Whoever waits for the write waits that much
// longer.
//
// Ownership: refers to the wrapped back end and the waiter, which must outlive it. Threads: as BlockIo; the
// waiter is asked on a thread of PatientIo's own. Failure: where the waiter gives up, the writes held back
// complete with what it threw.
#pragma once

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>

#include "storage/block_io.h"
#include "storage/space.h"

namespace headrace::storage {

class PatientIo final : public BlockIo, private IoListener {
 public:
  PatientIo(BlockIo& inner, SpaceWaiter& waiter);
  ~PatientIo() override;  // waits for what is in flight; the waiter must give up

  FileIndex add_file(const IoFile& file) override;
  void register_memory(std::span<std::byte> memory) override { inner_.register_memory(memory); }
  void submit(std::span<const IoRequest> requests) override;
  IoCounters counters() const override { return inner_.counters(); }
  std::string description() const override { return inner_.description(); }

 private:
  struct Write {
    IoRequest request;  // as submitted
    bool retried = false;
  };

  void io_done(uint64_t tag, std::exception_ptr error) override;
  IoRequest watched(uint32_t index);
  void work();
  void try_again(std::unique_lock<std::mutex>& lock);
  SpaceError what_is_needed() const;
  void complete(uint32_t index, std::exception_ptr error);

  BlockIo& inner_;
  SpaceWaiter& waiter_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::string> paths_;  // by file
  std::deque<Write> writes_;        // addresses stay
  std::vector<uint32_t> free_;      // of them
  std::vector<uint32_t> held_;      // writes that wait for room
  uint32_t retries_ = 0;            // in flight
  int error_number_ = 0;            // that the newest of `held_` met
  bool stopping_ = false;
  std::thread thread_;  // last: it uses all of the above
};

}  // namespace headrace::storage
