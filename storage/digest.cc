#include "storage/digest.h"

#include <algorithm>
#include <map>
#include <vector>

#include "storage/aligned_memory.h"
#include "storage/error.h"
#include "storage/hasher.h"

namespace headrace::storage {
namespace {

constexpr uint64_t kBatchBytes = 32 << 20;  // read at once, unless one block is larger

// The hash of one named tensor: a stream for each plane, so that the cut into blocks does not show.
struct PartHash {
  const TensorPart* part = nullptr;
  std::vector<Hasher> planes;
};

class Digest {
 public:
  explicit Digest(const Store& store) : store_(store) {
    for (const TensorSpec& tensor : store.layout().tensors()) {
      auto& parts = hashes_.emplace_back();
      for (const TensorPart& part : tensor.parts) {
        parts.push_back({&part, std::vector<Hasher>(tensor.planes.size())});
      }
    }
  }

  // The planes of a block, as read; blocks of a tensor come in order.
  void add(const BlockLayout& block, const std::byte* data) {
    const TensorSpec& tensor = store_.layout().tensor(block.tensor);
    const uint64_t first = block.first_row * tensor.columns;
    const uint64_t last = first + block.elements;
    for (PartHash& hash : hashes_[block.tensor]) {
      const uint64_t part_first = hash.part->first_element;
      const uint64_t from = std::max(first, part_first);
      const uint64_t to = std::min(last, part_first + elements(*hash.part));
      if (from >= to) continue;
      for (size_t p = 0; p < tensor.planes.size(); ++p) {
        const uint64_t size = tensor.planes[p].element_bytes;
        hash.planes[p].add({data + block.planes[p].offset + (from - first) * size, (to - from) * size});
      }
    }
  }

  std::string finish() const {
    std::map<std::string, std::string> by_name;  // the order of the table does not count either
    for (size_t t = 0; t < hashes_.size(); ++t) {
      const TensorSpec& tensor = store_.layout().tensors()[t];
      for (const PartHash& hash : hashes_[t]) {
        Hasher all;
        all.add_number(hash.part->shape.size());
        for (const uint64_t length : hash.part->shape) all.add_number(length);
        for (size_t p = 0; p < tensor.planes.size(); ++p) {
          all.add_text(tensor.planes[p].name);
          all.add_number(tensor.planes[p].element_bytes);
          all.add_text(hash.planes[p].hex());
        }
        by_name[hash.part->name] = all.hex();
      }
    }
    Hasher run;
    run.add_text("headrace digest 1");
    run.add_number(store_.step());
    for (const auto& [name, hash] : by_name) {
      run.add_text(name);
      run.add_text(hash);
    }
    return run.hex();
  }

 private:
  static uint64_t elements(const TensorPart& part) {
    uint64_t count = 1;
    for (const uint64_t length : part.shape) count *= length;
    return count;
  }

  const Store& store_;
  std::vector<std::vector<PartHash>> hashes_;  // by tensor
};

}  // namespace

std::string digest(const Store& store, BlockIo& io, const std::function<void(double)>& progress) {
  const auto blocks = store.layout().blocks();
  uint64_t largest = 0;
  for (const BlockLayout& block : blocks) largest = std::max(largest, block.payload_bytes);
  const AlignedMemory memory(std::max(largest, std::min(kBatchBytes, store.layout().payload_bytes())));
  Digest result(store);
  for (size_t first = 0; first < blocks.size();) {
    std::vector<IoRequest> requests;
    uint64_t used = 0;
    size_t last = first;
    for (; last < blocks.size() && used + blocks[last].payload_bytes <= memory.size(); ++last) {
      const PlaneRange all{0, static_cast<uint32_t>(blocks[last].planes.size())};
      requests.push_back(store.read_request(blocks[last].id, all, memory.data() + used));
      used += blocks[last].payload_bytes;
    }
    transfer_and_wait(io, requests);
    used = 0;
    for (size_t b = first; b < last; ++b) {
      const PlaneRange all{0, static_cast<uint32_t>(blocks[b].planes.size())};
      store.verify(blocks[b].id, all, memory.data() + used, 0, blocks[b].chunks);
      result.add(blocks[b], memory.data() + used);
      used += blocks[b].payload_bytes;
    }
    first = last;
    if (progress) progress(static_cast<double>(first) / static_cast<double>(blocks.size()));
  }
  return result.finish();
}

}  // namespace headrace::storage
