// Block I/O where the system gives less: short transfers, no io_uring, no locked memory, a full disk.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "storage/aligned_memory.h"
#include "storage/block_io.h"
#include "storage/file.h"
#include "storage/thread_io.h"
#include "tests/support/child_process.h"
#include "tests/support/temporary_directory.h"

namespace headrace::storage {
namespace {

using headrace::testing::ChildResult;
using headrace::testing::forbid_system_call;
using headrace::testing::run_in_child;
using headrace::testing::TemporaryDirectory;
using ::testing::HasSubstr;
using ::testing::StartsWith;

// Writes, syncs and reads back through `io`; "" or what went wrong.
std::string round_trip(BlockIo& io, const BlockFile& file, std::span<std::byte> memory) {
  const FileIndex index = io.add_file(file.io_file(0));
  const uint64_t half = memory.size() / 2;
  for (uint64_t i = 0; i < half; ++i) memory[i] = static_cast<std::byte>(i * 7 + i / 4096);
  const std::vector<IoRequest> requests = {{IoKind::kWrite, index, 0, memory.data(), half, nullptr, 0},
                                           {IoKind::kSync, index, 0, nullptr, 0, nullptr, 0},
                                           {IoKind::kRead, index, 0, memory.data() + half, half, nullptr, 0}};
  for (IoRequest request : requests) transfer_and_wait(io, {&request, 1});
  return std::memcmp(memory.data(), memory.data() + half, half) == 0 ? "" : " (read back something else)";
}

// ---- the thread back end over scripted system calls
// ---------------------------------------------------------

IoOptions one_thread() {
  IoOptions options;
  options.threads = 1;
  options.transfer_bytes = 1 << 20;
  return options;
}

TEST(ThreadIo, ContinuesShortTransfersAndRepeatsInterruptedOnes) {
  const TemporaryDirectory directory;
  const BlockFile file = open_buffered_for_blocks(directory / "data", OpenMode::kCreate);
  TransferCalls calls = system_transfer_calls();
  std::atomic<int> reads{0}, writes{0};
  calls.read = [&, real = calls.read](int descriptor, std::byte* data, uint64_t bytes, uint64_t offset) {
    const int call = reads++ % 3;
    if (call == 1) return int64_t{-EINTR};
    if (call == 2) return int64_t{-EAGAIN};
    return real(descriptor, data, std::min<uint64_t>(bytes, 10007), offset);
  };
  calls.write = [&, real = calls.write](int descriptor, const std::byte* data, uint64_t bytes,
                                        uint64_t offset) {
    if (writes++ % 2 == 1) return int64_t{-EINTR};
    return real(descriptor, data, std::min<uint64_t>(bytes, 4999), offset);
  };
  const std::unique_ptr<BlockIo> io = make_thread_io(one_thread(), calls, "scripted");
  const AlignedMemory memory(1 << 20);
  EXPECT_EQ(round_trip(*io, file, memory.span().first(400000)), "");
  EXPECT_GE(reads, 3 * (200000 / 10007));
  EXPECT_GE(writes, 2 * (200000 / 4999));
  EXPECT_EQ(io->counters().read_bytes, 200000u);
}

TEST(ThreadIo, FailsTheWriteWhoseFlushFails) {
  const TemporaryDirectory directory;
  const BlockFile file = open_buffered_for_blocks(directory / "data", OpenMode::kCreate);
  TransferCalls calls = system_transfer_calls();
  calls.flush = [](int, uint64_t, uint64_t) { return int64_t{-EIO}; };
  const std::unique_ptr<BlockIo> io = make_thread_io(one_thread(), calls, "scripted");
  const AlignedMemory memory(4096);
  EXPECT_THROW(round_trip(*io, file, memory.span().first(4096)), IoError);
  EXPECT_EQ(io->counters().writes, 0u);
}

TEST(ThreadIo, CallsFdatasyncOnceThoughItFails) {
  std::atomic<int> syncs{0};
  TransferCalls calls = system_transfer_calls();
  calls.sync = [&](int) {
    ++syncs;
    return int64_t{-EIO};
  };
  const std::unique_ptr<BlockIo> io = make_thread_io(one_thread(), calls, "scripted");
  IoRequest request{IoKind::kSync, io->add_file({-1, "/data", true, 0}), 0, nullptr, 0, nullptr, 0};
  EXPECT_THROW(transfer_and_wait(*io, {&request, 1}), IoError);
  EXPECT_EQ(syncs, 1);
}

TEST(ThreadIo, KeepsAtMostTheDepthInFlightOnADrive) {
  std::atomic<int> inside{0}, most{0};
  TransferCalls calls = system_transfer_calls();
  calls.read = [&](int, std::byte*, uint64_t bytes, uint64_t) {
    const int now = ++inside;
    for (int seen = most; now > seen && !most.compare_exchange_weak(seen, now);) continue;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    --inside;
    return static_cast<int64_t>(bytes);
  };
  IoOptions options;
  options.threads = 8;
  options.depth = 3;
  const std::unique_ptr<BlockIo> io = make_thread_io(options, calls, "scripted");
  const FileIndex file = io->add_file({-1, "/data", true, 0});
  std::vector<IoRequest> requests(100, IoRequest{IoKind::kRead, file, 0, nullptr, 4096, nullptr, 0});
  transfer_and_wait(*io, requests);
  EXPECT_EQ(most, 3);
}

// ---- io_uring
// -----------------------------------------------------------------------------------------------

std::unique_ptr<BlockIo> uring_or_null() {
  try {
    return make_uring_io({});
  } catch (const IoError&) {
    return nullptr;
  }
}

// A read of a pipe returns what is in it: a short read, as often as we like.
TEST(UringIo, ContinuesShortReads) {
  const std::unique_ptr<BlockIo> io = uring_or_null();
  if (!io) GTEST_SKIP() << "io_uring is refused here";
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe(ends.data()), 0);
  const File out(ends[0], "pipe");
  std::thread writer([in = File(ends[1], "pipe")] {
    for (int i = 0; i < 50; ++i) {
      const std::vector<char> some(333, static_cast<char>(i));
      EXPECT_EQ(::write(in.descriptor(), some.data(), some.size()), 333);
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  });
  std::vector<std::byte> data(50 * 333);
  IoRequest request{IoKind::kRead,
                    io->add_file({out.descriptor(), "pipe", false, 0}),
                    0,
                    data.data(),
                    data.size(),
                    nullptr,
                    0};
  transfer_and_wait(*io, {&request, 1});
  for (size_t i = 0; i < data.size(); ++i) ASSERT_EQ(data[i], static_cast<std::byte>(i / 333)) << i;
  request.bytes = 1;
  writer.join();
  EXPECT_THROW(transfer_and_wait(*io, {&request, 1}), IoError) << "the pipe has ended";
}

TEST(UringIo, RegistersMemoryWhereTheLimitAllows) {
  const std::unique_ptr<BlockIo> io = uring_or_null();
  if (!io) GTEST_SKIP() << "io_uring is refused here";
  const AlignedMemory memory(1 << 20);
  rlimit limit{};
  ASSERT_EQ(::getrlimit(RLIMIT_MEMLOCK, &limit), 0);
  if (limit.rlim_cur < (4 << 20)) GTEST_SKIP() << "RLIMIT_MEMLOCK is only " << limit.rlim_cur;
  io->register_memory(memory.span());
  EXPECT_EQ(io->description(), "io_uring, registered buffers");
}

TEST(UringIo, FallsBackToPlainBuffersWhereMemoryCannotBeLocked) {
  const TemporaryDirectory directory;
  const BlockFile file = open_for_blocks(directory / "data", OpenMode::kCreate);
  const ChildResult child = run_in_child([&]() -> std::string {
    // Root may lock what it likes.
    if (::geteuid() == 0 && ::setresuid(65534, 65534, 65534) != 0) return "setresuid: " + system_text(errno);
    // Before the limit: the kernel may count the ring itself, and the user's other rings, under it.
    const std::unique_ptr<BlockIo> io = uring_or_null();
    if (!io) return "refused";
    const rlimit limit{64 * 1024, 64 * 1024};
    if (::setrlimit(RLIMIT_MEMLOCK, &limit) != 0) return "setrlimit: " + system_text(errno);
    const AlignedMemory memory(2 << 20);
    io->register_memory(memory.span());
    return io->description() + round_trip(*io, file, memory.span());
  });
  if (child.output == "refused") GTEST_SKIP() << "io_uring is refused here";
  EXPECT_EQ(child.exit_status, 0) << child.output;
  EXPECT_EQ(child.output,
            "io_uring, plain buffers (registering 2.00 MiB was refused: Cannot allocate memory; the limit on "
            "locked memory is 64.0 KiB, and ulimit -l raises it)");
}

TEST(MakeBlockIo, TakesThreadsAndSaysWhyWhereIoUringIsRefused) {
  const TemporaryDirectory directory;
  for (const int error_number : {ENOSYS, EPERM, ENOMEM, EACCES}) {
    const BlockFile file = open_for_blocks(directory / std::to_string(error_number), OpenMode::kCreate);
    const ChildResult child = run_in_child([&] {
      forbid_system_call(SYS_io_uring_setup, error_number);
      const std::unique_ptr<BlockIo> io = make_block_io({});
      const AlignedMemory memory(2 << 20);
      io->register_memory(memory.span());
      return io->description() + round_trip(*io, file, memory.span());
    });
    EXPECT_EQ(child.exit_status, 0) << child.output;
    EXPECT_EQ(child.output, "threads (8; io_uring refused: " + system_text(error_number) + ")");
  }
}

TEST(MakeBlockIo, RefusesIoUringByNameWhereTheKernelDoes) {
  const ChildResult child = run_in_child([] {
    forbid_system_call(SYS_io_uring_setup, EPERM);
    IoOptions options;
    options.backend = IoBackend::kUring;
    try {
      make_block_io(options);
    } catch (const IoError& error) {
      return std::string(error.what()) + " " + std::to_string(static_cast<int>(error.kind()));
    }
    return std::string("no error");
  });
  EXPECT_EQ(child.output, "io_uring refused: Operation not permitted 3");
}

TEST(MakeBlockIo, RefusesOptionsThatMakeNoSenseInEveryBackend) {
  for (const IoBackend backend : {IoBackend::kAuto, IoBackend::kUring, IoBackend::kThreads}) {
    IoOptions options;
    options.backend = backend;
    options.transfer_bytes = 1000;
    try {
      make_block_io(options);
      FAIL() << "took transfers of 1000 bytes";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kUsage) << error.what();
    }
  }
}

// ---- a full disk
// --------------------------------------------------------------------------------------------

class FullDisk : public ::testing::TestWithParam<IoBackend> {};

TEST_P(FullDisk, IsAnErrorWithItsErrnoAndAdviceAndTheNextWriteWorks) {
  const TemporaryDirectory directory;
  if (::mount("none", directory.path().c_str(), "tmpfs", 0, "size=1m") != 0)
    GTEST_SKIP() << "cannot mount a small file system: " << system_text(errno);
  {
    IoOptions options;
    options.backend = GetParam();
    const std::unique_ptr<BlockIo> io = make_block_io(options);
    const BlockFile file = open_for_blocks(directory / "data", OpenMode::kCreate);
    const FileIndex index = io->add_file(file.io_file(0));
    const AlignedMemory memory(4 << 20);
    IoRequest request{IoKind::kWrite, index, 0, memory.data(), memory.size(), nullptr, 0};
    try {
      transfer_and_wait(*io, {&request, 1});
      ADD_FAILURE() << "wrote 4 MiB to a disk of 1 MiB";
    } catch (const IoError& error) {
      EXPECT_EQ(error.error_number(), ENOSPC);
      EXPECT_THAT(error.what(), HasSubstr("No space left on device"));
      EXPECT_THAT(error.advice(), StartsWith("Free space"));
    }
    file.file.resize(0);
    request.bytes = 65536;
    EXPECT_NO_THROW(transfer_and_wait(*io, {&request, 1}));
  }
  EXPECT_EQ(::umount(directory.path().c_str()), 0) << system_text(errno);
}

INSTANTIATE_TEST_SUITE_P(Backends, FullDisk, ::testing::Values(IoBackend::kUring, IoBackend::kThreads),
                         [](const ::testing::TestParamInfo<IoBackend>& instance) {
                           return std::string(instance.param == IoBackend::kUring ? "Uring" : "Threads");
                         });

}  // namespace
}  // namespace headrace::storage
