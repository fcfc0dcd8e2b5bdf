#include "storage/layout.h"

#include <fmt/format.h>

#include <unordered_set>
#include <utility>

#include "storage/error.h"

namespace headrace::storage {
namespace {

// A record is one value of LMDB's, whose size has 32 bits; the block's header takes up to a page of it.
constexpr uint64_t kMaxPayload = (uint64_t{1} << 32) - (uint64_t{1} << 17);
constexpr uint32_t kMostGroup = 1 << 16;
constexpr uint32_t kMaxPlanes = 63;  // the store keeps a bit for each and one more

[[noreturn]] void refuse(const TensorSpec& tensor, const std::string& why) {
  throw Error(ErrorKind::kUsage, fmt::format("tensor '{}' cannot be stored: {}", tensor.name, why));
}

uint64_t product(const TensorSpec& tensor, uint64_t a, uint64_t b) {
  uint64_t result = 0;
  if (__builtin_mul_overflow(a, b, &result)) refuse(tensor, "its size does not fit in 64 bits");
  return result;
}

uint64_t sum(const TensorSpec& tensor, uint64_t a, uint64_t b) {
  uint64_t result = 0;
  if (__builtin_add_overflow(a, b, &result)) refuse(tensor, "its size does not fit in 64 bits");
  return result;
}

void check_tensor(const TensorSpec& tensor) {
  if (tensor.name.empty()) refuse(tensor, "it has no name");
  if (tensor.rows == 0 || tensor.columns == 0) refuse(tensor, "it has no elements");
  if (tensor.block_rows == 0) refuse(tensor, "its blocks have no rows");
  if (tensor.slots != 1 && tensor.slots != 2) refuse(tensor, fmt::format("it has {} slots", tensor.slots));
  if (tensor.planes.empty() || tensor.planes.size() > kMaxPlanes) {
    refuse(tensor, fmt::format("it has {} planes, not 1 to {}", tensor.planes.size(), kMaxPlanes));
  }
  std::unordered_set<std::string> plane_names;
  for (const Plane& plane : tensor.planes) {
    if (plane.element_bytes == 0 || plane.element_bytes > kMostElementBytes)
      refuse(tensor, fmt::format("plane '{}' has values of {} bytes, not 1 to {}", plane.name,
                                 plane.element_bytes, kMostElementBytes));
    if (plane.group == 0 || plane.group > kMostGroup)
      refuse(tensor, fmt::format("plane '{}' has groups of {} elements, not 1 to {}", plane.name, plane.group,
                                 kMostGroup));
    const bool cut = tensor.rows > tensor.block_rows;
    if (cut && product(tensor, tensor.block_rows, tensor.columns) % plane.group != 0)
      refuse(tensor, fmt::format("a group of plane '{}' would lie in two blocks", plane.name));
    if (!plane_names.insert(plane.name).second) refuse(tensor, fmt::format("two planes '{}'", plane.name));
  }
  const uint64_t elements = product(tensor, tensor.rows, tensor.columns);
  uint64_t next = 0;
  for (const TensorPart& part : tensor.parts) {
    uint64_t part_elements = 1;
    for (uint64_t size : part.shape) part_elements = product(tensor, part_elements, size);
    if (part_elements == 0) refuse(tensor, fmt::format("part '{}' has no elements", part.name));
    if (part.first_element != next) {
      refuse(tensor,
             fmt::format("part '{}' begins at element {}, not {}", part.name, part.first_element, next));
    }
    next = sum(tensor, next, part_elements);
  }
  if (next != elements) refuse(tensor, fmt::format("its parts have {} of {} elements", next, elements));
}

BlockLayout block_at(const TensorSpec& tensor, uint64_t first_row) {
  BlockLayout block;
  block.first_row = first_row;
  block.rows = std::min(tensor.block_rows, tensor.rows - first_row);
  block.elements = product(tensor, block.rows, tensor.columns);
  block.slots = tensor.slots;
  for (const Plane& plane : tensor.planes) {
    PlaneExtent extent;
    extent.offset = block.payload_bytes;
    extent.bytes = product(tensor, plane.values(block.elements), plane.element_bytes);
    extent.padded_bytes = sum(tensor, extent.bytes, kPlaneAlignment - 1) / kPlaneAlignment * kPlaneAlignment;
    block.payload_bytes = sum(tensor, block.payload_bytes, extent.padded_bytes);
    if (block.payload_bytes > kMaxPayload) {
      refuse(tensor, fmt::format("a block of {} rows takes more than {} bytes; take fewer rows", block.rows,
                                 kMaxPayload));
    }
    extent.first_chunk = block.chunks;
    extent.chunks = static_cast<uint32_t>((extent.padded_bytes + kChecksumChunk - 1) / kChecksumChunk);
    block.chunks += extent.chunks;
    block.planes.push_back(extent);
  }
  return block;
}

void check_names(const std::vector<TensorSpec>& tensors) {
  std::unordered_set<std::string> names, part_names;
  for (const TensorSpec& tensor : tensors) {
    if (!names.insert(tensor.name).second) refuse(tensor, "its name repeats");
    for (const TensorPart& part : tensor.parts) {
      if (part.name.empty()) refuse(tensor, "a part has no name");
      if (!part_names.insert(part.name).second) refuse(tensor, fmt::format("part '{}' repeats", part.name));
    }
  }
}

}  // namespace

Layout::Layout(std::vector<TensorSpec> tensors) : tensors_(std::move(tensors)) {
  if (tensors_.empty()) throw Error(ErrorKind::kUsage, "a model without tensors cannot be stored");
  check_names(tensors_);
  first_block_.reserve(tensors_.size() + 1);
  for (TensorId id = 0; id < tensors_.size(); id++) {
    const TensorSpec& tensor = tensors_[id];
    check_tensor(tensor);
    first_block_.push_back(static_cast<BlockId>(blocks_.size()));
    element_count_ = sum(tensor, element_count_, product(tensor, tensor.rows, tensor.columns));
    for (uint64_t row = 0; row < tensor.rows;) {
      if (blocks_.size() >= UINT32_MAX) refuse(tensor, "the run would have more than 2^32 blocks");
      BlockLayout block = block_at(tensor, row);
      block.id = static_cast<BlockId>(blocks_.size());
      block.tensor = id;
      row += block.rows;
      payload_bytes_ = sum(tensor, payload_bytes_, block.payload_bytes);
      blocks_.push_back(std::move(block));
    }
  }
  first_block_.push_back(static_cast<BlockId>(blocks_.size()));
}

uint64_t Layout::range_bytes(const BlockLayout& block, PlaneRange range) {
  HEADRACE_CHECK(range.first < range.last && range.last <= block.planes.size());
  const PlaneExtent& last = block.planes[range.last - 1];
  return last.offset + last.padded_bytes - block.planes[range.first].offset;
}

}  // namespace headrace::storage
