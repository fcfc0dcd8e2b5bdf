#include "storage/bench/scratch_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "storage/error.h"
#include "storage/text.h"

namespace headrace::bench {
namespace {

constexpr uint64_t kPageBytes = 4096;
constexpr uint64_t kLookBytes = uint64_t{1} << 30;  // of a file at a time

[[noreturn]] void refuse_space(const std::string& directory, uint64_t bytes, const std::string& why) {
  throw Error(ErrorKind::kRefused,
              fmt::format("cannot reserve {} in {}: {}", format_size(bytes), directory, why),
              "Give a smaller --size (or fewer --numjobs), free space there, or name another directory");
}

}  // namespace

storage::BlockFile make_scratch_file(const std::string& directory, uint64_t bytes, DirectMode direct) {
  storage::BlockFile file = direct == DirectMode::kNo ? storage::open_buffered_temporary_for_blocks(directory)
                                                      : storage::open_temporary_for_blocks(directory);
  if (direct == DirectMode::kYes && !file.direct) {
    throw Error(ErrorKind::kRefused, fmt::format("{} has no direct I/O: {}", directory, file.why_not_direct),
                "Leave --direct 1 out to measure through the page cache, as training would run there");
  }
  try {
    if (bytes > 0) file.file.reserve(bytes);
  } catch (const storage::IoError& error) {
    if (error.error_number() != ENOSPC && error.error_number() != EDQUOT) throw;
    refuse_space(directory, bytes, system_text(error.error_number()));
  }
  file.file.resize(bytes);
  return file;
}

double drop_from_cache(const storage::BlockFile& file, uint64_t bytes) {
  const int descriptor = file.file.descriptor();
  file.file.sync();
  ::posix_fadvise(descriptor, 0, 0, POSIX_FADV_DONTNEED);
  uint64_t resident = 0, pages = 0;
  std::vector<unsigned char> map;
  for (uint64_t first = 0; first < bytes; first += kLookBytes) {
    const uint64_t length = std::min(kLookBytes, bytes - first);
    void* const start = ::mmap(nullptr, length, PROT_READ, MAP_SHARED, descriptor, static_cast<off_t>(first));
    if (start == MAP_FAILED) return 0;
    map.assign((length + kPageBytes - 1) / kPageBytes, 0);
    if (::mincore(start, length, map.data()) == 0) {
      pages += map.size();
      for (const unsigned char page : map) resident += page & 1;
    }
    ::munmap(start, length);
  }
  return pages == 0 ? 0 : static_cast<double>(resident) / static_cast<double>(pages);
}

}  // namespace headrace::bench
