// The store: the blocks of a run on its shards, and the catalog that says which slot of each is current.
//
// A step is written to the slots that the committed step does not use; commit() makes it count, or it never
// happened. The store says where bytes lie and checks what was read; the caller moves them through block I/O.
//
// Ownership: the store owns descriptors, locks and the catalog, and refers to a BlockIo that must outlive it.
// Threads: read_request, verify, seal and write_request may be called from any thread, for different blocks
// at the same time; commit() from one thread at a time, with no write of the step outstanding. While
// commit() runs, reads may go on; seal() and write_request() for the next step must wait for its return.
// Failure: Error; kCorrupt names shard file, offset, length, tensor and block. A failed sync or catalog
// commit poisons the store: every later commit() throws.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "storage/block_io.h"
#include "storage/layout.h"

namespace headrace::storage {

struct StoreConfig {
  std::string run_dir;                  // RUN
  std::vector<std::string> shard_dirs;  // empty: RUN/shards/000; else one shard in each, "run id-NNN" below
  Layout layout;
  std::string model_json;   // the resolved configuration that made the layout, kept in the catalog
  std::string cursor_json;  // small state that commits with a step (seed, data position)
  uint64_t step = 0;        // that the content belongs to: of a run restored from a checkpoint
};

// Content of a block's planes at creation: fills `payload` (layout.payload_bytes, zeroed before) and returns
// how many leading planes have content; planes behind stay unwritten and read as zeros.
using BlockFiller = std::function<uint32_t(const BlockLayout& block, std::span<std::byte> payload)>;
using CreateProgress = std::function<void(uint64_t done_bytes, uint64_t total_bytes)>;

struct SpaceNeeded {
  std::string directory;
  uint64_t needed_bytes = 0, free_bytes = 0;
};

// One line of metrics.jsonl, without the newline, as it commits with its step.
struct Commit {
  uint64_t step = 0;
  std::string cursor_json;
  std::vector<std::string> metrics_lines;
};

class Store {
 public:
  // Lays out a new run: marker, shards, content, catalog with `config.step` committed. The run directory may
  // exist empty or with the remains of an unfinished creation (those are removed); anything else in it is an
  // Error (kUsage). Space is reserved first: too little is kRefused and names directory, needed and free
  // bytes. `filler` is called once a block, several at a time from the calling thread's helpers; `threads` of
  // them.
  static void create(const StoreConfig& config, BlockIo& io, const BlockFiller& filler, uint32_t threads,
                     const CreateProgress& progress);
  // True when `run_dir` holds a committed run (a catalog with step 0 or later).
  static bool exists(const std::string& run_dir);
  // What create() would reserve, by file system.
  static std::vector<SpaceNeeded> space_needed(const StoreConfig& config);

  // Opens with both locks held (waits up to 30 s for the shards' locks; another trainer on the run directory:
  // kRefused at once), checks catalog and shard structure before LMDB maps a byte, completes metrics.jsonl to
  // exactly the committed lines. `shard_dirs` says where the shards are now, empty: as recorded.
  static std::unique_ptr<Store> open(const std::string& run_dir, const std::vector<std::string>& shard_dirs,
                                     BlockIo& io);
  virtual ~Store() = default;

  virtual const Layout& layout() const = 0;
  virtual const std::string& model_json() const = 0;
  virtual const std::string& cursor_json() const = 0;  // of the committed step
  // What open() found and put right, in sentences for people.
  virtual const std::vector<std::string>& notes() const = 0;
  virtual uint64_t step() const = 0;              // committed
  virtual const std::string& run_id() const = 0;  // 32 hexadecimal digits
  // The step that the committed content of a block was written for; no two contents of a block share one.
  virtual uint64_t written_step(BlockId block) const = 0;
  virtual std::vector<std::string> shard_paths() const = 0;  // directories, in shard order; spill goes there
  virtual std::span<const FileIndex> shard_files() const = 0;
  virtual uint32_t shard_of(BlockId block) const = 0;

  // The request that reads planes `range` of the newest content of a block (written in this step, else
  // committed) to `data` (Layout::range_bytes). Listener and tag are the caller's to fill in.
  virtual IoRequest read_request(BlockId block, PlaneRange range, std::byte* data) const = 0;
  // Checks what read_request read: chunks [first_chunk, first_chunk + chunks) of the range, counted from the
  // range's first. Throws kCorrupt. Meant to be called from several threads over parts of a range.
  virtual void verify(BlockId block, PlaneRange range, const std::byte* data, uint32_t first_chunk,
                      uint32_t chunks) const = 0;
  // Checksums chunks of planes `range` about to be written for the step after the committed one; same
  // counting as verify(). All planes of a block must be sealed and written in a step, or none.
  virtual void seal(BlockId block, PlaneRange range, const std::byte* data, uint32_t first_chunk,
                    uint32_t chunks) = 0;
  // The request that writes planes `range`, sealed before, to the slot that the committed step does not use.
  // From this call on read_request() and verify() mean the new content.
  virtual IoRequest write_request(BlockId block, PlaneRange range, const std::byte* data) = 0;

  // All writes are complete: syncs every shard, then flips the slots written since the last commit in one
  // catalog transaction and appends the metrics lines. `commit.step` must be step() + 1 or later. Too little
  // space is a SpaceError before anything is done: commit again when there is more.
  virtual void commit(const Commit& commit) = 0;
  // Makes room for a commit of all blocks and a few lines; SpaceError where there is none.
  virtual void reserve_commit() = 0;
  // Replaces the cursor of the committed step, in a transaction of its own. Not beside commit(). Too little
  // space: as commit().
  virtual void set_cursor(const std::string& cursor_json) = 0;
  // Forgets what was written since the last commit; the committed content counts again.
  virtual void abandon_step() = 0;
};

}  // namespace headrace::storage
