#include "tests/recovery/system_calls.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdarg>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <mutex>
#include <set>
#include <vector>

namespace headrace::testing {
namespace {

std::atomic<CallWatcher*> watcher{nullptr};
std::string watched_directory;  // with a slash at its end

template <typename Function>
Function real(const char* name) {
  void* found = ::dlsym(RTLD_NEXT, name);
  if (found == nullptr) ::abort();
  return reinterpret_cast<Function>(found);
}

// Relative to the watched directory; empty: not below it.
std::string watched_path(const std::string& path) {
  std::error_code error;
  const std::string absolute = std::filesystem::absolute(path, error).lexically_normal().string();
  return absolute.starts_with(watched_directory) ? absolute.substr(watched_directory.size()) : "";
}

std::string watched_path(int descriptor) {
  std::array<char, 4096> path{};
  const std::string link = "/proc/self/fd/" + std::to_string(descriptor);
  const ssize_t length = ::readlink(link.c_str(), path.data(), path.size() - 1);
  return length > 0 ? watched_path(std::string(path.data(), static_cast<size_t>(length))) : "";
}

thread_local bool inside = false;  // of a watcher: its own calls are not watched

template <typename Call>
auto watched(SystemCall what, const Call& call) {
  CallWatcher* to = watcher.load();
  if (to == nullptr || what.path.empty() || inside) return call();
  inside = true;
  to->before(what);
  const auto result = call();
  if (result >= 0) to->after(what);
  inside = false;
  return result;
}

bool watching() { return watcher.load() != nullptr && !inside; }

SystemCall write_to(int descriptor, const void* data, size_t bytes, uint64_t offset) {
  SystemCall call;
  if (watching()) call.path = watched_path(descriptor);
  call.descriptor = descriptor;
  call.offset = offset;
  call.data = {static_cast<const std::byte*>(data), bytes};
  if (!call.path.empty()) call.durable = (::fcntl(descriptor, F_GETFL) & O_DSYNC) != 0;
  return call;
}

// Files that were mapped to be written, until they are synced. What is stored through a map is no call: it is
// shown as one write of the whole file before that sync, and not at all if it is stored later. So shards are
// laid out.
std::mutex mapped_mutex;
std::set<std::string> mapped;  // by watched path

void note_mapped(int descriptor, int protection, int flags) {
  if (!watching() || descriptor < 0 || (flags & MAP_SHARED) == 0 || (protection & PROT_WRITE) == 0) return;
  const std::string path = watched_path(descriptor);
  const std::lock_guard lock(mapped_mutex);
  if (!path.empty()) mapped.insert(path);
}

void show_mapped(int descriptor) {
  if (!watching()) return;
  SystemCall call;
  call.path = watched_path(descriptor);
  {
    const std::lock_guard lock(mapped_mutex);
    if (mapped.erase(call.path) == 0) return;
  }
  std::ifstream file(watched_directory + call.path, std::ios::binary);
  const std::string content(std::istreambuf_iterator<char>(file), {});
  call.descriptor = descriptor;
  call.data = std::as_bytes(std::span(content));
  static_cast<void>(watched(call, [] { return 0; }));
}

SystemCall on(CallKind kind, std::string path, std::string target = "") {
  SystemCall call;
  call.kind = kind;
  call.path = std::move(path);
  call.target = std::move(target);
  return call;
}

}  // namespace

void watch_system_calls(CallWatcher& by, const std::string& directory) {
  watched_directory = std::filesystem::absolute(directory).lexically_normal().string() + "/";
  watcher = &by;
}

void write_unwatched(int descriptor, std::span<const std::byte> data, uint64_t offset) {
  static const auto call = real<ssize_t (*)(int, const void*, size_t, off_t)>("pwrite");
  while (!data.empty()) {
    const ssize_t moved = call(descriptor, data.data(), data.size(), static_cast<off_t>(offset));
    if (moved <= 0) return;
    data = data.subspan(static_cast<size_t>(moved));
    offset += static_cast<uint64_t>(moved);
  }
}

}  // namespace headrace::testing

using headrace::testing::CallKind;
using headrace::testing::note_mapped;
using headrace::testing::on;
using headrace::testing::real;
using headrace::testing::show_mapped;
using headrace::testing::watched;
using headrace::testing::watched_path;
using headrace::testing::watching;
using headrace::testing::write_to;

extern "C" {

ssize_t pwrite(int descriptor, const void* data, size_t bytes, off_t offset) {
  static const auto call = real<ssize_t (*)(int, const void*, size_t, off_t)>("pwrite");
  return watched(write_to(descriptor, data, bytes, static_cast<uint64_t>(offset)),
                 [&] { return call(descriptor, data, bytes, offset); });
}

ssize_t write(int descriptor, const void* data, size_t bytes) {
  static const auto call = real<ssize_t (*)(int, const void*, size_t)>("write");
  const off_t offset = watching() ? ::lseek(descriptor, 0, SEEK_CUR) : 0;
  return watched(write_to(descriptor, data, bytes, static_cast<uint64_t>(offset)),
                 [&] { return call(descriptor, data, bytes); });
}

ssize_t writev(int descriptor, const iovec* parts, int count) {
  static const auto call = real<ssize_t (*)(int, const iovec*, int)>("writev");
  std::vector<std::byte> all;
  for (int i = 0; i < count && watching(); i++) {
    const auto* part = static_cast<const std::byte*>(parts[i].iov_base);
    all.insert(all.end(), part, part + parts[i].iov_len);
  }
  const off_t offset = watching() ? ::lseek(descriptor, 0, SEEK_CUR) : 0;
  return watched(write_to(descriptor, all.data(), all.size(), static_cast<uint64_t>(offset)),
                 [&] { return call(descriptor, parts, count); });
}

int fdatasync(int descriptor) {
  static const auto call = real<int (*)(int)>("fdatasync");
  show_mapped(descriptor);
  return watched(on(CallKind::kSync, watching() ? watched_path(descriptor) : ""),
                 [&] { return call(descriptor); });
}

int fsync(int descriptor) {
  static const auto call = real<int (*)(int)>("fsync");
  show_mapped(descriptor);
  return watched(on(CallKind::kSync, watching() ? watched_path(descriptor) : ""),
                 [&] { return call(descriptor); });
}

void* mmap(void* address, size_t bytes, int protection, int flags, int descriptor, off_t offset) noexcept {
  static const auto call = real<void* (*)(void*, size_t, int, int, int, off_t)>("mmap");
  note_mapped(descriptor, protection, flags);
  return call(address, bytes, protection, flags, descriptor, offset);
}

int ftruncate(int descriptor, off_t bytes) noexcept {
  static const auto call = real<int (*)(int, off_t)>("ftruncate");
  headrace::testing::SystemCall what = on(CallKind::kTruncate, watching() ? watched_path(descriptor) : "");
  what.offset = static_cast<uint64_t>(bytes);
  return watched(what, [&] { return call(descriptor, bytes); });
}

int open(const char* path, int flags, ...) {
  static const auto call = real<int (*)(const char*, int, mode_t)>("open");
  va_list rest;
  va_start(rest, flags);
  const mode_t mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(rest, mode_t) : 0;
  va_end(rest);
  const bool exists = watching() && ::access(path, F_OK) == 0;
  const bool changes = watching() && (flags & (exists ? O_TRUNC : O_CREAT)) != 0;
  return watched(on(exists ? CallKind::kTruncate : CallKind::kCreate, changes ? watched_path(path) : ""),
                 [&] { return call(path, flags, mode); });
}

int rename(const char* from, const char* to) noexcept {
  static const auto call = real<int (*)(const char*, const char*)>("rename");
  return watched(
      on(CallKind::kRename, watching() ? watched_path(from) : "", watching() ? watched_path(to) : ""),
      [&] { return call(from, to); });
}

int link(const char* from, const char* to) noexcept {
  static const auto call = real<int (*)(const char*, const char*)>("link");
  return watched(
      on(CallKind::kLink, watching() ? watched_path(from) : "", watching() ? watched_path(to) : ""),
      [&] { return call(from, to); });
}

int unlink(const char* path) noexcept {
  static const auto call = real<int (*)(const char*)>("unlink");
  return watched(on(CallKind::kRemove, watching() ? watched_path(path) : ""), [&] { return call(path); });
}

int rmdir(const char* path) noexcept {
  static const auto call = real<int (*)(const char*)>("rmdir");
  return watched(on(CallKind::kRemove, watching() ? watched_path(path) : ""), [&] { return call(path); });
}

int mkdir(const char* path, mode_t mode) noexcept {
  static const auto call = real<int (*)(const char*, mode_t)>("mkdir");
  return watched(on(CallKind::kMakeDirectory, watching() ? watched_path(path) : ""),
                 [&] { return call(path, mode); });
}

}  // extern "C"
