#include "storage/spill_file.h"

#include <gtest/gtest.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>

#include "storage/aligned_memory.h"
#include "storage/checksum.h"
#include "tests/support/expect_error.h"
#include "tests/support/temporary_directory.h"

namespace headrace {
namespace {

using namespace storage;
using namespace testing;

TEST(SpillFile, GivesBackWhatWasSpilledAndLeavesNoName) {
  const TemporaryDirectory directory;
  const auto io = make_block_io({});
  SpillFile spill(directory.path(), 0, *io);
  const uint64_t bytes = 200 * 4096;
  spill.reserve(bytes / 2);
  spill.reserve(bytes);
  EXPECT_EQ(spill.reserved_bytes(), bytes);
  EXPECT_TRUE(std::filesystem::is_empty(directory.path()));
  const AlignedMemory out(bytes), in(bytes);
  std::memset(out.data(), 0x5a, bytes);
  const ChunkIdentity identity{7, kSpillSlot, 0, 3};
  std::vector<uint64_t> sums((bytes + kChecksumChunk - 1) / kChecksumChunk);
  checksum_extent(identity, out.span().first(bytes), sums);
  IoRequest write{IoKind::kWrite, spill.file(), 0, out.data(), bytes, nullptr, 0};
  transfer_and_wait(*io, {&write, 1});
  IoRequest read{IoKind::kRead, spill.file(), 0, in.data(), bytes, nullptr, 0};
  transfer_and_wait(*io, {&read, 1});
  EXPECT_EQ(first_mismatch(identity, in.span().first(bytes), sums), sums.size());
  in.data()[kChecksumChunk + 5] ^= std::byte{1};
  EXPECT_EQ(first_mismatch(identity, in.span().first(bytes), sums), 1u);
}

TEST(SpillFile, ChecksumsTellEqualBytesOfOtherExtentsApart) {
  const std::vector<std::byte> zeros(4096);
  const ChunkIdentity identity{7, kSpillSlot, 2, 3};
  const uint64_t sum = chunk_checksum(identity, zeros);
  for (const ChunkIdentity& other :
       {ChunkIdentity{8, kSpillSlot, 2, 3}, ChunkIdentity{7, 0, 2, 3}, ChunkIdentity{7, kSpillSlot, 3, 3},
        ChunkIdentity{7, kSpillSlot, 2, 4}}) {
    EXPECT_NE(chunk_checksum(other, zeros), sum);
  }
  EXPECT_EQ(chunk_checksum(identity, zeros), sum);
}

TEST(SpillFile, AFullDiskIsRefusedAndNamed) {
  if (geteuid() != 0) GTEST_SKIP() << "needs to mount a file system: run as root";
  const TemporaryDirectory directory;
  const auto io = make_block_io({});
  ASSERT_EQ(mount("none", directory.path().c_str(), "tmpfs", 0, "size=1m"), 0);
  {
    SpillFile spill(directory.path(), 0, *io);
    expect_error(ErrorKind::kRefused, directory.path(), [&] { spill.reserve(uint64_t{2} << 20); });
  }
  EXPECT_EQ(umount(directory.path().c_str()), 0);
}

}  // namespace
}  // namespace headrace
