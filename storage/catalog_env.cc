#include "storage/catalog_env.h"

#include <fmt/format.h>
#include <lmdb.h>

#include <chrono>
#include <cstring>
#include <thread>

#include "storage/checksum.h"
#include "storage/error.h"
#include "storage/file.h"
#include "storage/lmdb_check.h"
#include "storage/run_dir.h"
#include "storage/space.h"

namespace headrace::storage {
namespace {

constexpr size_t kTrailerBytes = 16;  // transaction, checksum
constexpr size_t kMinMapBytes = size_t{64} << 20;
constexpr uint64_t kLockBytes = 8192;  // of LMDB's lock file with its 126 readers
constexpr int kLiveTries = 20;         // of a check beside a live writer

uint64_t value_checksum(std::string_view key, std::span<const std::byte> value, uint64_t transaction) {
  const uint64_t of_key = checksum_bytes(std::as_bytes(std::span(key)), transaction);
  return checksum_bytes(value, of_key);
}

struct EnvCloser {
  void operator()(MDB_env* env) const { mdb_env_close(env); }
};

class Transaction {
 public:
  Transaction(MDB_env* env, unsigned flags) : error_(mdb_txn_begin(env, nullptr, flags, &txn_)) {
    if (error_ == 0) error_ = mdb_dbi_open(txn_, nullptr, 0, &database_);
  }
  ~Transaction() {
    if (txn_ != nullptr) mdb_txn_abort(txn_);
  }
  Transaction(const Transaction&) = delete;
  Transaction& operator=(const Transaction&) = delete;

  int error() const { return error_; }
  uint64_t number() const { return mdb_txn_id(txn_); }
  MDB_txn* get() const { return txn_; }
  MDB_dbi database() const { return database_; }
  int commit() { return mdb_txn_commit(std::exchange(txn_, nullptr)); }

 private:
  MDB_txn* txn_ = nullptr;
  MDB_dbi database_ = 0;
  int error_ = 0;
};

class LmdbBatch final : public CatalogEnv::Batch {
 public:
  LmdbBatch(Transaction& transaction, std::vector<std::byte>& scratch)
      : transaction_(transaction), scratch_(scratch) {}

  void put(std::string_view key, std::span<const std::byte> value) override {
    if (error_ != 0) return;
    const uint64_t trailer[2] = {transaction_.number(), value_checksum(key, value, transaction_.number())};
    scratch_.resize(value.size() + kTrailerBytes);
    if (!value.empty()) std::memcpy(scratch_.data(), value.data(), value.size());
    std::memcpy(scratch_.data() + value.size(), trailer, sizeof trailer);
    MDB_val name{key.size(), const_cast<char*>(key.data())};
    MDB_val data{scratch_.size(), scratch_.data()};
    error_ = mdb_put(transaction_.get(), transaction_.database(), &name, &data, 0);
  }
  int error() const { return error_; }

 private:
  Transaction& transaction_;
  std::vector<std::byte>& scratch_;
  int error_ = 0;
};

// A live writer may commit in the middle of the check, which then sees halves of two states.
LmdbFile check(const std::string& path, CatalogAccess access) {
  const File file = File::open(path, OpenMode::kRead);
  for (int tries = 1;; tries++) {
    try {
      return check_lmdb_file(file, false);
    } catch (const Error&) {
      if (access != CatalogAccess::kRead || tries == kLiveTries) throw;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(10 * tries));
  }
}

// LMDB maps its lock file, so a page for which the disk has no room would end the process with a signal.
void reserve_lock(const std::string& directory) {
  const std::string path = directory + "/lock.mdb";
  const File file = File::open(path, file_exists(path) ? OpenMode::kReadWrite : OpenMode::kCreate);
  reserve_space(file, kLockBytes, "the catalog's lock file");
}

}  // namespace

struct CatalogEnv::State {
  std::string path;
  std::unique_ptr<MDB_env, EnvCloser> env;
  size_t map_bytes = kMinMapBytes;
  std::vector<std::byte> scratch;
  File data;  // for reserving; not of kRead

  [[noreturn]] void fail(const char* what, int error) const {
    throw Error(ErrorKind::kFailed, fmt::format("cannot {} {}: {}", what, path, mdb_strerror(error)));
  }
  void grow() {
    map_bytes *= 2;
    if (const int error = mdb_env_set_mapsize(env.get(), map_bytes)) fail("enlarge the map of", error);
  }
};

CatalogEnv::CatalogEnv(const std::string& directory, CatalogAccess access)
    : state_(std::make_unique<State>()) {
  State& state = *state_;
  state.path = directory + "/data.mdb";
  if (access != CatalogAccess::kCreate) {
    const LmdbFile file = check(state.path, access);
    while (state.map_bytes < 4 * file.file_bytes) state.map_bytes *= 2;
  }
  if (access != CatalogAccess::kRead) reserve_lock(directory);
  MDB_env* env = nullptr;
  if (const int error = mdb_env_create(&env)) state.fail("make an environment for", error);
  state.env.reset(env);
  if (const int error = mdb_env_set_mapsize(env, state.map_bytes)) state.fail("set the map of", error);
  const unsigned flags = MDB_NORDAHEAD | (access == CatalogAccess::kRead ? unsigned{MDB_RDONLY} : 0u);
  if (const int error = mdb_env_open(env, directory.c_str(), flags, 0644)) state.fail("open", error);
  if (access != CatalogAccess::kRead) state.data = File::open(state.path, OpenMode::kReadWrite);
}

CatalogEnv::~CatalogEnv() = default;

const std::string& CatalogEnv::path() const { return state_->path; }

void CatalogEnv::reserve(uint64_t bytes) const {
  reserve_space(state_->data, state_->data.size() + bytes, "a commit to the catalog");
}

void CatalogEnv::commit(const std::function<void(Batch&)>& fill) {
  State& state = *state_;
  int dead_readers = 0;  // a reader that was killed would keep its pages from being used again
  if (const int error = mdb_reader_check(state.env.get(), &dead_readers))
    state.fail("check the readers of", error);
  for (;;) {
    int error = 0;
    {
      Transaction transaction(state.env.get(), 0);
      if (transaction.error() != 0) state.fail("begin a transaction in", transaction.error());
      LmdbBatch batch(transaction, state.scratch);
      fill(batch);
      error = batch.error();
      if (error == 0) error = transaction.commit();
    }
    if (error == 0) return;
    if (error != MDB_MAP_FULL) state.fail("commit to", error);
    state.grow();
  }
}

uint64_t CatalogEnv::read_all(const Visitor& visit) const {
  const State& state = *state_;
  Transaction transaction(state.env.get(), MDB_RDONLY);
  if (transaction.error() != 0) state.fail("read", transaction.error());
  MDB_cursor* cursor = nullptr;
  if (const int error = mdb_cursor_open(transaction.get(), transaction.database(), &cursor)) {
    state.fail("read", error);
  }
  const std::unique_ptr<MDB_cursor, void (*)(MDB_cursor*)> closer(cursor, mdb_cursor_close);
  MDB_val name, data;
  int error = 0;
  while ((error = mdb_cursor_get(cursor, &name, &data, MDB_NEXT)) == 0) {
    const std::string_view key(static_cast<const char*>(name.mv_data), name.mv_size);
    uint64_t trailer[2] = {0, 0};
    const bool long_enough = data.mv_size >= kTrailerBytes;
    const size_t bytes = long_enough ? data.mv_size - kTrailerBytes : 0;
    const std::span value(static_cast<const std::byte*>(data.mv_data), bytes);
    if (long_enough) std::memcpy(trailer, value.data() + bytes, sizeof trailer);
    if (!long_enough || trailer[0] > transaction.number() ||
        trailer[1] != value_checksum(key, value, trailer[0])) {
      throw Error(
          ErrorKind::kCorrupt,
          fmt::format("{}: the value of '{}' ({} bytes) is not what was written", state.path, key, bytes),
          "Restore the run from a checkpoint or a copy");
    }
    visit(key, value, trailer[0]);
  }
  if (error != MDB_NOTFOUND) state.fail("read", error);
  return transaction.number();
}

}  // namespace headrace::storage
