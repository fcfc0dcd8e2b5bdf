#include "storage/safetensors_writer.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <numeric>

#include "storage/error.h"

namespace headrace::storage {

SafetensorsWriter::SafetensorsWriter(const std::string& path, const std::vector<NewTensor>& tensors,
                                     const std::vector<std::pair<std::string, std::string>>& metadata)
    : file_(File::open(path, OpenMode::kCreate)), places_(tensors.size()) {
  std::vector<size_t> order(tensors.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return element_bytes(tensors[a].type) > element_bytes(tensors[b].type);
  });
  nlohmann::ordered_json header;
  for (const auto& [key, value] : metadata) header["__metadata__"][key] = value;
  uint64_t end = 0;
  for (const size_t i : order) {
    uint64_t bytes = element_bytes(tensors[i].type);
    for (const uint64_t length : tensors[i].shape) bytes *= length;
    places_[i] = {end, end + bytes};
    end += bytes;
    header[tensors[i].name] = {{"dtype", element_type_name(tensors[i].type)},
                               {"shape", tensors[i].shape},
                               {"data_offsets", {places_[i].first, places_[i].last}}};
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const uint64_t header_bytes = text.size();
  data_offset_ = sizeof header_bytes + header_bytes;
  file_bytes_ = data_offset_ + end;
  file_.pwrite_all(std::as_bytes(std::span(&header_bytes, 1)), 0);
  file_.pwrite_all(std::as_bytes(std::span(text)), sizeof header_bytes);
  file_.resize(file_bytes_);
}

void SafetensorsWriter::write(size_t tensor, uint64_t first_byte, std::span<const std::byte> bytes) {
  const Place& place = places_[tensor];
  HEADRACE_CHECK(place.first + first_byte + bytes.size() <= place.last);
  file_.pwrite_all(bytes, data_offset_ + place.first + first_byte);
}

void SafetensorsWriter::finish() { file_.sync(); }

}  // namespace headrace::storage
