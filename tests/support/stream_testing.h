// For tests of the streaming engine below the trainer: a store on files in memory, random programs as models
// could record them, and a guard against hanging.
#pragma once

#include <cstdint>
#include <functional>
#include <mutex>
#include <random>
#include <string>
#include <vector>

#include "engine/stream/schedule.h"
#include "storage/block_io.h"
#include "storage/store.h"

namespace headrace::testing {

// Tensors of one block each, with AdamW's planes and random sizes of some pages.
storage::Layout random_layout(std::mt19937_64& random, uint32_t blocks);

// A store without slots and commits: the newest content of a block is the only one. Checksums are kept as the
// real one keeps them.
class SimpleStore final : public storage::Store {
 public:
  static constexpr const char* kPath = "store";  // of its file
  // Block i is at offset(i) of the file.
  SimpleStore(storage::Layout layout, storage::BlockIo& io);
  uint64_t offset(storage::BlockId block) const { return offsets_[block]; }
  // Makes `payload` [layout.payload_bytes] of a block the content that verify() expects.
  void expect(storage::BlockId block, const std::byte* payload);

  const storage::Layout& layout() const override { return layout_; }
  const std::string& model_json() const override { return empty_; }
  const std::string& cursor_json() const override { return empty_; }
  const std::vector<std::string>& notes() const override { return notes_; }
  uint64_t step() const override { return 0; }
  const std::string& run_id() const override { return empty_; }
  uint64_t written_step(storage::BlockId) const override { return 0; }
  std::vector<std::string> shard_paths() const override { return {"first", "second"}; }  // of spill files
  std::span<const storage::FileIndex> shard_files() const override { return {&file_, 1}; }
  uint32_t shard_of(storage::BlockId) const override { return 0; }
  storage::IoRequest read_request(storage::BlockId block, storage::PlaneRange range,
                                  std::byte* data) const override;
  void verify(storage::BlockId block, storage::PlaneRange range, const std::byte* data, uint32_t first_chunk,
              uint32_t chunks) const override;
  void seal(storage::BlockId block, storage::PlaneRange range, const std::byte* data, uint32_t first_chunk,
            uint32_t chunks) override;
  storage::IoRequest write_request(storage::BlockId block, storage::PlaneRange range,
                                   const std::byte* data) override;
  void commit(const storage::Commit&) override {}
  void reserve_commit() override {}
  void set_cursor(const std::string&) override {}
  void abandon_step() override {}

 private:
  uint64_t checksum(storage::BlockId block, storage::PlaneRange range, const std::byte* data, uint32_t chunk,
                    uint32_t& index) const;

  storage::Layout layout_;
  std::string empty_;
  std::vector<std::string> notes_;
  storage::FileIndex file_;
  std::vector<uint64_t> offsets_;
  mutable std::mutex mutex_;
  std::vector<std::vector<uint64_t>> checksums_;  // by block
};

// Programs as the steps of a session follow each other: temporaries are created, read, changed and die;
// gradients are created, added to, and consumed by an update at once or in a later program.
class RandomPrograms {
 public:
  RandomPrograms(const stream::EntrySpace& space, uint32_t blocks, uint64_t seed)
      : space_(space), blocks_(blocks), random_(seed), gradient_exists_(blocks) {}
  stream::Program next();

 private:
  void add_update(stream::Program& program);
  void add_compute(stream::Program& program);
  uint64_t below(uint64_t end) { return random_() % end; }

  const stream::EntrySpace& space_;
  uint32_t blocks_;
  std::mt19937_64 random_;
  std::vector<bool> gradient_exists_, updated_;  // by block; updated_: in this program
  uint32_t parity_ = 0;
};

// Runs `body` in a thread; a test that hangs for longer ends the test binary and says where it was.
void run_within(double seconds, const std::string& what, const std::function<void()>& body);

}  // namespace headrace::testing
