#include "storage/lmdb_check.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <lmdb.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <map>
#include <new>
#include <random>

#include "storage/catalog_env.h"
#include "storage/shard.h"
#include "tests/support/store_content.h"
#include "tests/support/temporary_directory.h"

namespace headrace {
namespace {

using namespace storage;
using namespace testing;
using ::testing::HasSubstr;

LmdbFile check(const std::string& path, bool exact_length = false) {
  return check_lmdb_file(File::open(path, OpenMode::kRead), exact_length);
}

bool accepted(const std::string& path, bool exact_length) {
  try {
    check(path, exact_length);
    return true;
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kCorrupt) << error.what();
    return false;
  }
}

// Reads all of an environment as LMDB sees it, then writes a little; 0, or LMDB's error.
int use_with_lmdb(const std::string& path, bool write) {
  MDB_env* env = nullptr;
  MDB_txn* txn = nullptr;
  MDB_dbi database = 0;
  MDB_cursor* cursor = nullptr;
  uint64_t sum = 0;
  if (mdb_env_create(&env) != 0) return -1;
  mdb_env_set_mapsize(env, size_t{64} << 20);
  int error =
      mdb_env_open(env, path.c_str(), MDB_NOSUBDIR | MDB_NOLOCK | (write ? 0u : unsigned{MDB_RDONLY}), 0644);
  if (error == 0) error = mdb_txn_begin(env, nullptr, MDB_RDONLY, &txn);
  if (error == 0) error = mdb_dbi_open(txn, nullptr, 0, &database);
  if (error == 0) error = mdb_cursor_open(txn, database, &cursor);
  MDB_val key, value;
  while (error == 0 && (error = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) == 0) {
    for (size_t i = 0; i < value.mv_size; i += 512) sum += static_cast<unsigned char*>(value.mv_data)[i];
    for (size_t i = 0; i < key.mv_size; i++) sum += static_cast<unsigned char*>(key.mv_data)[i];
    MDB_val again;
    if (mdb_get(txn, database, &key, &again) != 0) return -2;
  }
  if (cursor != nullptr) mdb_cursor_close(cursor);
  if (txn != nullptr) mdb_txn_abort(txn);
  txn = nullptr;
  if (write && error == MDB_NOTFOUND) {
    error = mdb_txn_begin(env, nullptr, 0, &txn);
    for (int i = 0; error == 0 && i < 20; i++) {
      std::string name = fmt::format("key {}", i * 37), text(i % 3 == 0 ? 9000 : 30, 'x');
      MDB_val k{name.size(), name.data()}, v{text.size(), text.data()};
      error = mdb_put(txn, database, &k, &v, 0);
    }
    if (error == 0) {
      error = mdb_txn_commit(txn);
    } else if (txn != nullptr) {
      mdb_txn_abort(txn);
    }
  }
  mdb_env_close(env);
  return sum == 1 ? -3 : error;
}

// The signal that ended a child that used the file, or 0.
int signal_of_use(const std::string& path, bool write) {
  const pid_t child = fork();
  if (child == 0) {
    if (std::freopen("/dev/null", "w", stderr) == nullptr) _exit(1);
    use_with_lmdb(path, write);
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

// An environment with a few levels, overflow runs and free pages.
class Environment {
 public:
  explicit Environment(const std::string& path) {
    EXPECT_EQ(mdb_env_create(&env_), 0);
    EXPECT_EQ(mdb_env_set_mapsize(env_, size_t{1} << 30), 0);
    EXPECT_EQ(mdb_env_open(env_, path.c_str(), MDB_NOSUBDIR | MDB_NOSYNC, 0644), 0);
  }
  ~Environment() { mdb_env_close(env_); }
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;

  void change(std::mt19937_64& random, int changes) {
    MDB_txn* txn = nullptr;
    MDB_dbi database = 0;
    ASSERT_EQ(mdb_txn_begin(env_, nullptr, 0, &txn), 0);
    ASSERT_EQ(mdb_dbi_open(txn, nullptr, 0, &database), 0);
    for (int i = 0; i < changes; i++) {
      std::string name = fmt::format("key {}", random() % 1500);
      name.resize(name.size() + random() % 2 * 40, 'k');  // few enough keys that many are overwritten
      const size_t sizes[] = {0, 40, 700, 2100, 5000, 40000};
      std::string text(random() % (sizes[random() % 6] + 1), 'v');
      MDB_val key{name.size(), name.data()}, value{text.size(), text.data()};
      if (random() % 3 == 0) {
        mdb_del(txn, database, &key, nullptr);
      } else {
        ASSERT_EQ(mdb_put(txn, database, &key, &value, 0), 0);
      }
    }
    ASSERT_EQ(mdb_txn_commit(txn), 0);
  }
  std::map<std::string, size_t> content() {
    std::map<std::string, size_t> found;
    MDB_txn* txn = nullptr;
    MDB_dbi database = 0;
    MDB_cursor* cursor = nullptr;
    mdb_txn_begin(env_, nullptr, MDB_RDONLY, &txn);
    mdb_dbi_open(txn, nullptr, 0, &database);
    mdb_cursor_open(txn, database, &cursor);
    MDB_val key, value;
    while (mdb_cursor_get(cursor, &key, &value, MDB_NEXT) == 0) {
      found.emplace(std::string(static_cast<char*>(key.mv_data), key.mv_size), value.mv_size);
    }
    mdb_cursor_close(cursor);
    mdb_txn_abort(txn);
    return found;
  }

 private:
  MDB_env* env_ = nullptr;
};

TEST(LmdbCheck, AcceptsWhateverLmdbWritesAndSeesTheSameValues) {
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE(fmt::format("seed {}", seed));
  std::mt19937_64 random(seed);
  const TemporaryDirectory directory;
  const std::string path = directory / "data.mdb";
  Environment environment(path);
  EXPECT_EQ(check(path).entries, 0u);
  for (int i = 0; i < 150; i++) {
    environment.change(random, static_cast<int>(random() % 300) + 1);
    std::map<std::string, size_t> found;
    const LmdbFile file =
        check_lmdb_file(File::open(path, OpenMode::kRead), false,
                        [&](const LmdbValue& value) { found.emplace(std::string(value.key), value.bytes); });
    EXPECT_EQ(file.entries, found.size());
    ASSERT_EQ(found, environment.content());
  }
}

TEST(LmdbCheck, RefusesOtherFormatsByName) {
  const TemporaryDirectory directory;
  const std::string path = directory / "data.mdb";
  { Environment environment(path); }
  std::string bytes = read_file(path);
  bytes[20] = 3;
  write_file(path, bytes);
  try {
    check(path);
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("data version 3"));
  }
  write_file(path, "not LMDB");
  EXPECT_FALSE(accepted(path, false));
  write_file(path, std::string(100000, 'x'));
  EXPECT_FALSE(accepted(path, false));
  write_file(path, "");
  EXPECT_FALSE(accepted(path, false));
}

TEST(LmdbCheck, RefusesATruncatedFile) {
  std::mt19937_64 random(1);
  const TemporaryDirectory directory;
  const std::string path = directory / "data.mdb";
  {
    Environment environment(path);
    for (int i = 0; i < 5; i++) environment.change(random, 200);
  }
  const std::string bytes = read_file(path);
  for (size_t length = 0; length < bytes.size(); length += 4096 * 7 + 100) {
    write_file(path, bytes.substr(0, length));
    EXPECT_FALSE(accepted(path, true)) << length;
    if (accepted(path, false)) {
      EXPECT_EQ(signal_of_use(path, false), 0) << length;
    }
  }
}

struct Flips {
  int rounds, accepted, refused;
};

// Flips bits of the file, most of them where structure lies, and uses what the checker accepts. Runs in a
// child, which a signal ends; the counts survive it.
void flip_and_use_here(const std::string& path, bool exact_length, bool write, int rounds, uint64_t seed,
                       volatile Flips& flips) {
  int accepted_count = 0, refused_count = 0;
  std::mt19937_64 random(seed);
  const std::string whole = read_file(path);
  const std::string spoiled = path + "-spoiled";
  for (int round = 0; round < rounds; round++) {
    flips.rounds = round;
    std::string bytes = whole;
    const int count = 1 + static_cast<int>(random() % 3);
    for (int i = 0; i < count; i++) {
      size_t at = random() % bytes.size();
      switch (random() % 4) {
        case 0:  // meta pages
          at = random() % 152 + (random() % 2) * 4096;
          break;
        case 1:  // page headers and node tables
          at = at / 4096 * 4096 + random() % 64;
          break;
        default:
          break;
      }
      if (at < bytes.size()) bytes[at] = static_cast<char>(bytes[at] ^ (1 << random() % 8));
    }
    write_file(spoiled, bytes);
    if (accepted(spoiled, exact_length)) {
      accepted_count++;
      flips.accepted = accepted_count;
      use_with_lmdb(spoiled, write);
    } else {
      refused_count++;
      flips.refused = refused_count;
    }
  }
}

Flips flip_and_use(const std::string& path, bool exact_length, bool write, int rounds, uint64_t seed) {
  void* shared = mmap(nullptr, sizeof(Flips), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  auto& flips = *new (shared) Flips{0, 0, 0};
  const pid_t child = fork();
  if (child == 0) {
    flip_and_use_here(path, exact_length, write, rounds, seed, flips);
    _exit(::testing::Test::HasFailure() ? 1 : 0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0) << "wait status of the child; seed " << seed << ", round " << flips.rounds;
  const Flips result = flips;
  munmap(shared, sizeof(Flips));
  return result;
}

TEST(LmdbCheck, NoFlippedBitThatItAcceptsKillsAReaderOrWriter) {
  const uint64_t seed = std::random_device{}();
  std::mt19937_64 random(seed);
  const TemporaryDirectory directory;
  const std::string path = directory / "data.mdb";
  {
    Environment environment(path);
    for (int i = 0; i < 30; i++) environment.change(random, 30);
  }
  const Flips read = flip_and_use(path, false, false, 4000, seed);
  const Flips written = flip_and_use(path, false, true, 2000, seed + 1);
  EXPECT_GT(read.refused, 300);
  EXPECT_GT(read.accepted + written.accepted, 100);
}

TEST(LmdbCheck, NoFlippedBitInAShardThatItAcceptsKillsAReader) {
  const uint64_t seed = std::random_device{}();
  const TemporaryDirectory directory;
  const Layout layout = small_layout(256);
  std::vector<const BlockLayout*> blocks;
  for (const BlockLayout& block : layout.blocks()) {
    if (block.payload_bytes < 100000) blocks.push_back(&block);
  }
  lay_out_shard(directory.path(), {std::string(32, 'a'), 0, 1}, blocks);
  const Flips flips = flip_and_use(directory / "data.mdb", true, false, 4000, seed);
  EXPECT_GT(flips.refused, 300);
}

TEST(LmdbCheck, TheStructureOfAFileIsAHashOfItsStructure) {
  const TemporaryDirectory directory;
  const std::string path = directory / "data.mdb";
  std::mt19937_64 random(1);
  {
    Environment environment(path);
    environment.change(random, 100);
  }
  const std::string before = check(path).structure;
  EXPECT_EQ(check(path).structure, before);
  Environment(path).change(random, 1);
  EXPECT_NE(check(path).structure, before);
}

}  // namespace
}  // namespace headrace
