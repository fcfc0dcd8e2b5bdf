#include "storage/bench/lmdb_engine.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <lmdb.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <utility>

#include "storage/bench/scratch_file.h"
#include "storage/error.h"
#include "storage/file.h"

namespace headrace::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr uint64_t kPageBytes = 4096;
constexpr auto kProgressEvery = std::chrono::milliseconds(100);

double seconds_between(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

}  // namespace

struct LmdbEngine::State {
  std::string directory;
  uint64_t values = 0, value_bytes = 0;
  storage::BlockFile file;
  MDB_env* env = nullptr;
  MDB_txn* transaction = nullptr;
  MDB_dbi database = 0;
  uint64_t uncommitted_bytes = 0;

  ~State() { close(); }

  [[noreturn]] void fail(const char* what, int error) const {
    throw Error(ErrorKind::kFailed,
                fmt::format("cannot {} LMDB's file in {}: {}", what, directory, mdb_strerror(error)),
                "Leave LMDB out of the comparison, or free space there");
  }

  void open() {
    // Through /proc the file that has no name: nothing is left behind, whatever ends the process.
    const std::string path = fmt::format("/proc/self/fd/{}", file.file.descriptor());
    if (const int error = mdb_env_create(&env)) fail("make an environment for", error);
    if (const int error = mdb_env_set_mapsize(env, file_bytes(values, value_bytes))) fail("map", error);
    if (const int error = mdb_env_open(env, path.c_str(), MDB_NOSUBDIR | MDB_NOLOCK, 0600))
      fail("open", error);
  }

  void close() {
    if (transaction != nullptr) mdb_txn_abort(std::exchange(transaction, nullptr));
    if (env != nullptr) mdb_env_close(std::exchange(env, nullptr));
  }

  void begin(bool writes) {
    if (const int error = mdb_txn_begin(env, nullptr, writes ? 0 : MDB_RDONLY, &transaction))
      fail("use", error);
    if (const int error = mdb_dbi_open(transaction, nullptr, 0, &database)) fail("use", error);
    uncommitted_bytes = 0;
  }

  void commit() {
    if (const int error = mdb_txn_commit(std::exchange(transaction, nullptr))) fail("commit to", error);
  }

  void put(uint64_t key, std::span<std::byte> value) {
    const uint64_t name = __builtin_bswap64(key);  // so that keys sort as numbers
    MDB_val k{sizeof name, const_cast<uint64_t*>(&name)}, v{value.size(), value.data()};
    if (const int error = mdb_put(transaction, database, &k, &v, 0)) fail("put to", error);
    uncommitted_bytes += value.size();
    if (uncommitted_bytes < kTransactionBytes) return;
    commit();
    begin(true);
  }

  void get(uint64_t key, std::span<std::byte> value) {
    const uint64_t name = __builtin_bswap64(key);
    MDB_val k{sizeof name, const_cast<uint64_t*>(&name)}, v{};
    if (const int error = mdb_get(transaction, database, &k, &v)) fail("get from", error);
    HEADRACE_CHECK(v.mv_size == value.size());
    std::memcpy(value.data(), v.mv_data, v.mv_size);
  }
};

uint64_t LmdbEngine::file_bytes(uint64_t values, uint64_t value_bytes) {
  // A value's pages with their header, the tree; pages that are freed are not used again before the next
  // transaction but one.
  const uint64_t value_pages = value_bytes / kPageBytes + 2;
  const uint64_t transactions = 4 * (kTransactionBytes / value_bytes + 1);
  return ((values + transactions) * value_pages + values / 32 + 4096) * kPageBytes;
}

LmdbEngine::LmdbEngine(const std::string& directory, uint64_t values, uint64_t value_bytes)
    : state_(std::make_unique<State>()) {
  state_->directory = directory;
  state_->values = values;
  state_->value_bytes = value_bytes;
  state_->file = make_scratch_file(directory, 0, DirectMode::kNo);
}

LmdbEngine::~LmdbEngine() = default;

JobResult LmdbEngine::run(Pattern& pattern, std::span<std::byte> memory, const JobOptions& options) {
  State& state = *state_;
  const uint64_t bytes = state.value_bytes;
  HEADRACE_CHECK(memory.size() >= 2 * bytes);
  drop_from_cache(state.file, state.file.file.size());
  ::posix_fadvise(state.file.file.descriptor(), 0, 0, POSIX_FADV_NORMAL);
  state.open();

  JobResult result;
  WindowCounter windows;
  const CpuTime cpu_before = CpuTime::now();
  const Clock::time_point start = Clock::now();
  Clock::time_point now = start, told = start;
  Access access;
  bool writing = false, any = pattern.next(access);
  uint64_t number = 0;
  while (any) {
    if (options.stop != nullptr && *options.stop != 0) result.stopped = true;
    if (result.stopped) break;
    if (options.runtime_seconds > 0 && seconds_between(start, now) >= options.runtime_seconds) break;
    const bool read = access.kind == storage::IoKind::kRead;
    if (!read && !writing && state.transaction != nullptr) {
      mdb_txn_abort(std::exchange(state.transaction, nullptr));
    }
    writing = writing || !read;
    if (state.transaction == nullptr) state.begin(writing);
    const uint64_t key = access.offset / bytes;
    const Clock::time_point before = Clock::now();
    if (read) {
      state.get(key, memory.subspan(bytes, bytes));
    } else {
      stamp_pages(memory.first(bytes), access.offset, number++);
      state.put(key, memory.first(bytes));
    }
    now = Clock::now();
    const auto latency = std::chrono::duration_cast<std::chrono::nanoseconds>(now - before).count();
    result.add(access, static_cast<uint64_t>(latency));
    windows.add(seconds_between(start, now), read, bytes, static_cast<uint64_t>(latency));
    if (options.progress && now - told >= kProgressEvery) {
      told = now;
      options.progress(seconds_between(start, now), result.bytes());
    }
    any = pattern.next(access);
  }
  if (state.transaction != nullptr && writing) state.commit();
  result.seconds = seconds_between(start, Clock::now());
  result.set_cpu_time(cpu_before, CpuTime::now());
  result.window_seconds = windows.window_seconds();
  result.windows = windows.windows();
  state.close();
  return result;
}

}  // namespace headrace::bench
