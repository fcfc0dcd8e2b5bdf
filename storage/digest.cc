#include "storage/digest.h"

#include <map>
#include <vector>

#include "storage/hasher.h"
#include "storage/run_source.h"

namespace headrace::storage {
namespace {

std::string tensor_hash(TensorSource& source, size_t tensor, std::span<std::byte> buffer,
                        const std::function<void(uint64_t)>& done) {
  const SourceTensor& entry = source.tensors()[tensor];
  Hasher all;
  all.add_number(entry.shape.size());
  for (const uint64_t length : entry.shape) all.add_number(length);
  for (uint32_t p = 0; p < entry.planes.size(); p++) {
    Hasher plane;
    read_plane(source, tensor, p, buffer, [&](std::span<const std::byte> piece) {
      plane.add(piece);
      done(piece.size());
    });
    all.add_text(entry.planes[p].name);
    all.add_number(entry.planes[p].element_bytes);
    if (entry.planes[p].group > 1) all.add_number(entry.planes[p].group);
    all.add_text(plane.hex());
  }
  return all.hex();
}

}  // namespace

std::string digest(TensorSource& source, const std::function<void(double)>& progress) {
  std::vector<std::byte> buffer(kSourcePieceBytes);
  uint64_t bytes = 0, done_bytes = 0;
  for (const SourceTensor& tensor : source.tensors()) bytes += tensor.bytes;
  std::map<std::string, std::string> by_name;  // the order of the tensors does not count
  for (size_t i = 0; i < source.tensors().size(); i++) {
    by_name[source.tensors()[i].name] = tensor_hash(source, i, buffer, [&](uint64_t more) {
      done_bytes += more;
      if (progress) progress(static_cast<double>(done_bytes) / static_cast<double>(bytes));
    });
  }
  Hasher all;
  all.add_text("headrace digest 1");
  all.add_number(source.info().step.value_or(0));
  for (const auto& [name, hash] : by_name) {
    all.add_text(name);
    all.add_text(hash);
  }
  return all.hex();
}

std::string digest(const Store& store, BlockIo& io, const std::function<void(double)>& progress) {
  return digest(*source_of(store, io), progress);
}

}  // namespace headrace::storage
