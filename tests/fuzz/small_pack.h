// A pack of a small tensor from the input of a fuzz target: frames, their table, and the number of the
// table's records in the last byte. Checksums that are zero are put right.
#pragma once

#include <algorithm>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "storage/checkpoint_format.h"
#include "storage/checksum.h"

namespace headrace::fuzz {

inline storage::CheckpointManifest small_manifest() {
  storage::CheckpointManifest manifest;
  manifest.run_id = std::string(32, 'a');
  manifest.step = 7;
  manifest.model_json = manifest.cursor_json = manifest.configuration = "{}";
  manifest.tensors = {{"t",
                       5,
                       100,
                       2,
                       2,
                       {{"weight.high", 2}, {"weight.low", 2}, {"moment1", 4}, {"moment2.scale", 4, 40}},
                       {{"t", {5, 100}, 0}}}};
  return manifest;
}

struct SmallPack {
  storage::CheckpointManifest manifest;
  std::string file;
};

inline SmallPack small_pack(std::string_view input) {
  // Of a record, in bytes: docs/formats.md.
  constexpr size_t kRecord = storage::kFrameRecordBytes, kOffset = 16, kPackedBytes = 24, kPackedSum = 32,
                   kRecordSum = 56;
  SmallPack pack{small_manifest(), ""};
  storage::PackInfo& info = pack.manifest.packs.emplace_back();
  info.id = std::string(32, 'b');
  const size_t records = input.empty() ? 0 : static_cast<uint8_t>(input.back());
  if (!input.empty()) input.remove_suffix(1);
  const size_t table_bytes = std::min(records, input.size() / kRecord) * kRecord;
  const std::string_view frames = input.substr(0, input.size() - table_bytes);
  std::string table(input.substr(frames.size()));
  pack.manifest.stored_bytes = {0};
  for (size_t at = 0; at < table.size(); at += kRecord) {
    char* record = table.data() + at;
    const auto get = [&](auto value, size_t place) {
      std::memcpy(&value, record + place, sizeof value);
      return value;
    };
    const auto bytes = get(uint32_t{0}, kPackedBytes);
    const uint64_t first = get(uint64_t{0}, kOffset) - storage::kPackHeaderBytes;
    pack.manifest.stored_bytes[0] += bytes;
    uint64_t sum = 0;
    if (get(uint64_t{0}, kPackedSum) == 0 && first <= frames.size() && bytes <= frames.size() - first) {
      sum = storage::checksum_bytes(std::as_bytes(std::span(frames)).subspan(first, bytes));
      std::memcpy(record + kPackedSum, &sum, sizeof sum);
    }
    if (get(uint64_t{0}, kRecordSum) == 0) {
      sum = storage::checksum_bytes(std::as_bytes(std::span(record, kRecordSum)));
      std::memcpy(record + kRecordSum, &sum, sizeof sum);
    }
  }
  const storage::PackHeader header = storage::encode_pack_header(info.id);
  pack.file.assign(reinterpret_cast<const char*>(header.data()), header.size());
  pack.file += frames;
  info.table_offset = pack.file.size();
  info.table_checksum = storage::checksum_bytes(std::as_bytes(std::span(table)));
  pack.file += table;
  info.bytes = pack.file.size();
  return pack;
}

}  // namespace headrace::fuzz
