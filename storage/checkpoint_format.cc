#include "storage/checkpoint_format.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <exception>
#include <limits>
#include <nlohmann/json.hpp>

#include "storage/catalog_json.h"
#include "storage/checksum.h"
#include "storage/error.h"
#include "storage/json.h"
#include "storage/text.h"

namespace headrace::storage {
namespace {

using nlohmann::ordered_json;

constexpr std::string_view kFormatName = "headrace checkpoint ";
constexpr std::string_view kFormat = "headrace checkpoint 1";
constexpr char kPackMagic[8] = {'h', 'e', 'a', 'd', 'r', 'p', 'a', 'k'};
constexpr uint32_t kPackVersion = 1;
constexpr size_t kIdDigits = 32;
constexpr uint64_t kMostSteps = uint64_t{1} << 53;
constexpr const char* kAdvice = "Take another checkpoint, or another copy of this one";

// Little-endian, as they lie on disk.
struct HeaderOnDisk {
  char magic[8];
  uint32_t version, reserved;
  char id[kIdDigits];
  uint64_t reserved2, checksum;  // of all before it
};
static_assert(sizeof(HeaderOnDisk) == kPackHeaderBytes);

struct RecordOnDisk {
  uint32_t block, plane, piece, split;
  uint64_t offset;
  uint32_t packed_bytes, content_bytes;
  uint64_t packed_checksum, content_checksum, written_step, checksum;  // of all before it
};
static_assert(sizeof(RecordOnDisk) == kFrameRecordBytes);

[[noreturn]] void corrupt(const std::string& path, const std::string& why) {
  throw Error(ErrorKind::kCorrupt, fmt::format("{}: {}", path, why), kAdvice);
}

bool is_hexadecimal(std::string_view text, size_t digits) {
  return text.size() == digits && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

// The manifest's last lines: a checksum over everything before them.
std::string checksum_lines(std::string_view before) {
  const uint64_t sum = checksum_bytes(std::as_bytes(std::span(before)));
  return fmt::format(",\n  \"checksum\": \"{:016x}\"\n}}\n", sum);
}

bool is_whole(std::string_view text) {
  const size_t length = checksum_lines("").size();
  return text.size() > length &&
         text.substr(text.size() - length) == checksum_lines(text.substr(0, text.size() - length));
}

uint64_t number(const ordered_json& json, const char* key) {
  const ordered_json& value = json.at(key);
  if (!value.is_number_unsigned()) throw std::invalid_argument(fmt::format("'{}' is no number", key));
  return value.get<uint64_t>();
}

uint64_t hexadecimal(const ordered_json& json, const char* key) {
  const auto text = json.at(key).get<std::string>();
  if (!is_hexadecimal(text, 16)) throw std::invalid_argument(fmt::format("'{}' is no checksum", key));
  return std::stoull(text, nullptr, 16);
}

PackInfo parse_pack(const ordered_json& json, size_t index) {
  PackInfo pack;
  // Names are what they must be and nothing else, so that none leads out of the directory.
  if (json.at("name") != pack_name(index)) throw std::invalid_argument("a pack of another name");
  json.at("id").get_to(pack.id);
  if (!is_hexadecimal(pack.id, kIdDigits)) throw std::invalid_argument("the id of a pack");
  pack.bytes = number(json, "bytes");
  pack.table_offset = number(json, "table_offset");
  pack.table_checksum = hexadecimal(json, "table_checksum");
  const bool fits = pack.table_offset >= kPackHeaderBytes && pack.table_offset <= pack.bytes &&
                    pack.bytes <= uint64_t(std::numeric_limits<int64_t>::max());
  const uint64_t table = fits ? pack.bytes - pack.table_offset : 1;
  if (table % kFrameRecordBytes != 0 || table / kFrameRecordBytes > kMostFrames)
    throw std::invalid_argument(fmt::format("the table of {}", pack_name(index)));
  return pack;
}

std::string text_of(const ordered_json& value) {
  try {
    return value.dump();
  } catch (const nlohmann::json::type_error&) {
    throw Error(ErrorKind::kUsage, "a name that goes into a checkpoint is not UTF-8 text");
  }
}

CheckpointManifest from_json(const ordered_json& json) {
  CheckpointManifest manifest;
  json.at("run").get_to(manifest.run_id);
  manifest.step = number(json, "step");
  if (manifest.step > kMostSteps) throw std::invalid_argument("the step");
  json.at("weights_only").get_to(manifest.weights_only);
  json.at("automatic").get_to(manifest.automatic);
  json.at("model").get_to(manifest.model_json);
  json.at("cursor").get_to(manifest.cursor_json);
  json.at("configuration").get_to(manifest.configuration);
  for (const ordered_json& tensor : json.at("tensors")) {  // one by one, to have one of them twice in memory
    const std::vector<TensorSpec> parsed = tensors_from_json("[" + tensor.dump() + "]");
    manifest.tensors.insert(manifest.tensors.end(), parsed.begin(), parsed.end());
  }
  for (const ordered_json& bytes : json.at("stored_bytes")) {
    if (!bytes.is_number_unsigned()) throw std::invalid_argument("'stored_bytes' holds something else");
    manifest.stored_bytes.push_back(bytes.get<uint64_t>());
  }
  if (manifest.stored_bytes.size() != manifest.tensors.size())
    throw std::invalid_argument("'stored_bytes' has another length than 'tensors'");
  const ordered_json& packs = json.at("packs");
  if (!packs.is_array() || packs.size() > kMostPacks) throw std::invalid_argument("the list of packs");
  uint64_t frames = 0;
  for (size_t i = 0; i < packs.size(); i++) {
    manifest.packs.push_back(parse_pack(packs[i], i));
    frames += (manifest.packs.back().bytes - manifest.packs.back().table_offset) / kFrameRecordBytes;
    if (frames > kMostFrames) throw std::invalid_argument("too many frames");
  }
  return manifest;
}

}  // namespace

std::string pack_name(size_t pack) { return fmt::format("pack-{:05}", pack); }

std::string encode_manifest(const CheckpointManifest& manifest) {
  HEADRACE_CHECK(manifest.stored_bytes.size() == manifest.tensors.size());
  // Put together line by line: as one object the tensors would take many times the memory of their text.
  std::string text = "{";
  const auto add = [&](const char* key, const ordered_json& value) {
    text += fmt::format("{}\n  \"{}\": {}", text.size() > 1 ? "," : "", key, text_of(value));
  };
  add("format", kFormat);
  add("byte_order", "little");
  add("run", manifest.run_id);
  add("step", manifest.step);
  add("weights_only", manifest.weights_only);
  add("automatic", manifest.automatic);
  add("model", manifest.model_json);
  add("cursor", manifest.cursor_json);
  add("configuration", manifest.configuration);
  text += ",\n  \"tensors\": [";
  for (size_t i = 0; i < manifest.tensors.size(); i++) {
    const std::string list = tensors_to_json(std::span(manifest.tensors).subspan(i, 1));
    text += fmt::format("{}\n    {}", i > 0 ? "," : "", std::string_view(list).substr(1, list.size() - 2));
  }
  text += "\n  ]";
  add("stored_bytes", manifest.stored_bytes);
  text += ",\n  \"packs\": [";
  for (size_t i = 0; i < manifest.packs.size(); i++) {
    const PackInfo& pack = manifest.packs[i];
    text += fmt::format("{}\n    {}", i > 0 ? "," : "",
                        text_of({{"name", pack_name(i)},
                                 {"id", pack.id},
                                 {"bytes", pack.bytes},
                                 {"table_offset", pack.table_offset},
                                 {"table_checksum", fmt::format("{:016x}", pack.table_checksum)}}));
  }
  text += "\n  ]";
  text += checksum_lines(text);
  if (text.size() > kMostManifestBytes) {
    throw Error(ErrorKind::kUsage,
                fmt::format("a checkpoint's manifest of {} would be larger than {}", format_size(text.size()),
                            format_size(kMostManifestBytes)),
                "The model has more tensors than a checkpoint can list");
  }
  return text;
}

CheckpointManifest parse_manifest(std::string_view text, const std::string& path) {
  if (text.size() > kMostManifestBytes) corrupt(path, "it is too large for a manifest");
  const bool whole = is_whole(text);
  const ordered_json json = parse_json<ordered_json>(text);
  if (!json.is_object()) corrupt(path, "it is no manifest of a checkpoint");
  const auto format = json.find("format");
  const std::string name = format != json.end() && format->is_string() ? format->get<std::string>() : "";
  if (name != kFormat && name.starts_with(kFormatName) && (whole || !json.contains("checksum"))) {
    throw Error(ErrorKind::kUsage,
                fmt::format("{} has the format '{}', and this program knows '{}'", path, printable(name, 60),
                            kFormat),
                "Use the version of headrace that wrote it, or a later one");
  }
  if (name != kFormat || !whole) corrupt(path, "it is not what was written (its checksum is another)");
  try {
    return from_json(json);
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {
    corrupt(path, fmt::format("its content makes no sense: {}", printable(error.what())));
  }
}

Layout layout_of(const CheckpointManifest& manifest, const std::string& path) {
  // Counted before anything is made of it: a few numbers may ask for a great many blocks.
  uint64_t frames = 0, blocks = 0;
  for (const PackInfo& pack : manifest.packs) frames += (pack.bytes - pack.table_offset) / kFrameRecordBytes;
  for (const TensorSpec& tensor : manifest.tensors) {
    const uint64_t whole_blocks = tensor.rows / std::max<uint64_t>(tensor.block_rows, 1);
    blocks = whole_blocks > frames ? frames + 1 : blocks + whole_blocks;
    if (blocks > frames) corrupt(path, "its tensors have more blocks than its packs");
  }
  try {
    return Layout(manifest.tensors);
  } catch (const Error& error) {
    corrupt(path, fmt::format("its content makes no sense: {}", printable(error.what())));
  }
}

PackHeader encode_pack_header(std::string_view id) {
  HEADRACE_CHECK(id.size() == kIdDigits);
  HeaderOnDisk header{};
  std::memcpy(header.magic, kPackMagic, sizeof kPackMagic);
  header.version = kPackVersion;
  std::memcpy(header.id, id.data(), kIdDigits);
  const auto bytes = std::as_bytes(std::span(&header, 1));
  header.checksum = checksum_bytes(bytes.first(kPackHeaderBytes - sizeof header.checksum));
  PackHeader result;
  std::memcpy(result.data(), &header, sizeof header);
  return result;
}

void check_pack_header(std::span<const std::byte> bytes, const PackInfo& pack, const std::string& path) {
  HeaderOnDisk header{};
  if (bytes.size() != sizeof header) corrupt(path, "it has no header");
  std::memcpy(&header, bytes.data(), sizeof header);
  if (std::memcmp(header.magic, kPackMagic, sizeof kPackMagic) != 0)
    corrupt(path, "the 8 bytes at offset 0 are not those of a pack of a checkpoint");
  if (header.checksum != checksum_bytes(bytes.first(kPackHeaderBytes - sizeof header.checksum)))
    corrupt(path, "the 64 bytes at offset 0 are not what was written");
  if (header.version != kPackVersion) {
    throw Error(
        ErrorKind::kUsage,
        fmt::format("{} has version {}, and this program knows {}", path, header.version, kPackVersion),
        "Use the version of headrace that wrote it, or a later one");
  }
  if (std::string_view(header.id, kIdDigits) != pack.id) corrupt(path, "it belongs to another checkpoint");
}

void append_record(const Frame& frame, std::vector<std::byte>& table) {
  RecordOnDisk record{frame.block,
                      frame.plane,
                      frame.piece,
                      static_cast<uint32_t>(frame.split),
                      frame.offset,
                      frame.packed_bytes,
                      frame.content_bytes,
                      frame.packed_checksum,
                      frame.content_checksum,
                      frame.written_step,
                      0};
  const auto bytes = std::as_bytes(std::span(&record, 1));
  record.checksum = checksum_bytes(bytes.first(kFrameRecordBytes - sizeof record.checksum));
  table.insert(table.end(), bytes.begin(), bytes.end());
}

Frame parse_record(std::span<const std::byte> bytes, const Layout& layout, const PackInfo& pack,
                   const std::string& path, uint64_t offset_in_file) {
  const auto refuse = [&](const std::string& why) {
    corrupt(path, fmt::format("the record at offset {} {}", offset_in_file, why));
  };
  RecordOnDisk record{};
  if (bytes.size() != sizeof record) refuse("is cut short");
  std::memcpy(&record, bytes.data(), sizeof record);
  if (record.checksum != checksum_bytes(bytes.first(kFrameRecordBytes - sizeof record.checksum)))
    refuse("is not what was written");
  if (record.block >= layout.blocks().size()) refuse("is of a block that there is not");
  const BlockLayout& block = layout.block(record.block);
  const TensorSpec& tensor = layout.tensor(block.tensor);
  if (record.plane >= tensor.planes.size()) refuse("is of a plane that there is not");
  const Plane& plane = tensor.planes[record.plane];
  if (record.piece >= piece_count(block, plane)) refuse("is of a piece that there is not");
  if (record.split >= kSplits) refuse("is split in a way that this program does not know");
  if (record.content_bytes != piece_bytes(block, plane, record.piece) || record.packed_bytes == 0 ||
      record.packed_bytes > record.content_bytes)
    refuse(fmt::format("claims a size that tensor '{}' does not have", printable(tensor.name)));
  if (record.offset < kPackHeaderBytes || record.offset > pack.table_offset ||
      record.packed_bytes > pack.table_offset - record.offset)
    refuse("leads out of the pack");
  return {record.block,
          record.plane,
          record.piece,
          static_cast<Split>(record.split),
          record.offset,
          record.packed_bytes,
          record.content_bytes,
          record.packed_checksum,
          record.content_checksum,
          record.written_step};
}

bool is_weight_plane(const Plane& plane) { return plane.name.starts_with("weight."); }

bool holds_plane(const CheckpointManifest& manifest, const Plane& plane) {
  return !manifest.weights_only || is_weight_plane(plane);
}

uint64_t piece_elements(const Plane& plane) {
  return std::max<uint64_t>(kPieceBytes / plane.element_bytes, 1);
}

uint32_t piece_count(const BlockLayout& block, const Plane& plane) {
  const uint64_t each = piece_elements(plane);
  return static_cast<uint32_t>((plane.values(block.elements) + each - 1) / each);
}

uint64_t piece_bytes(const BlockLayout& block, const Plane& plane, uint32_t piece) {
  const uint64_t each = piece_elements(plane);
  return std::min(each, plane.values(block.elements) - piece * each) * plane.element_bytes;
}

}  // namespace headrace::storage
