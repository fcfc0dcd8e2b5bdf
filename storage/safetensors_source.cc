#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "storage/error.h"
#include "storage/json.h"
#include "storage/run_dir.h"
#include "storage/safetensors.h"
#include "storage/text.h"

namespace headrace::storage {
namespace {

namespace fs = std::filesystem;

constexpr const char* kIndexName = "model.safetensors.index.json";
constexpr uint64_t kMostIndexBytes = uint64_t{16} << 20;
constexpr size_t kMostFiles = 10000;

class SafetensorsSource final : public TensorSource {
 public:
  SafetensorsSource(const std::string& path, const std::vector<std::string>& files) {
    info_.kind = "safetensors";
    info_.path = path;
    for (const std::string& file : files) add_file(file);
    std::map<std::string_view, size_t> names;
    for (size_t i = 0; i < tensors_.size(); i++) {
      const auto [found, is_new] = names.emplace(tensors_[i].name, i);
      if (is_new) continue;
      throw Error(ErrorKind::kCorrupt,
                  fmt::format("tensor '{}' is both in {} and in {}", printable(tensors_[i].name),
                              files_[places_[found->second].file], files_[places_[i].file]),
                  "Take the file away that does not belong there");
    }
  }

  const SourceInfo& info() const override { return info_; }
  std::span<const SourceTensor> tensors() const override { return tensors_; }
  const std::string& file_of(size_t tensor) const { return files_[places_[tensor].file]; }

  void read(size_t tensor, uint32_t plane, uint64_t first_element, std::span<std::byte> to) override {
    HEADRACE_CHECK(plane == 0);
    const TensorPlace& place = places_[tensor];
    const uint64_t unit = std::max<uint64_t>(tensors_[tensor].planes[0].element_bytes, 1);
    HEADRACE_CHECK(first_element * unit + to.size() <= tensors_[tensor].bytes);
    if (!open_ || open_file_ != place.file) {
      open_ = File::open(files_[place.file], OpenMode::kRead);
      open_file_ = place.file;
    }
    open_->pread_all(to, place.offset + first_element * unit);
  }

 private:
  struct TensorPlace {
    size_t file = 0;
    uint64_t offset = 0;
  };

  void add_file(const std::string& path) {
    SafetensorsHeader header = read_safetensors_header(File::open(path, OpenMode::kRead));
    for (auto& [key, value] : header.metadata)
      if (key == kModelKey) info_.model_json = std::move(value);
    for (SafetensorsTensor& tensor : header.tensors) {
      const uint64_t bytes = tensor.last - tensor.first;
      places_.push_back({files_.size(), header.data_offset + tensor.first});
      tensors_.push_back({std::move(tensor.name),
                          std::move(tensor.shape),
                          tensor.elements,
                          bytes,
                          bytes,
                          {{std::move(tensor.type_name), tensor.type, element_bytes(tensor.type)}}});
    }
    info_.faults.insert(info_.faults.end(), header.gaps.begin(), header.gaps.end());
    files_.push_back(path);
  }

  SourceInfo info_;
  std::vector<std::string> files_;
  std::vector<SourceTensor> tensors_;
  std::vector<TensorPlace> places_;
  std::optional<File> open_;
  size_t open_file_ = 0;
};

using WeightMap = std::map<std::string, std::string>;  // tensor -> file

WeightMap read_index(const std::string& path) {
  const auto corrupt = [&](const std::string& why) {
    throw Error(ErrorKind::kCorrupt, fmt::format("{} is no index of safetensors files: {}", path, why),
                "Get the folder again from where it came");
  };
  const File file = File::open(path, OpenMode::kRead);
  if (file.size() > kMostIndexBytes) corrupt(fmt::format("it has {}", format_size(file.size())));
  std::string text(file.size(), '\0');
  file.pread_all(std::as_writable_bytes(std::span(text)), 0);
  const auto json = parse_json<nlohmann::json>(text);
  if (!json.is_object() || !json.contains("weight_map") || !json["weight_map"].is_object())
    corrupt("it is no JSON object with a 'weight_map'");
  WeightMap map;
  for (const auto& [name, value] : json["weight_map"].items()) {
    const std::string file_name = value.is_string() ? value.get<std::string>() : "";
    if (file_name.find('/') != std::string::npos || !file_name.ends_with(".safetensors"))
      corrupt(fmt::format("'{}' is said to be in '{}'", printable(name), printable(file_name)));
    map[name] = file_name;
  }
  return map;
}

void compare_with_index(const SafetensorsSource& source, const WeightMap& map, const std::string& index) {
  size_t found = 0;
  for (size_t i = 0; i < source.tensors().size(); i++) {
    const auto entry = map.find(source.tensors()[i].name);
    if (entry == map.end()) continue;
    found++;
    const std::string actual = fs::path(source.file_of(i)).filename().string();
    if (actual == entry->second) continue;
    throw Error(ErrorKind::kCorrupt,
                fmt::format("tensor '{}' is in {}, and {} says {}", printable(entry->first), actual, index,
                            printable(entry->second)));
  }
  if (found == map.size()) return;
  std::set<std::string_view> held;
  for (const SourceTensor& tensor : source.tensors()) held.insert(tensor.name);
  for (const auto& [name, file] : map) {
    if (held.contains(name)) continue;
    throw Error(
        ErrorKind::kCorrupt,
        fmt::format("tensor '{}' is not in {}, where {} says it is", printable(name), printable(file), index),
        "Get the folder again from where it came");
  }
}

}  // namespace

std::unique_ptr<TensorSource> open_safetensors(const std::string& path) {
  if (!fs::is_directory(path)) return std::make_unique<SafetensorsSource>(path, std::vector{path});
  const std::string index = (fs::path(path) / kIndexName).string();
  const bool indexed = file_exists(index);
  WeightMap map;
  std::set<std::string> names;
  if (indexed) {
    map = read_index(index);
    for (const auto& [name, file] : map) names.insert(file);
  } else {
    for (const auto& entry : fs::directory_iterator(path)) {
      if (entry.path().extension() == ".safetensors") names.insert(entry.path().filename().string());
    }
  }
  if (names.size() > kMostFiles) {
    throw Error(ErrorKind::kUsage,
                fmt::format("{} has {} safetensors files, more than {}", path, names.size(), kMostFiles));
  }
  std::vector<std::string> files;
  for (const std::string& name : names) files.push_back((fs::path(path) / name).string());
  auto source = std::make_unique<SafetensorsSource>(path, files);
  if (indexed) compare_with_index(*source, map, index);
  return source;
}

}  // namespace headrace::storage
