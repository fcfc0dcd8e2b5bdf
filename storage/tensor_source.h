// A thing that holds named tensors: a run, a checkpoint, a safetensors file or a folder of them. What it
// holds is known from headers alone; content is read in pieces, so that memory does not grow with a tensor.
//
// A tensor is one or more planes of elements, row-major: in a safetensors file a single one, in a run those
// of storage/layout.h. storage/tensor_values.h makes numbers of them.
//
// Ownership: a source holds its files (and a run's locks, if it was opened for reading). Threads: one at a
// time. Failure: Error; read() throws kCorrupt for content that is not what was written, where that shows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "storage/element_type.h"

namespace headrace::storage {

struct SourcePlane {
  std::string name;                        // as Plane::name; a safetensors type's name
  ElementType type = ElementType::kOther;  // kOther: bytes of which we know no values
  uint64_t element_bytes = 0;              // of a value; 0: unknown, the plane is read as bytes
  uint32_t group = 1;                      // elements that share a value
  uint32_t before = 0;                     // of the first group, those that belong to the tensor before it
  uint64_t value_of(uint64_t element) const { return (before + element) / group; }
};

struct SourceTensor {
  std::string name;
  std::vector<uint64_t> shape;
  uint64_t elements = 0;
  uint64_t bytes = 0;         // content of all planes
  uint64_t stored_bytes = 0;  // that these take on disk; a share where others are compressed with them
  std::vector<SourcePlane> planes;
};

inline uint64_t value_count(const SourceTensor& tensor, const SourcePlane& plane) {
  return plane.value_of(tensor.elements - 1) + 1;
}

// Of its values; of a plane whose values are unknown all bytes of the tensor.
inline uint64_t plane_bytes(const SourceTensor& tensor, uint32_t plane) {
  const SourcePlane& values = tensor.planes[plane];
  return values.element_bytes == 0 ? tensor.bytes : value_count(tensor, values) * values.element_bytes;
}

struct SourceInfo {
  std::string kind;  // "run", "checkpoint", "safetensors"
  std::string path;
  std::optional<uint64_t> step;
  std::string model_json;          // the resolved configuration; empty where there is none
  bool has_checksums = false;      // read() verifies what it reads
  std::vector<std::string> notes;  // sentences for people
  // What is known to be wrong although other content can be read, such as gaps.
  std::vector<std::string> faults;
};

class TensorSource {
 public:
  virtual ~TensorSource() = default;
  virtual const SourceInfo& info() const = 0;
  virtual std::span<const SourceTensor> tensors() const = 0;
  // Values of a plane from `first_value` on, as many as fill `to` (bytes, where the plane's element_bytes is
  // 0). An element has a value of its own, but in planes with groups. Only if the source was opened for
  // reading.
  virtual void read(size_t tensor, uint32_t plane, uint64_t first_value, std::span<std::byte> to) = 0;
  // The end of the values that are under one checksum with `value`: where reading can go on behind a fault.
  virtual uint64_t checked_with(size_t tensor, uint32_t plane, uint64_t value) const;
};

enum class SourceUse : uint8_t {
  kList,    // headers; of a run its catalog, also while it is being trained
  kRead,    // content too; a run's locks are taken (kRefused while it is in use)
  kVerify,  // as kRead, but damaged packs of a checkpoint are faults, and reading what is in them throws
};

struct SourceOptions {
  SourceUse use = SourceUse::kList;
  std::vector<std::string> shard_dirs = {};  // where a run's shards are now; empty: as recorded
};

// Whatever lies at `path`. Throws Error: kUsage for what is none of these (files that hold Python pickles are
// refused by name), kCorrupt for a damaged one.
std::unique_ptr<TensorSource> open_source(const std::string& path, const SourceOptions& options);

// Reads a plane of a tensor from front to back, in pieces of at most `piece_bytes`.
inline constexpr uint64_t kSourcePieceBytes = uint64_t{8} << 20;
using PieceVisitor = std::function<void(std::span<const std::byte> piece)>;
void read_plane(TensorSource& source, size_t tensor, uint32_t plane, std::span<std::byte> buffer,
                const PieceVisitor& visit);

}  // namespace headrace::storage
