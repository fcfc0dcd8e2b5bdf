#include "storage/safetensors.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "storage/error.h"
#include "storage/text.h"

namespace headrace::storage {
namespace {

constexpr size_t kMostGaps = 5;  // that are described
constexpr size_t kMostDimensions = 64;

[[noreturn]] void corrupt(const std::string& path, const std::string& why) {
  throw Error(ErrorKind::kCorrupt, fmt::format("{} is no sound safetensors file: {}", path, why),
              "Get the file again from where it came");
}

// Takes the header's JSON as it is parsed: the document is never held as a whole, keys that repeat are seen,
// and nesting is at most three deep.
class HeaderReader final : public nlohmann::json_sax<nlohmann::json> {
 public:
  HeaderReader(const std::string& path, SafetensorsHeader& header) : path_(path), header_(header) {}

  bool null() override { return unexpected("null"); }
  bool boolean(bool) override { return unexpected("true or false"); }
  bool number_integer(number_integer_t) override { return unexpected("a negative number"); }
  bool number_float(number_float_t, const string_t&) override {
    return unexpected("a number that is not whole");
  }
  bool binary(binary_t&) override { return unexpected("bytes"); }
  bool number_unsigned(number_unsigned_t value) override {
    if (place_ == Place::kShape) {
      if (tensor().shape.size() == kMostDimensions) wrong("has too many dimensions");
      tensor().shape.push_back(value);
    } else if (place_ == Place::kOffsets) {
      if (offsets_ == 2) wrong("has more than two data_offsets");
      (offsets_++ == 0 ? tensor().first : tensor().last) = value;
    } else {
      return unexpected("a number");
    }
    return true;
  }
  bool string(string_t& value) override {
    if (place_ == Place::kMetadata) {
      header_.metadata.emplace_back(key_, value);
    } else if (place_ == Place::kTensor && key_ == "dtype") {
      tensor().type_name = value;
    } else {
      return unexpected("a text");
    }
    return true;
  }
  bool start_object(size_t) override {
    if (place_ == Place::kStart) {
      place_ = Place::kTop;
    } else if (place_ == Place::kTop && key_ == "__metadata__") {
      place_ = Place::kMetadata;
    } else if (place_ == Place::kTop) {
      header_.tensors.emplace_back().name = key_;
      has_ = {};
      offsets_ = 0;
      place_ = Place::kTensor;
    } else {
      return unexpected("an object");
    }
    return true;
  }
  bool end_object() override {
    if (place_ == Place::kTensor) {
      if (!has_[0] || !has_[1] || !has_[2]) wrong("lacks a dtype, shape or data_offsets");
    }
    place_ = place_ == Place::kTop ? Place::kEnd : Place::kTop;
    return true;
  }
  bool start_array(size_t) override {
    if (place_ == Place::kTensor && key_ == "shape") {
      place_ = Place::kShape;
    } else if (place_ == Place::kTensor && key_ == "data_offsets") {
      place_ = Place::kOffsets;
    } else {
      return unexpected("a list");
    }
    return true;
  }
  bool end_array() override {
    if (place_ == Place::kOffsets && offsets_ != 2) wrong("has not two data_offsets");
    place_ = Place::kTensor;
    return true;
  }
  bool key(string_t& value) override {
    if (place_ == Place::kTensor) {
      static constexpr std::array<const char*, 3> kFields{"dtype", "shape", "data_offsets"};
      const auto field =
          static_cast<size_t>(std::find(kFields.begin(), kFields.end(), value) - kFields.begin());
      if (field == kFields.size()) wrong(fmt::format("has a field '{}'", printable(value, 60)));
      if (has_[field]) wrong(fmt::format("has two fields '{}'", value));
      has_[field] = true;
    } else if (place_ == Place::kTop && value == "__metadata__") {
      if (has_metadata_) corrupt(path_, "it has two fields '__metadata__'");
      has_metadata_ = true;
    }
    key_ = value;
    return true;
  }
  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception& error) override {
    corrupt(path_, fmt::format("its header is no JSON at byte {}: {}", position, printable(error.what())));
  }

 private:
  enum class Place { kStart, kTop, kMetadata, kTensor, kShape, kOffsets, kEnd };

  SafetensorsTensor& tensor() { return header_.tensors.back(); }
  [[noreturn]] void wrong(const std::string& why) {
    corrupt(path_, fmt::format("tensor '{}' {}", printable(tensor().name), why));
  }
  bool unexpected(const char* what) const {
    corrupt(path_,
            fmt::format("its header has {} where none belongs (behind '{}')", what, printable(key_, 60)));
  }

  const std::string& path_;
  SafetensorsHeader& header_;
  Place place_ = Place::kStart;
  std::string key_;
  std::array<bool, 3> has_{};
  bool has_metadata_ = false;
  size_t offsets_ = 0;
};

void check_tensor(SafetensorsTensor& tensor, uint64_t data_bytes, const std::string& path) {
  const auto wrong = [&](const std::string& why) {
    corrupt(path, fmt::format("tensor '{}' {}", printable(tensor.name), why));
  };
  tensor.elements = 1;
  for (const uint64_t length : tensor.shape) {
    if (__builtin_mul_overflow(tensor.elements, length, &tensor.elements))
      wrong("has more than 2^64 elements");
  }
  if (tensor.first > tensor.last || tensor.last > data_bytes) {
    wrong(fmt::format("lies from {} to {}, and {} bytes follow the header", tensor.first, tensor.last,
                      data_bytes));
  }
  tensor.type = element_type(tensor.type_name);
  if (tensor.type == ElementType::kOther) return;  // of a later format, perhaps: its size is its own business
  uint64_t bytes = 0;
  if (__builtin_mul_overflow(tensor.elements, element_bytes(tensor.type), &bytes) ||
      bytes != tensor.last - tensor.first) {
    wrong(fmt::format("has {} bytes, not those of {} elements of {}", tensor.last - tensor.first,
                      tensor.elements, tensor.type_name));
  }
}

void check_names(const SafetensorsHeader& header, const std::string& path) {
  std::vector<std::string_view> names;
  names.reserve(header.tensors.size());
  for (const SafetensorsTensor& tensor : header.tensors) names.emplace_back(tensor.name);
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  if (twice != names.end()) corrupt(path, fmt::format("two tensors are named '{}'", printable(*twice)));
}

void check_places(SafetensorsHeader& header, uint64_t data_bytes, const std::string& path) {
  std::vector<const SafetensorsTensor*> order;
  for (const SafetensorsTensor& tensor : header.tensors) {
    if (tensor.first != tensor.last) order.push_back(&tensor);
  }
  std::sort(order.begin(), order.end(), [](const auto* a, const auto* b) { return a->first < b->first; });
  uint64_t end = 0;
  const auto note_gap = [&](uint64_t next) {
    if (next != end && header.gaps.size() < kMostGaps) {
      header.gaps.push_back(fmt::format("{}: the {} bytes at offset {} belong to no tensor", path, next - end,
                                        header.data_offset + end));
    }
  };
  for (const SafetensorsTensor* tensor : order) {
    if (tensor->first < end) {
      corrupt(path, fmt::format("tensor '{}' overlaps another one at byte {}", printable(tensor->name),
                                tensor->first));
    }
    note_gap(tensor->first);
    end = tensor->last;
  }
  note_gap(data_bytes);
}

}  // namespace

SafetensorsHeader parse_safetensors_header(std::string_view json, uint64_t data_bytes,
                                           const std::string& path) {
  SafetensorsHeader header;
  header.data_offset = sizeof(uint64_t) + json.size();
  if (!json.starts_with('{')) corrupt(path, "its header does not begin with '{'");
  HeaderReader reader(path, header);
  nlohmann::json::sax_parse(json.begin(), json.end(), &reader);
  for (SafetensorsTensor& tensor : header.tensors) check_tensor(tensor, data_bytes, path);
  check_names(header, path);
  check_places(header, data_bytes, path);
  return header;
}

SafetensorsHeader read_safetensors_header(const File& file) {
  const uint64_t file_bytes = file.size();
  uint64_t header_bytes = 0;
  if (file_bytes < sizeof header_bytes) corrupt(file.path(), fmt::format("it has {} bytes", file_bytes));
  file.pread_all(std::as_writable_bytes(std::span(&header_bytes, 1)), 0);
  const uint64_t rest = file_bytes - sizeof header_bytes;
  if (header_bytes > rest || header_bytes > kMostSafetensorsHeader) {
    corrupt(file.path(), fmt::format("its header would have {} bytes, and {} follow (at most {} are allowed)",
                                     header_bytes, rest, kMostSafetensorsHeader));
  }
  std::string json(header_bytes, '\0');
  file.pread_all(std::as_writable_bytes(std::span(json)), sizeof header_bytes);
  return parse_safetensors_header(json, rest - header_bytes, file.path());
}

}  // namespace headrace::storage
