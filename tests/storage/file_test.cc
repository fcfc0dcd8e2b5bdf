#include "storage/file.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <array>
#include <cerrno>
#include <filesystem>
#include <vector>

#include "storage/aligned_memory.h"
#include "tests/support/temporary_directory.h"

namespace headrace::storage {
namespace {

using headrace::testing::TemporaryDirectory;
using ::testing::HasSubstr;

std::vector<std::byte> pattern(size_t bytes) {
  std::vector<std::byte> data(bytes);
  for (size_t i = 0; i < bytes; ++i) data[i] = static_cast<std::byte>(i * 131 + i / 251);
  return data;
}

TEST(File, ReadsBackWhatItWrote) {
  const TemporaryDirectory directory;
  const File file = File::open(directory / "data", OpenMode::kCreate);
  const std::vector<std::byte> written = pattern(100000);
  file.pwrite_all(written, 77);
  file.sync();
  EXPECT_EQ(file.size(), 100077u);
  std::vector<std::byte> read(written.size());
  File::open(directory / "data", OpenMode::kRead).pread_all(read, 77);
  EXPECT_EQ(read, written);
}

TEST(File, RefusesToCreateOverAnExistingFile) {
  const TemporaryDirectory directory;
  headrace::testing::write_file(directory / "data", "precious");
  try {
    File::open(directory / "data", OpenMode::kCreate);
    FAIL() << "created over an existing file";
  } catch (const IoError& error) {
    EXPECT_EQ(error.error_number(), EEXIST);
    EXPECT_EQ(std::string(error.what()), "cannot create " + (directory / "data") + ": File exists");
  }
  EXPECT_EQ(headrace::testing::read_file(directory / "data"), "precious");
}

TEST(File, NamesTheFileThatCannotBeOpened) {
  try {
    File::open("/nowhere/at/all", OpenMode::kReadWrite);
    FAIL() << "opened a file that does not exist";
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "cannot open /nowhere/at/all: No such file or directory");
  }
}

TEST(File, ReportsAReadPastTheEndAsCorrupt) {
  const TemporaryDirectory directory;
  headrace::testing::write_file(directory / "data", "0123456789");
  const File file = File::open(directory / "data", OpenMode::kRead);
  std::array<std::byte, 8> data{};
  try {
    file.pread_all(data, 4);
    FAIL() << "read past the end";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kCorrupt);
    EXPECT_EQ(std::string(error.what()),
              "cannot read 8 bytes at offset 4 of " + (directory / "data") + ": end of file at 10");
  }
}

TEST(File, ReportsAWriteToAFileOpenedForReading) {
  const TemporaryDirectory directory;
  headrace::testing::write_file(directory / "data", "0123456789");
  const File file = File::open(directory / "data", OpenMode::kRead);
  EXPECT_THROW(file.pwrite_all(pattern(10), 0), IoError);
  EXPECT_EQ(headrace::testing::read_file(directory / "data"), "0123456789");
}

TEST(File, ClosesItsDescriptorOnceWhenMoved) {
  const TemporaryDirectory directory;
  File first = File::open(directory / "data", OpenMode::kCreate);
  const int descriptor = first.descriptor();
  File second = std::move(first);
  EXPECT_FALSE(first.is_open());  // NOLINT(bugprone-use-after-move): that is the question
  EXPECT_EQ(second.descriptor(), descriptor);
  EXPECT_GE(::fcntl(descriptor, F_GETFD), 0);
  second = File();
  EXPECT_LT(::fcntl(descriptor, F_GETFD), 0);
}

TEST(File, ReservesSpaceWithoutChangingTheSize) {
  const TemporaryDirectory directory;
  const File file = File::open(directory / "data", OpenMode::kCreate);
  if (!file.reserve(1 << 20)) GTEST_SKIP() << "the file system of the temporary directory cannot reserve";
  EXPECT_EQ(file.size(), 0u);
  struct stat status {};
  ASSERT_EQ(::fstat(file.descriptor(), &status), 0);
  EXPECT_GE(status.st_blocks * 512, 1 << 20);
}

TEST(File, HasNothingToReserveForNoBytes) {
  const TemporaryDirectory directory;
  const File file = File::open(directory / "empty", OpenMode::kCreate);
  EXPECT_TRUE(file.reserve(0));
}

TEST(File, RefusesToReserveMoreThanThereIs) {
  const TemporaryDirectory directory;
  const File file = File::open(directory / "data", OpenMode::kCreate);
  const uint64_t free_bytes = std::filesystem::space(directory.path()).free;
  if (free_bytes > (uint64_t{15} << 40)) GTEST_SKIP() << "the drive is larger than a file may be";
  try {
    if (!file.reserve(free_bytes + (uint64_t{1} << 30)))
      GTEST_SKIP() << "the file system of the temporary directory cannot reserve";
    FAIL() << "reserved more than the drive has free";
  } catch (const IoError& error) {
    EXPECT_EQ(error.error_number(), ENOSPC);
    EXPECT_EQ(error.kind(), ErrorKind::kRefused);
    EXPECT_THAT(error.what(), HasSubstr(directory / "data"));
    EXPECT_THAT(error.what(), HasSubstr("bytes are free"));
  }
}

TEST(File, SyncsADirectoryAndNamesOneThatIsNot) {
  const TemporaryDirectory directory;
  EXPECT_NO_THROW(sync_directory(directory.path()));
  EXPECT_THROW(sync_directory(directory / "missing"), IoError);
}

TEST(OpenForBlocks, IsDirectOnlyAsTheDescriptorSays) {
  const TemporaryDirectory directory;
  const BlockFile file = open_for_blocks(directory / "data", OpenMode::kCreate);
  const int flags = ::fcntl(file.file.descriptor(), F_GETFL);
  EXPECT_EQ((flags & O_DIRECT) != 0, file.direct);
  EXPECT_EQ(file.why_not_direct.empty(), file.direct) << file.why_not_direct;
  EXPECT_EQ(file.io_file(3).direct, file.direct);
  EXPECT_EQ(file.io_file(3).drive, 3u);
}

TEST(OpenForBlocks, MovesAlignedPagesWhereItIsDirect) {
  const TemporaryDirectory directory;
  const BlockFile file = open_for_blocks(directory / "data", OpenMode::kCreate);
  if (!file.direct) GTEST_SKIP() << "no direct I/O in the temporary directory: " << file.why_not_direct;
  const AlignedMemory memory(8192);
  std::fill(memory.data(), memory.data() + 4096, std::byte{0x5a});
  file.file.pwrite_all(memory.span().first(4096), 4096);
  file.file.pread_all(memory.span().subspan(4096, 4096), 4096);
  EXPECT_EQ(memory.data()[4096], std::byte{0x5a});
}

TEST(OpenForBlocks, TakesDirectIoOnlyWhereItsAlignmentsDivideAPage) {
  EXPECT_EQ(why_not_direct({true, 4, 512}), "");
  EXPECT_EQ(why_not_direct({true, 4096, 4096}), "");
  EXPECT_THAT(why_not_direct({false, 4, 512}), HasSubstr("does not say"));
  EXPECT_THAT(why_not_direct({true, 0, 512}), HasSubstr("no direct I/O"));
  EXPECT_THAT(why_not_direct({true, 512, 0}), HasSubstr("no direct I/O"));
  EXPECT_THAT(why_not_direct({true, 512, 16384}), HasSubstr("16384"));
  EXPECT_THAT(why_not_direct({true, 65536, 512}), HasSubstr("65536"));
}

TEST(OpenForBlocks, SaysWhyAFileIsNotDirect) {
  if (!std::filesystem::exists("/proc/self/status")) GTEST_SKIP() << "no /proc";
  const BlockFile file = open_for_blocks("/proc/self/status", OpenMode::kRead);
  EXPECT_FALSE(file.direct);
  EXPECT_THAT(file.why_not_direct, HasSubstr("direct I/O"));
}

TEST(OpenTemporaryForBlocks, LeavesNothingInTheDirectory) {
  const TemporaryDirectory directory;
  const BlockFile file = open_temporary_for_blocks(directory.path());
  EXPECT_TRUE(std::filesystem::is_empty(directory.path()));
  const AlignedMemory memory(4096);
  memory.data()[5] = std::byte{1};
  file.file.pwrite_all(memory.span().first(4096), 0);
  memory.data()[5] = std::byte{0};
  file.file.pread_all(memory.span().first(4096), 0);
  EXPECT_EQ(memory.data()[5], std::byte{1});
}

}  // namespace
}  // namespace headrace::storage
