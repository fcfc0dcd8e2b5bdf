#include "storage/bench/directory_facts.h"

#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "storage/block_io.h"
#include "storage/error.h"
#include "storage/file.h"
#include "storage/text.h"

namespace headrace::bench {
namespace {

constexpr uint64_t kFewFreeBytes = uint64_t{4} << 30;

void require_directory(const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) {
    throw Error(ErrorKind::kUsage, fmt::format("cannot measure {}: {}", path, system_text(errno)),
                "Name an existing directory on the drive to be measured");
  }
  if (!S_ISDIR(status.st_mode)) {
    throw Error(ErrorKind::kUsage, fmt::format("cannot measure {}: {}", path, system_text(ENOTDIR)),
                "Name the directory that holds it");
  }
  if (::access(path.c_str(), W_OK | X_OK) != 0) {
    throw Error(ErrorKind::kRefused, fmt::format("cannot write to {}: {}", path, system_text(errno)),
                "Name a directory in which you may make files, or mount its file system for writing");
  }
}

// The mount that holds a path: that with the longest mount point, the last of several.
struct Mount {
  std::string point, options, type, source;
};

// mountinfo writes blanks and the like as \ooo.
std::string unescaped(const std::string& text) {
  std::string result;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size()) {
      result += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + (text[i + 3] - '0'));
      i += 3;
    } else {
      result += text[i];
    }
  }
  return result;
}

bool holds(const std::string& mount_point, const std::string& path) {
  if (mount_point == "/" || path == mount_point) return true;
  return path.starts_with(mount_point) && path[mount_point.size()] == '/';
}

Mount mount_of(const std::string& path) {
  std::error_code ignored;
  const std::string real = std::filesystem::canonical(path, ignored).string();
  std::ifstream file("/proc/self/mountinfo");
  Mount best;
  for (std::string line; std::getline(file, line);) {
    const size_t separator = line.find(" - ");
    if (separator == std::string::npos) continue;
    std::istringstream front(line.substr(0, separator)), back(line.substr(separator + 3));
    std::string id, parent, device, root, point, options;
    Mount mount;
    front >> id >> parent >> device >> root >> point >> mount.options;
    back >> mount.type >> mount.source >> options;
    mount.point = unescaped(point);
    mount.source = unescaped(mount.source);
    mount.options += "," + options;
    if (holds(mount.point, real) && mount.point.size() >= best.point.size()) best = mount;
  }
  return best;
}

std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  while (!line.empty() && line.back() == ' ') line.pop_back();
  return line;
}

void look_at_drive(DirectoryFacts& facts) {
  const std::string node = fmt::format("/sys/dev/block/{}:{}", major(facts.device), minor(facts.device));
  for (const char* up : {"", "/.."}) {  // a partition's queue is its drive's
    const std::string rotational = first_line(node + up + "/queue/rotational");
    if (!rotational.empty() && !facts.rotational) facts.rotational = rotational == "1";
    if (facts.model.empty()) facts.model = first_line(node + up + "/device/model");
  }
}

std::string processor_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("model name")) return line.substr(std::min(line.size(), line.find(':') + 2));
  }
  return "";
}

// CAP_IPC_LOCK: what the process locks is not counted. Root has it, but in most containers.
bool locks_without_limit() {
  constexpr int kIpcLock = 14;
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("CapEff:")) return (std::stoull(line.substr(7), nullptr, 16) >> kIpcLock & 1) != 0;
  }
  return false;
}

Finding direct_finding(const DirectoryFacts& d) {
  if (d.in_memory) return {Fitness::kGood, "direct I/O does not matter here"};
  if (d.direct) {
    return {Fitness::kGood, fmt::format("direct I/O, offsets aligned to {} and memory to {} bytes",
                                        d.offset_alignment, d.memory_alignment)};
  }
  return {Fitness::kLimited,
          fmt::format("no direct I/O ({}): training goes through the page cache, which costs processor time "
                      "and memory; ext4 and XFS have it",
                      d.why_not_direct)};
}

Finding memlock_finding(const SystemFacts& system, uint64_t wanted_bytes) {
  if (system.memlock_bytes == ~uint64_t{0}) return {Fitness::kGood, "no memlock limit"};
  if (system.memlock_bytes >= wanted_bytes) {
    return {Fitness::kGood, fmt::format("memlock limit {}", format_size(system.memlock_bytes))};
  }
  return {Fitness::kLimited,
          fmt::format("memlock limit {}, less than the {} of buffers that io_uring would register here: some "
                      "more processor time a request; raise it with ulimit -l",
                      format_size(system.memlock_bytes), format_size(wanted_bytes))};
}

}  // namespace

DirectoryFacts look_at_directory(const std::string& path) {
  require_directory(path);
  DirectoryFacts facts;
  facts.path = path;
  const Mount mount = mount_of(path);
  facts.file_system = mount.type;
  facts.source = mount.source;
  facts.mount_point = mount.point;
  facts.mount_options = mount.options;
  facts.in_memory = mount.type == "tmpfs" || mount.type == "ramfs";
  struct stat status {};
  struct statvfs space {};
  if (::stat(path.c_str(), &status) != 0 || ::statvfs(path.c_str(), &space) != 0) {
    throw Error(ErrorKind::kFailed, fmt::format("cannot look at {}: {}", path, system_text(errno)));
  }
  facts.device = status.st_dev;
  facts.free_bytes = uint64_t{space.f_bavail} * space.f_frsize;
  facts.total_bytes = uint64_t{space.f_blocks} * space.f_frsize;
  try {
    const storage::BlockFile file = storage::open_temporary_for_blocks(path);
    const storage::DirectAlignment alignment = storage::direct_alignment(file.file);
    facts.direct = file.direct;
    facts.why_not_direct = file.why_not_direct;
    facts.alignment_known = alignment.known;
    facts.memory_alignment = alignment.memory;
    facts.offset_alignment = alignment.offset;
  } catch (const Error& error) {
    throw Error(ErrorKind::kRefused, error.what(),
                "Name a directory in which you may make files, with some space left");
  }
  look_at_drive(facts);
  return facts;
}

SystemFacts look_at_system() {
  SystemFacts facts;
  utsname name{};
  if (::uname(&name) == 0) facts.kernel = fmt::format("{} {}", name.sysname, name.release);
  facts.processor = processor_name();
  facts.processors = static_cast<uint32_t>(std::max(1L, ::sysconf(_SC_NPROCESSORS_ONLN)));
  try {
    storage::IoOptions options;
    options.max_requests = 1;
    storage::make_uring_io(options);
    facts.io_uring = true;
  } catch (const Error& error) {
    facts.why_no_io_uring = error.what();
  }
  rlimit limit{};
  if (::getrlimit(RLIMIT_MEMLOCK, &limit) == 0) {
    facts.memlock_bytes = limit.rlim_cur == RLIM_INFINITY ? ~uint64_t{0} : uint64_t{limit.rlim_cur};
  }
  if (locks_without_limit()) facts.memlock_bytes = ~uint64_t{0};
  return facts;
}

std::vector<Finding> findings(const DirectoryFacts& d, const SystemFacts& system,
                              uint64_t wanted_memlock_bytes) {
  std::vector<Finding> list;
  if (d.in_memory) {
    list.push_back({Fitness::kUnfit, fmt::format("{} keeps files in memory: nothing measured here says "
                                                 "anything of a drive, and training would gain no memory",
                                                 d.file_system)});
  } else if (d.rotational.value_or(false) && !d.source.starts_with("/dev/vd")) {  // virtual drives all say so
    list.push_back({Fitness::kLimited, fmt::format("{} on {}, which turns: expect tens to a few hundred MB/s",
                                                   d.file_system, d.source)});
  } else {
    list.push_back({Fitness::kGood, fmt::format("{} on {}", d.file_system, d.source)});
  }
  list.push_back(direct_finding(d));
  if (system.io_uring) {
    list.push_back({Fitness::kGood, "io_uring works"});
  } else {
    list.push_back({Fitness::kLimited, fmt::format("{}: threads take its place", system.why_no_io_uring)});
  }
  list.push_back(memlock_finding(system, wanted_memlock_bytes));
  const std::string space =
      fmt::format("{} free of {}", format_size(d.free_bytes), format_size(d.total_bytes));
  list.push_back({d.free_bytes < kFewFreeBytes ? Fitness::kLimited : Fitness::kGood,
                  d.free_bytes < kFewFreeBytes ? space + ": a run of GPT-2 (124 M) takes 3 GB" : space});
  return list;
}

Fitness worst(const std::vector<Finding>& findings) {
  Fitness result = Fitness::kGood;
  for (const Finding& finding : findings) result = std::max(result, finding.fitness);
  return result;
}

}  // namespace headrace::bench
