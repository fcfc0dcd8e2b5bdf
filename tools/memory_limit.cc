#include "tools/memory_limit.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <optional>
#include <sstream>
#include <vector>

#include "storage/error.h"
#include "storage/text.h"

namespace headrace::tools {
namespace {

// Where one version of the memory controller is mounted, and which of its groups is mounted there.
struct CgroupMount {
  bool unified = false;  // version 2
  std::string mount_point, mounted_group;
};

struct CgroupFiles {
  const char* limit;
  const char* usage;
  const char* reclaimable;  // line of memory.stat: file pages that the kernel takes back first
};

constexpr CgroupFiles kVersion1{"memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"};
constexpr CgroupFiles kVersion2{"memory.max", "memory.current", "inactive_file"};

std::optional<uint64_t> read_count(const std::string& path) {
  std::ifstream file(path);
  std::string word;
  if (!(file >> word)) return std::nullopt;
  return parse_count(word);  // "max" is no count
}

// The number behind `name` in a file of "name number" lines.
std::optional<uint64_t> read_field(const std::string& path, const std::string& name) {
  std::ifstream file(path);
  std::string line;
  while (std::getline(file, line)) {
    std::istringstream words(line);
    std::string word, value;
    if (words >> word >> value && word == name) return parse_count(value);
  }
  return std::nullopt;
}

bool has_item(const std::string& list, const std::string& item) {
  return ("," + list + ",").find("," + item + ",") != std::string::npos;
}

// proc(5): "31 23 0:28 ROOT MOUNT_POINT OPTIONS [OPTIONAL...] - TYPE SOURCE SUPER_OPTIONS"
std::vector<CgroupMount> memory_mounts(const std::string& root) {
  std::vector<CgroupMount> mounts;
  std::ifstream file(root + "/proc/self/mountinfo");
  std::string line;
  while (std::getline(file, line)) {
    const size_t dash = line.find(" - ");
    if (dash == std::string::npos) continue;
    std::istringstream front(line.substr(0, dash)), back(line.substr(dash + 3));
    std::string id, parent, device, group, mount_point, type, source, options;
    front >> id >> parent >> device >> group >> mount_point;
    back >> type >> source >> options;
    if (type == "cgroup2") mounts.push_back({true, mount_point, group});
    if (type == "cgroup" && has_item(options, "memory")) mounts.push_back({false, mount_point, group});
  }
  return mounts;
}

// cgroups(7): "ID:CONTROLLERS:PATH"; version 2 has the line "0::PATH".
std::optional<std::string> own_group(const std::string& root, bool unified) {
  std::ifstream file(root + "/proc/self/cgroup");
  std::string line;
  while (std::getline(file, line)) {
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const bool wanted =
        unified ? controllers.empty() && line.starts_with("0:") : has_item(controllers, "memory");
    if (wanted) return line.substr(second + 1);
  }
  return std::nullopt;
}

// The group as seen below its mount point: a container may see only its own part of the tree.
std::string below_mount(const std::string& group, const std::string& mounted_group) {
  if (mounted_group == "/") return group;
  if (group.starts_with(mounted_group)) return group.substr(mounted_group.size());
  return "";
}

void limit_by_group(const std::string& directory, const CgroupFiles& files, const std::string& name,
                    AvailableMemory& available) {
  const auto limit = read_count(directory + "/" + files.limit);
  if (!limit) return;
  const uint64_t usage = read_count(directory + "/" + files.usage).value_or(0);
  const uint64_t reclaimable = read_field(directory + "/memory.stat", files.reclaimable).value_or(0);
  const uint64_t held = usage - std::min(usage, reclaimable);
  const uint64_t left = *limit - std::min(*limit, held);
  if (left < available.bytes) available = {left, "the cgroup " + name};
}

}  // namespace

AvailableMemory available_memory(const std::string& root) {
  AvailableMemory available{std::numeric_limits<uint64_t>::max(), ""};
  if (const auto free = read_field(root + "/proc/meminfo", "MemAvailable:")) {
    available = {*free * 1024, "the machine's free memory"};
  }
  for (const CgroupMount& mount : memory_mounts(root)) {
    const auto group = own_group(root, mount.unified);
    if (!group) continue;
    std::string path = below_mount(*group, mount.mounted_group);
    while (path.ends_with('/')) path.pop_back();
    const CgroupFiles& files = mount.unified ? kVersion2 : kVersion1;
    while (true) {
      limit_by_group(root + mount.mount_point + path, files, path.empty() ? "/" : path, available);
      if (path.empty()) break;
      const size_t parent = path.rfind('/');
      path.resize(parent == std::string::npos ? 0 : parent);
    }
  }
  if (available.limited_by.empty()) {
    throw Error(ErrorKind::kRefused, "the system does not say how much memory is available",
                "give the budget with --memory SIZE");
  }
  return available;
}

}  // namespace headrace::tools
