#include "tests/faults/system_calls.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <cstdarg>
#include <cstdio>
#include <mutex>

#include "storage/error.h"

namespace headrace::testing {

namespace {

struct Script {
  std::mutex mutex;
  std::string directory;
  std::optional<SystemFault> fault;
  std::array<std::array<uint64_t, kSystemCalls>, 2> counts{};  // with block_io, without
  std::vector<WatchedCall> calls;
  std::optional<WatchedCall> met;

  std::mutex hung_mutex;
  std::condition_variable released;
  uint64_t releases = 0;
  std::array<int, 2> pipe{-1, -1};
};

Script& script() {
  static Script* const the_script = new Script;  // outlives threads that are still inside a call at exit
  return *the_script;
}
std::atomic<bool> watching = false;

std::string path_of(int descriptor) {
  std::array<char, 4096> path{};
  const std::string link = "/proc/self/fd/" + std::to_string(descriptor);
  const ssize_t bytes = ::readlink(link.c_str(), path.data(), path.size());
  return bytes < 0 ? "" : std::string(path.data(), size_t(bytes));
}

internal::Meeting meet_path(SystemCall call, const std::string& path, uint64_t bytes, bool block_io) {
  Script& all = script();
  const std::lock_guard lock(all.mutex);
  if (all.directory.empty() || !path.starts_with(all.directory)) return {};
  const WatchedCall watched{call, all.counts[block_io][size_t(call)]++, bytes, block_io, path};
  all.calls.push_back(watched);
  const std::optional<SystemFault>& fault = all.fault;
  if (!fault || fault->call != call || fault->block_io != block_io || watched.number < fault->number ||
      watched.number >= fault->number + fault->times)
    return {true, std::nullopt};
  if (watched.number > fault->number && all.met && path != all.met->path) return {true, std::nullopt};
  if (!all.met) all.met = watched;
  return {true, fault};
}

internal::Meeting meet_path(SystemCall call, const char* path) {
  return watching ? meet_path(call, path, 0, false) : internal::Meeting{};
}

template <typename Function>
Function* next_function(const char* name) {
  void* const found = ::dlsym(RTLD_NEXT, name);
  HEADRACE_CHECK(found != nullptr, name);
  return reinterpret_cast<Function*>(found);
}

int fail_with(int error_number) {
  errno = error_number;
  return -1;
}

// What a scripted transfer does, given the calls that move bytes from a place in the buffer.
template <typename Move>
ssize_t faulted_transfer(const SystemFault& fault, size_t bytes, const Move& move) {
  switch (fault.action) {
    case SystemAction::kFail:
      return fail_with(fault.error_number);
    case SystemAction::kShort:
      return move(std::min<size_t>(fault.amount, bytes), 0);
    case SystemAction::kTear:
      return move(std::min<size_t>(fault.amount, bytes), 0) < 0 ? -1 : ssize_t(bytes);
    case SystemAction::kLose:
      return ssize_t(bytes);
    case SystemAction::kMisplace:
      return move(bytes, fault.amount);
    case SystemAction::kFlipBit:
      return move(bytes, 0);
    case SystemAction::kHang:
      internal::hang();
      return fail_with(EIO);
  }
  return fail_with(EIO);
}

}  // namespace

const char* name_of(SystemCall call) {
  static constexpr std::array<const char*, kSystemCalls> kNames{
      "pread",           "pwrite",    "write",     "writev",     "fdatasync",   "fsync",
      "sync_file_range", "ftruncate", "fallocate", "open",       "mkdir",       "rename",
      "unlink",          "flock",     "mmap",      "uring read", "uring write", "uring sync"};
  return kNames[size_t(call)];
}

void watch_system_calls(const std::string& directory, std::optional<SystemFault> fault) {
  Script& all = script();
  const std::lock_guard lock(all.mutex);
  all.directory = directory;
  all.fault = fault;
  all.counts = {};
  all.calls.clear();
  all.met.reset();
  watching = !directory.empty();
}

std::vector<WatchedCall> watched_calls() {
  Script& all = script();
  const std::lock_guard lock(all.mutex);
  return all.calls;
}

std::optional<WatchedCall> met_call() {
  Script& all = script();
  const std::lock_guard lock(all.mutex);
  return all.met;
}

void release_hung_calls() {
  Script& all = script();
  const std::lock_guard lock(all.hung_mutex);
  all.releases++;
  all.released.notify_all();
  if (all.pipe[0] < 0) return;
  // The write end alone: reads that wait see the end of the file, and hold the read end themselves.
  ::close(all.pipe[1]);
  ::close(all.pipe[0]);
  all.pipe = {-1, -1};
}

namespace internal {

Meeting meet(SystemCall call, int descriptor, uint64_t bytes) {
  if (!watching) return {};
  const int flags = ::fcntl(descriptor, F_GETFL);
  return meet_path(call, path_of(descriptor), bytes, flags >= 0 && (flags & O_DIRECT) != 0);
}

// The calls of several threads take their numbers in any order, so a call may be shorter than the scripted
// one.
void flip_bit(void* data, uint64_t bytes, uint64_t bit) {
  const uint64_t in_data = bit % (bytes * 8);
  static_cast<unsigned char*>(data)[in_data / 8] ^= static_cast<unsigned char>(1u << in_data % 8);
}

void hang() {
  Script& all = script();
  std::unique_lock lock(all.hung_mutex);
  all.released.wait(lock, [&all, before = all.releases] { return all.releases != before; });
}

int hung_pipe_descriptor() {
  Script& all = script();
  const std::lock_guard lock(all.hung_mutex);
  if (all.pipe[0] < 0) HEADRACE_CHECK(::pipe2(all.pipe.data(), O_CLOEXEC) == 0);
  return all.pipe[0];
}

}  // namespace internal

}  // namespace headrace::testing

// ---- the interposed functions
// -------------------------------------------------------------------------------------

using headrace::testing::meet_path;
using headrace::testing::SystemAction;
using headrace::testing::SystemCall;
using headrace::testing::internal::meet;
using headrace::testing::internal::Meeting;

// The real function of the same name as the one around it.
#define HEADRACE_NEXT(function) \
  static const auto next = headrace::testing::next_function<decltype(::function)>(#function)
// For calls that move no bytes: fails as scripted, or goes on.
#define HEADRACE_FAIL_AS_SCRIPTED(...)                      \
  if (const Meeting scripted = __VA_ARGS__; scripted.fault) \
  return headrace::testing::fail_with(scripted.fault->error_number)

extern "C" {

ssize_t pread(int descriptor, void* data, size_t bytes, off_t offset) {
  HEADRACE_NEXT(pread);
  const Meeting meeting = meet(SystemCall::kPread, descriptor, bytes);
  if (!meeting.fault) return next(descriptor, data, bytes, offset);
  const ssize_t result =
      headrace::testing::faulted_transfer(*meeting.fault, bytes, [&](size_t some, uint64_t displacement) {
        // What lies beyond a short read must not look like what should be there.
        std::fill_n(static_cast<unsigned char*>(data), bytes, 0xA5);
        // A direct read moves whole sectors, whatever it then says.
        const size_t sectors = std::min(bytes, (some + 511) / 512 * 512);
        const ssize_t moved =
            some == 0 ? 0 : next(descriptor, data, sectors, offset + static_cast<off_t>(displacement));
        return std::min<ssize_t>(moved, static_cast<ssize_t>(some));
      });
  if (meeting.fault->action == SystemAction::kFlipBit && result > 0)
    headrace::testing::internal::flip_bit(data, bytes, meeting.fault->amount);
  return result;
}

ssize_t pwrite(int descriptor, const void* data, size_t bytes, off_t offset) {
  HEADRACE_NEXT(pwrite);
  const Meeting meeting = meet(SystemCall::kPwrite, descriptor, bytes);
  if (!meeting.fault) return next(descriptor, data, bytes, offset);
  return headrace::testing::faulted_transfer(*meeting.fault, bytes, [&](size_t some, uint64_t displacement) {
    const size_t sectors = std::min(bytes, (some + 511) / 512 * 512);
    const ssize_t moved =
        some == 0 ? 0 : next(descriptor, data, sectors, offset + static_cast<off_t>(displacement));
    return std::min<ssize_t>(moved, static_cast<ssize_t>(some));
  });
}

ssize_t write(int descriptor, const void* data, size_t bytes) {
  HEADRACE_NEXT(write);
  const Meeting meeting = meet(SystemCall::kWrite, descriptor, bytes);
  if (!meeting.fault) return next(descriptor, data, bytes);
  return headrace::testing::faulted_transfer(
      *meeting.fault, bytes, [&](size_t some, uint64_t) { return next(descriptor, data, some); });
}

ssize_t writev(int descriptor, const struct iovec* parts, int count) {
  HEADRACE_NEXT(writev);
  size_t bytes = 0;
  for (int i = 0; i < count; i++) bytes += parts[i].iov_len;
  const Meeting meeting = meet(SystemCall::kWritev, descriptor, bytes);
  if (!meeting.fault) return next(descriptor, parts, count);
  return headrace::testing::faulted_transfer(*meeting.fault, bytes, [&](size_t some, uint64_t) {
    ssize_t moved = 0;
    for (int i = 0; i < count && some > 0; i++) {
      const size_t part = std::min(some, parts[i].iov_len);
      moved += ::write(descriptor, parts[i].iov_base, part);
      some -= part;
    }
    return moved;
  });
}

int fdatasync(int descriptor) {
  HEADRACE_NEXT(fdatasync);
  const Meeting meeting = meet(SystemCall::kFdatasync, descriptor, 0);
  if (meeting.fault && meeting.fault->action == SystemAction::kHang) headrace::testing::internal::hang();
  HEADRACE_FAIL_AS_SCRIPTED(meeting);
  return meeting.watched ? 0 : next(descriptor);
}

int fsync(int descriptor) {
  HEADRACE_NEXT(fsync);
  const Meeting meeting = meet(SystemCall::kFsync, descriptor, 0);
  HEADRACE_FAIL_AS_SCRIPTED(meeting);
  return meeting.watched ? 0 : next(descriptor);
}

int sync_file_range(int descriptor, off64_t offset, off64_t bytes, unsigned flags) {
  HEADRACE_NEXT(sync_file_range);
  HEADRACE_FAIL_AS_SCRIPTED(meet(SystemCall::kSyncFileRange, descriptor, 0));
  return next(descriptor, offset, bytes, flags);
}

int ftruncate(int descriptor, off_t bytes) noexcept {
  HEADRACE_NEXT(ftruncate);
  HEADRACE_FAIL_AS_SCRIPTED(meet(SystemCall::kFtruncate, descriptor, 0));
  return next(descriptor, bytes);
}

int fallocate(int descriptor, int mode, off_t offset, off_t bytes) {
  HEADRACE_NEXT(fallocate);
  HEADRACE_FAIL_AS_SCRIPTED(meet(SystemCall::kFallocate, descriptor, 0));
  return next(descriptor, mode, offset, bytes);
}

int open(const char* path, int flags, ...) {
  HEADRACE_NEXT(open);
  va_list rest;
  va_start(rest, flags);
  const mode_t mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(rest, mode_t) : 0;
  va_end(rest);
  const Meeting meeting = meet_path(SystemCall::kOpen, path);
  HEADRACE_FAIL_AS_SCRIPTED(meeting);
  // LMDB's meta page: a sync that is left out like the others.
  return next(path, meeting.watched ? flags & ~(O_DSYNC | O_SYNC) : flags, mode);
}

int mkdir(const char* path, mode_t mode) noexcept {
  HEADRACE_NEXT(mkdir);
  HEADRACE_FAIL_AS_SCRIPTED(meet_path(SystemCall::kMkdir, path));
  return next(path, mode);
}

int rename(const char* from, const char* to) noexcept {
  HEADRACE_NEXT(rename);
  HEADRACE_FAIL_AS_SCRIPTED(meet_path(SystemCall::kRename, from));
  return next(from, to);
}

int unlink(const char* path) noexcept {
  HEADRACE_NEXT(unlink);
  HEADRACE_FAIL_AS_SCRIPTED(meet_path(SystemCall::kUnlink, path));
  return next(path);
}

int flock(int descriptor, int operation) noexcept {
  HEADRACE_NEXT(flock);
  HEADRACE_FAIL_AS_SCRIPTED(meet(SystemCall::kFlock, descriptor, 0));
  return next(descriptor, operation);
}

void* mmap(void* address, size_t bytes, int protection, int flags, int descriptor, off_t offset) noexcept {
  HEADRACE_NEXT(mmap);
  if (descriptor >= 0) {
    if (const Meeting meeting = meet(SystemCall::kMmap, descriptor, 0); meeting.fault) {
      errno = meeting.fault->error_number;
      return MAP_FAILED;
    }
  }
  return next(address, bytes, protection, flags, descriptor, offset);
}
}
