#include "engine/train/initial_content.h"

#include <oneapi/tbb/task_arena.h>

#include <vector>

#include "engine/math/kernels.h"

namespace headrace::train {

storage::BlockFiller initial_content(const Model& model, uint64_t seed, const DataSet* data) {
  return [&model, seed, data](const storage::BlockLayout& block, std::span<std::byte> payload) -> uint32_t {
    if (block.slots == 1) {
      if (data == nullptr) return 0;
      data->read_features(block.first_row, {reinterpret_cast<float*>(payload.data()), block.elements});
      return 1;
    }
    // The creation's threads fill a block each: sharing the work inside a block as well would have more
    // threads than processors wait for each other.
    thread_local oneapi::tbb::task_arena alone(1);
    thread_local std::vector<float> values;
    alone.execute([&] {
      values.resize(block.elements);
      model.initialise(block.tensor, block.first_row, seed, values);
      for (float& value : values) value += 0.0F;  // -0.0 would be a pruned weight
      math::split_planes(values.data(), std::ssize(values),
                         reinterpret_cast<uint16_t*>(payload.data() + block.planes[0].offset),
                         reinterpret_cast<uint16_t*>(payload.data() + block.planes[1].offset));
    });
    return 2;
  };
}

}  // namespace headrace::train
