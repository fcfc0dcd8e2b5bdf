#include "storage/metrics_log.h"

#include <fmt/format.h>

#include <filesystem>

#include "storage/error.h"
#include "storage/run_dir.h"
#include "storage/space.h"

namespace headrace::storage {
namespace {

constexpr const char* kWhat = "lines of metrics.jsonl";

}  // namespace

MetricsLog::MetricsLog(const std::string& path, uint64_t bytes, std::string_view text) {
  const bool exists = file_exists(path);
  if (exists || bytes > 0) {
    const uint64_t held = exists ? std::filesystem::file_size(path) : 0;
    if (held < bytes) {
      throw Error(
          ErrorKind::kCorrupt,
          fmt::format("{} has {} bytes, and the committed steps before the last wrote {}", path, held, bytes),
          fmt::format("Put it back; to go on without the old lines, give it that length: truncate -s {} {}",
                      bytes, path));
    }
  }
  file_ = File::open(path, exists ? OpenMode::kReadWrite : OpenMode::kCreate);
  std::string tail(text.size(), '\0');
  const bool right_length = file_.size() == bytes + text.size();
  if (right_length) file_.pread_all(std::as_writable_bytes(std::span(tail)), bytes);
  if (!right_length || tail != text) {
    note_ = fmt::format("{} had {} bytes and now has the {} of the committed steps", path, file_.size(),
                        bytes + text.size());
    reserve_space(file_, bytes + text.size(), kWhat);
    file_.resize(bytes);
    file_.pwrite_all(std::as_bytes(std::span(text)), bytes);
  }
  bytes_ = bytes + text.size();
  // Also of one that is there: who made it may have died before its name was durable.
  file_.sync();
  sync_directory(std::filesystem::path(path).parent_path().string());
}

void MetricsLog::reserve(uint64_t bytes) const { reserve_space(file_, bytes_ + bytes, kWhat); }

void MetricsLog::append(std::string_view text) {
  if (text.empty()) return;
  file_.pwrite_all(std::as_bytes(std::span(text)), bytes_);
  bytes_ += text.size();
}

}  // namespace headrace::storage
